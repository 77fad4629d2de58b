//! Request future on a duplex connection: the first poll sends, dropping the future cancels.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use protocol::mcp::method;

use super::connection::DuplexConnection;
use super::outbox::Outbox;
use super::pending::Reply;
use crate::upstream::UpstreamRequest;

pub struct Call<'a, O: Outbox> {
    connection: &'a DuplexConnection<O>,
    request: UpstreamRequest<'a>,
    /// True if `notifications/cancelled` is allowed, which excludes handshakes.
    cancellable: bool,
    id: Option<u64>,
}

impl<'a, O: Outbox> Call<'a, O> {
    pub fn new(connection: &'a DuplexConnection<O>, request: UpstreamRequest<'a>) -> Self {
        let cancellable = !matches!(request.method, method::INITIALIZE | method::DISCOVER);
        Self { connection, request, cancellable, id: None }
    }
}

impl<O: Outbox> Future for Call<'_, O> {
    type Output = Reply;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Reply> {
        let call = &mut *self;
        let Some(id) = call.id else {
            return match call.connection.send(&call.request, call.cancellable, cx.waker()) {
                Ok(id) => {
                    call.id = Some(id);
                    Poll::Pending
                }
                Err(failure) => Poll::Ready(Err(failure)),
            };
        };
        match call.connection.reply(id, cx.waker()) {
            Some(reply) => {
                call.id = None;
                Poll::Ready(reply)
            }
            None => Poll::Pending,
        }
    }
}

impl<O: Outbox> Drop for Call<'_, O> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.connection.give_up(id);
        }
    }
}
