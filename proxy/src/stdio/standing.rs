//! A request that stays open: `subscriptions/listen`. Its answer means that it is over; dropped, it is
//! cancelled.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::pending::Reply;
use super::wire::Wire;
use crate::upstream::{Failure, Params, UpstreamRequest};

/// Longer than any gateway runs.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// What the child says about a listen besides its answer.
#[derive(Debug)]
pub enum Heard {
    Acknowledged { id: u64, params: Box<str> },
    Ended { id: u64 },
}

pub struct Standing {
    wire: Arc<Wire>,
    id: u64,
}

impl Standing {
    /// Sends it at once.
    pub fn open(wire: &Arc<Wire>, method: &str, params: &str) -> Result<Standing, Failure> {
        Self::send(wire, method, params, Instant::now() + FOR_EVER)
    }

    /// The same for a request whose answer nobody may wait for.
    pub fn send(
        wire: &Arc<Wire>,
        method: &str,
        params: &str,
        deadline: Instant,
    ) -> Result<Standing, Failure> {
        let request = UpstreamRequest::new(method, Params::raw(params.as_bytes()), deadline);
        let id = wire.send(&request, true, Waker::noop())?;
        wire.count_standing(id, true);
        Ok(Standing { wire: wire.clone(), id })
    }

    pub fn id(&self) -> u64 {
        self.id
    }
}

impl Future for Standing {
    type Output = Reply;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Reply> {
        self.wire.reply(self.id, cx.waker()).map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.wire.count_standing(self.id, false);
        // Does nothing if it was answered.
        self.wire.give_up(self.id);
    }
}
