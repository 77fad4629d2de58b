//! Message queues of Server-Sent Events: one reader each, written without waiting. Knows no HTTP.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::authn::Owner;
use crate::ops::metrics;
use crate::session::backlog::Backlog;

/// Most messages that wait for, or are kept for, one reader.
const MAX_EVENTS: usize = 512;

/// Most notifications without a topic that wait while nobody reads.
const MAX_EVENTS_ABSENT: usize = 64;

/// Most bytes of messages kept for a reader that may come back.
const MAX_BYTES: usize = 1 << 20;

/// Time for which an ended stream is kept for a client that lost its end.
const COMES_BACK: Duration = Duration::from_secs(60);

/// Owner of kept streams: a session.
pub trait StreamKeeper: Send + Sync {
    /// Keeps a stream for a client that may lose its connection.
    fn keep(&self, stream: &Arc<Stream>);
}

/// A queue of messages, numbered from 1.
#[derive(Default)]
pub struct Stream {
    /// The session, whose client may resume the stream with `Last-Event-ID`, and the stream's number there.
    /// Without them, read messages are not kept.
    kept: OnceLock<(u32, Weak<dyn StreamKeeper>)>,
    queue: Mutex<Queue>,
    changed: Notify,
    /// Set when the answer is known to need no header of its own.
    may_begin: AtomicBool,
    /// Owner of a long-lived stream.
    owner: OnceLock<Owner>,
    readers: AtomicUsize,
    backlog: OnceLock<Arc<Backlog>>,
    /// True if the client takes an event with empty data.
    may_be_empty: AtomicBool,
}

/// Subject of a notification. Of notifications about the same topic only the newest waits or is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Topic {
    /// A list, by the method of its change notification.
    List(&'static str),
    /// A resource, by its URI.
    Resource(Box<str>),
}

#[derive(Default)]
struct Queue {
    events: VecDeque<Event>,
    bytes: usize,
    last: u64,
    /// Number of the last message that a reader took.
    read: u64,
    unread_bytes: usize,
    ended: Option<Instant>,
}

/// One message with its number.
#[derive(Clone, Debug)]
pub struct Event {
    pub number: u64,
    pub message: Bytes,
    topic: Option<Topic>,
}

/// Counts a reader of a stream until it is dropped.
pub struct Reading(Arc<Stream>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Stream {
    /// Keeps read messages from now on, under a number of the session.
    pub fn keep_as(&self, number: u32, keeper: Weak<dyn StreamKeeper>) {
        self.kept.get_or_init(|| (number, keeper));
    }

    /// Sets if the client takes events with empty data.
    pub fn allow_empty(&self, allowed: bool) {
        self.may_be_empty.store(allowed, Ordering::Relaxed);
    }

    pub fn may_be_empty(&self) -> bool {
        self.may_be_empty.load(Ordering::Relaxed)
    }

    pub fn number(&self) -> Option<u32> {
        self.kept.get().map(|(number, _)| *number)
    }

    /// Keeps the stream for a client that may come back.
    pub fn stay(self: &Arc<Self>) {
        if let Some(keeper) = self.kept.get().and_then(|(_, keeper)| keeper.upgrade()) {
            keeper.keep(self);
        }
    }

    /// Returns true if the stream ended so long ago that no client comes back.
    pub fn is_old(&self) -> bool {
        self.queue.lock().ended.is_some_and(|ended| ended.elapsed() > COMES_BACK)
    }

    /// Marks a long-lived stream, one that no response ends.
    pub fn mark_long_lived(&self, owner: Owner) {
        self.owner.get_or_init(|| owner);
    }

    pub fn owner(&self) -> Option<Owner> {
        self.owner.get().copied()
    }

    /// Counts the stream's bytes in a tenant's backlog from now on.
    pub fn charge_to(&self, backlog: &Arc<Backlog>) {
        let queue = self.queue.lock();
        if self.backlog.set(Arc::clone(backlog)).is_ok() {
            backlog.add(queue.bytes);
        }
    }

    /// Counts one more reader.
    pub fn reading(self: &Arc<Self>) -> Reading {
        self.readers.fetch_add(1, Ordering::Relaxed);
        Reading(Arc::clone(self))
    }

    pub fn has_reader(&self) -> bool {
        self.readers.load(Ordering::Relaxed) > 0
    }

    pub fn bytes(&self) -> usize {
        self.queue.lock().bytes
    }

    /// Allows the answer on this stream, although no message preceded it.
    pub fn let_begin(&self) {
        self.may_begin.store(true, Ordering::Relaxed);
    }

    pub fn may_begin(&self) -> bool {
        self.may_begin.load(Ordering::Relaxed)
    }

    /// Sends a message that may be dropped if the reader is too far behind or absent: a notification.
    pub fn try_send(&self, message: impl Into<Bytes>) {
        self.enqueue(message.into(), None);
    }

    /// Sends a notification that replaces a waiting one of its topic.
    pub fn try_send_latest(&self, topic: Topic, message: impl Into<Bytes>) {
        self.enqueue(message.into(), Some(topic));
    }

    fn enqueue(&self, message: Bytes, topic: Option<Topic>) {
        let mut queue = self.change();
        if let Some(topic) = &topic {
            queue.forget_topic(topic);
        }
        let most = if topic.is_none() && !self.has_reader() { MAX_EVENTS_ABSENT } else { MAX_EVENTS };
        let full = queue.unread() >= most || queue.unread_bytes + message.len() > MAX_BYTES;
        let room = self.backlog.get().is_none_or(|backlog| backlog.has_room(message.len()));
        if full || !room || queue.ended.is_some() {
            metrics::notification_dropped();
            return;
        }
        queue.push(message, topic, self.number().is_some());
        drop(queue);
        self.changed.notify_waiters();
    }

    /// Sends a message that is never dropped: an answer, or a server request.
    pub fn send(&self, message: impl Into<Bytes>) {
        self.change().push(message.into(), None, self.number().is_some());
        self.changed.notify_waiters();
    }

    /// Locks the queue; the change of its bytes is counted in the backlog.
    fn change(&self) -> Changing<'_> {
        let queue = self.queue.lock();
        Changing { before: queue.bytes, queue, backlog: self.backlog.get().map(|backlog| &**backlog) }
    }

    /// Returns true if too many messages wait for the reader to ask more of it.
    pub fn is_overfull(&self) -> bool {
        let queue = self.queue.lock();
        queue.unread() >= 2 * MAX_EVENTS || queue.unread_bytes > 4 * MAX_BYTES
    }

    /// Ends the stream. With a full backlog, nothing is kept for an absent reader.
    pub fn end(&self) {
        let mut queue = self.change();
        queue.ended.get_or_insert_with(Instant::now);
        if !self.has_reader() && self.backlog.get().is_some_and(|backlog| !backlog.has_room(0)) {
            queue.forget(u64::MAX);
        }
        drop(queue);
        self.changed.notify_waiters();
    }

    pub fn is_ended(&self) -> bool {
        self.queue.lock().ended.is_some()
    }

    pub fn has_unread(&self) -> bool {
        self.queue.lock().unread() > 0
    }

    /// Returns the number of the last message that was read.
    pub fn read(&self) -> u64 {
        self.queue.lock().read
    }

    /// Returns the number of the last message.
    pub fn last(&self) -> u64 {
        self.queue.lock().last
    }

    /// Waits for the first message after this number; none when the stream has ended.
    pub async fn next(&self, after: u64) -> Option<Event> {
        loop {
            // Enabled before the queue is read, so that no message in between is missed.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let mut queue = self.change();
                if let Some(event) = queue.after(after) {
                    queue.was_read(&event);
                    if self.number().is_none() {
                        queue.forget(event.number);
                    }
                    return Some(event);
                }
                if queue.ended.is_some() {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// Waits until there is a message to read, or the end.
    pub async fn readable(&self) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let queue = self.queue.lock();
                if queue.unread() > 0 || queue.ended.is_some() {
                    return;
                }
            }
            changed.await;
        }
    }
}

/// A queue under its lock.
struct Changing<'a> {
    queue: parking_lot::MutexGuard<'a, Queue>,
    before: usize,
    backlog: Option<&'a Backlog>,
}

impl std::ops::Deref for Changing<'_> {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        &self.queue
    }
}

impl std::ops::DerefMut for Changing<'_> {
    fn deref_mut(&mut self) -> &mut Queue {
        &mut self.queue
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        let (before, after) = (self.before, self.queue.bytes);
        match self.backlog {
            Some(backlog) if after > before => backlog.add(after - before),
            Some(backlog) => backlog.remove(before - after),
            None => {}
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(backlog) = self.backlog.get() {
            backlog.remove(self.queue.get_mut().bytes);
        }
    }
}

impl Queue {
    fn unread(&self) -> usize {
        self.events.len() - self.place_after(self.read)
    }

    /// Returns the index of the first event after this number.
    fn place_after(&self, number: u64) -> usize {
        self.events.partition_point(|event| event.number <= number)
    }

    fn push(&mut self, message: Bytes, topic: Option<Topic>, keeps: bool) {
        self.last += 1;
        self.bytes += message.len();
        self.unread_bytes += message.len();
        self.events.push_back(Event { number: self.last, message, topic });
        // Read messages make room first; unread ones are kept as long as their reader may come.
        while keeps && (self.events.len() > MAX_EVENTS || self.bytes > MAX_BYTES) {
            match self.events.front() {
                Some(first) if first.number <= self.read => self.drop_first(),
                Some(_) | None => break,
            }
        }
    }

    fn was_read(&mut self, event: &Event) {
        if event.number > self.read {
            let read = self.place_after(self.read)..self.place_after(event.number);
            self.unread_bytes -= self.events.range(read).map(|event| event.message.len()).sum::<usize>();
            self.read = event.number;
        }
    }

    fn after(&self, number: u64) -> Option<Event> {
        self.events.get(self.place_after(number)).cloned()
    }

    fn forget(&mut self, until: u64) {
        while self.events.front().is_some_and(|event| event.number <= until) {
            self.drop_first();
        }
    }

    /// Drops the message about this topic, read or not.
    fn forget_topic(&mut self, topic: &Topic) {
        let place = self.events.iter().position(|event| event.topic.as_ref() == Some(topic));
        if let Some(event) = place.and_then(|place| self.events.remove(place)) {
            self.bytes -= event.message.len();
            if event.number > self.read {
                self.unread_bytes -= event.message.len();
            }
        }
    }

    fn drop_first(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.bytes -= event.message.len();
            if event.number > self.read {
                self.unread_bytes -= event.message.len();
            }
        }
    }
}

/// Writes a JSON-RPC notification.
pub fn notification(method: &str, params: Option<&str>) -> Vec<u8> {
    let method = serde_json::to_string(method).expect("a string is JSON");
    match params {
        Some(params) => format!(r#"{{"jsonrpc":"2.0","method":{method},"params":{params}}}"#),
        None => format!(r#"{{"jsonrpc":"2.0","method":{method}}}"#),
    }
    .into_bytes()
}

/// Writes a JSON-RPC request.
pub fn request(id: &str, method: &str, params: Option<&str>) -> Vec<u8> {
    let method = serde_json::to_string(method).expect("a string is JSON");
    let params = params.map(|params| format!(r#","params":{params}"#)).unwrap_or_default();
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method}{params}}}"#).into_bytes()
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
