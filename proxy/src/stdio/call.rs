//! One request on the wire, as a future: its first poll sends, dropping it gives up.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::pending::Reply;
use super::wire::Wire;
use crate::upstream::UpstreamRequest;

pub struct Call<'a> {
    wire: &'a Wire,
    request: UpstreamRequest<'a>,
    /// Whether the child may be told when nobody waits any more; not so for the handshake.
    cancellable: bool,
    id: Option<u64>,
}

impl<'a> Call<'a> {
    pub fn new(wire: &'a Wire, request: UpstreamRequest<'a>, cancellable: bool) -> Self {
        Self { wire, request, cancellable, id: None }
    }
}

impl Future for Call<'_> {
    type Output = Reply;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Reply> {
        let call = &mut *self;
        let Some(id) = call.id else {
            return match call.wire.send(&call.request, call.cancellable, cx.waker()) {
                Ok(id) => {
                    call.id = Some(id);
                    Poll::Pending
                }
                Err(failure) => Poll::Ready(Err(failure)),
            };
        };
        match call.wire.reply(id, cx.waker()) {
            Some(reply) => {
                call.id = None;
                Poll::Ready(reply)
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.wire.give_up(id);
        }
    }
}
