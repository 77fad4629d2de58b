//! Outgoing message queue of a duplex connection.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;

use bytes::Bytes;

use super::connection::DuplexConnection;
use crate::child::Needed;
use crate::peer::message;
use crate::upstream::{Params, UpstreamAnswer};

/// The most queued messages.
const QUEUE: usize = 1024;

/// Error for a server that does not read its input.
#[derive(Debug, PartialEq, Eq)]
pub struct OutboxFull;

pub trait Outbox: Send + Sized + 'static {
    /// Queued bytes that the caller writes itself.
    type Claimed;
    /// The child process of a stdio transport.
    type Process: Send + Sync;

    /// Returns the position of the next message, in bytes ever queued.
    fn position(&self) -> u64;
    /// Returns the number of bytes written, of all ever queued.
    fn written(&self) -> u64;
    /// Returns the number of queued bytes, partly written messages included.
    fn waiting(&self) -> usize {
        (self.position() - self.written()) as usize
    }
    /// Refuses a message if the queue is full. A large message fits an empty queue.
    fn admit(&self, bytes: usize) -> Result<(), OutboxFull>;

    fn push_request(&mut self, id: u64, method: &str, params: Params<'_>);
    fn push_notification(&mut self, method: &str, params: Params<'_>);
    /// Queues an answer to a server request, with the server's `id`.
    fn push_answer(&mut self, id: &str, answer: &UpstreamAnswer);

    /// Claims all queued bytes for the caller to write, if few requests are in flight.
    fn claim(&mut self, in_flight: usize) -> Option<Self::Claimed>;
    fn write_now(connection: &DuplexConnection<Self>, claimed: Self::Claimed);
    /// Reserves the writing for the writer task, which must be woken on true.
    fn reserve(&mut self) -> bool;
    fn close(&mut self);

    /// Ends the process after the connection was closed.
    fn stop(process: &Self::Process) -> impl Future<Output = Needed> + Send;
}

/// Queue of whole messages, which a task sends one by one.
pub struct QueueOutbox {
    queue: VecDeque<Outgoing>,
    /// Bytes that were ever queued.
    queued: u64,
    /// Bytes that the task has taken.
    taken: u64,
    cap: usize,
}

/// A queued message.
pub struct Outgoing {
    /// The id of a request.
    pub id: Option<u64>,
    pub text: Bytes,
}

impl QueueOutbox {
    /// Creates a queue of at most `cap` bytes, or one larger message.
    pub fn new(cap: usize) -> Self {
        Self { queue: VecDeque::new(), queued: 0, taken: 0, cap }
    }

    fn push(&mut self, id: Option<u64>, text: Vec<u8>) {
        self.queued += text.len() as u64;
        self.queue.push_back(Outgoing { id, text: text.into() });
    }

    fn pop(&mut self) -> Option<Outgoing> {
        let next = self.queue.pop_front()?;
        self.taken += next.text.len() as u64;
        Some(next)
    }
}

impl Outbox for QueueOutbox {
    type Claimed = Infallible;
    type Process = ();

    fn position(&self) -> u64 {
        self.queued
    }

    fn written(&self) -> u64 {
        self.taken
    }

    fn admit(&self, bytes: usize) -> Result<(), OutboxFull> {
        let waiting = self.waiting();
        let full = waiting > 0 && waiting + bytes > self.cap || self.queue.len() >= QUEUE;
        if full { Err(OutboxFull) } else { Ok(()) }
    }

    fn push_request(&mut self, id: u64, method: &str, params: Params<'_>) {
        self.push(Some(id), message::request(id, method, params));
    }

    fn push_notification(&mut self, method: &str, params: Params<'_>) {
        self.push(None, message::notification(method, params));
    }

    fn push_answer(&mut self, id: &str, answer: &UpstreamAnswer) {
        self.push(None, message::answer(id, answer));
    }

    fn claim(&mut self, _in_flight: usize) -> Option<Infallible> {
        None
    }

    fn write_now(_connection: &DuplexConnection<Self>, claimed: Infallible) {
        match claimed {}
    }

    fn reserve(&mut self) -> bool {
        !self.queue.is_empty()
    }

    fn close(&mut self) {
        self.queue.clear();
    }

    async fn stop((): &()) -> Needed {
        Needed::Nothing
    }
}

impl DuplexConnection<QueueOutbox> {
    /// Returns the next message to send; `None` after the connection was closed.
    pub async fn next_outgoing(&self) -> Option<Outgoing> {
        loop {
            let next = self.shared.lock().outbox.pop();
            if next.is_some() {
                return next;
            }
            tokio::select! {
                () = self.state.closed.cancelled() => return None,
                () = self.write_wanted.notified() => {}
            }
        }
    }
}
