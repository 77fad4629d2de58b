//! Long-lived request, `subscriptions/listen`: the answer means its end, and dropping it cancels it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::connection::DuplexConnection;
use super::outbox::Outbox;
use super::pending::Reply;
use crate::upstream::{Failure, Params, UpstreamRequest};

/// Longer than any gateway runs.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 86_400);

pub struct Standing<O: Outbox> {
    connection: Arc<DuplexConnection<O>>,
    id: u64,
}

impl<O: Outbox> Standing<O> {
    /// Sends the request.
    pub fn open(
        connection: &Arc<DuplexConnection<O>>,
        method: &str,
        params: &str,
    ) -> Result<Standing<O>, Failure> {
        let deadline = Instant::now() + FOR_EVER;
        let request = UpstreamRequest::new(method, Params::raw(params.as_bytes()), deadline);
        let id = connection.send(&request, true, Waker::noop())?;
        connection.count_standing(id, true);
        Ok(Standing { connection: connection.clone(), id })
    }

    pub fn id(&self) -> u64 {
        self.id
    }
}

impl<O: Outbox> Future for Standing<O> {
    type Output = Reply;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Reply> {
        self.connection.reply(self.id, cx.waker()).map_or(Poll::Pending, Poll::Ready)
    }
}

impl<O: Outbox> Drop for Standing<O> {
    fn drop(&mut self) {
        self.connection.count_standing(self.id, false);
        // Without effect on an answered request.
        self.connection.give_up(self.id);
    }
}
