//! Dispatch of incoming messages on a duplex connection: answers to their callers, all others to the router.

use std::sync::Arc;

use bytes::Bytes;
use protocol::Refusal;

use super::connection::DuplexConnection;
use super::outbox::Outbox;
use super::pending::Reply;
use crate::peer::message::{self, Meant, Message, excerpt};
use crate::peer::router::Stream;
use crate::upstream::{Failure, UpstreamAnswer};

pub struct Incoming<O: Outbox> {
    pub connection: Arc<DuplexConnection<O>>,
    /// Answers that are not delivered yet.
    pub replies: Vec<(u64, Reply)>,
    unclaimed: Vec<u64>,
    /// True if answers were delivered before the end of the last read.
    answered: bool,
    /// The only request in flight at an answer without an id, and its refusal after a short wait.
    unnamed: Option<(u64, Refusal)>,
}

impl<O: Outbox> Incoming<O> {
    pub fn new(connection: Arc<DuplexConnection<O>>) -> Self {
        Self { connection, replies: Vec::new(), unclaimed: Vec::new(), answered: false, unnamed: None }
    }

    /// Takes the messages in a text.
    pub fn take(&mut self, text: &Bytes) {
        for message in message::read(text) {
            self.take_message(message, text, &|part| text.slice_ref(part.as_bytes()));
        }
        self.deliver();
    }

    /// Takes a message of a text. `owned` returns the bytes of a part of the text.
    pub fn take_message(&mut self, message: Message<'_>, text: &[u8], owned: &dyn Fn(&str) -> Bytes) {
        match message {
            Message::Result { id, result } => {
                self.replies.push((id, Ok(UpstreamAnswer::Result(owned(result)))));
            }
            Message::Error { id, error } => {
                if message::is_repaired(error.as_bytes()) {
                    self.violation(|| format!("an invalid `error`: {}", excerpt(text)));
                }
                self.replies.push((id, Ok(UpstreamAnswer::Error(error.into_owned().into()))));
            }
            Message::Request { id, method, params } => {
                self.deliver_first();
                self.connection.router.request(&self.connection, Stream::Shared, id, &method, params);
            }
            Message::Notification { method, params } => {
                self.deliver_first();
                self.connection.router.notification(&*self.connection, Stream::Shared, &method, params);
            }
            Message::Unreadable { meant, fault, original } => self.take_unreadable(meant, &fault, &original),
            Message::Noise if text.is_empty() => {}
            Message::Noise => self.violation(|| format!("this is not JSON-RPC: {}", excerpt(text))),
        }
    }

    /// Fails the requests that an unreadable answer is for. Without an id, that is the only request in
    /// flight, unless its own answer comes soon.
    fn take_unreadable(&mut self, meant: Meant, fault: &str, original: &str) {
        self.violation(|| format!("{fault}: {}", excerpt(original.as_bytes())));
        let server = self.connection.plan.server.clone();
        let refusal = |shown: bool| message::unreadable(&server, fault, shown.then_some(original));
        match meant {
            Meant::Ids(ids) => {
                // The original of several answers may belong to another caller.
                let refusal = refusal(ids.len() == 1);
                let failure = || Failure { refusal: refusal.clone(), sent: true };
                self.replies.extend(ids.into_iter().map(|id| (id, Err(failure()))));
            }
            Meant::Unnamed { about_notification: true } => {}
            Meant::Unnamed { about_notification: false } => {
                self.deliver_first();
                let earlier = self.unnamed.as_ref().is_some_and(|(id, _)| self.connection.is_waiting(*id));
                if let Some(only) = self.connection.only_waiting().filter(|_| !earlier) {
                    let refusal = refusal(only.since_ever);
                    self.unnamed = Some((only.id, refusal.clone()));
                    let connection = self.connection.clone();
                    self.connection.plan.tasks.spawn(async move {
                        tokio::time::sleep(message::GRACE).await;
                        connection.complete(only.id, Err(Failure { refusal, sent: true }));
                    });
                }
            }
        }
    }

    /// Fails the request that an answer without an id was for.
    pub fn end(&mut self) {
        self.deliver();
        if let Some((id, refusal)) = self.unnamed.take() {
            self.connection.complete(id, Err(Failure { refusal, sent: true }));
        }
    }

    /// Delivers the answers read so far, so that the next message goes to requests still in flight.
    fn deliver_first(&mut self) {
        if !self.replies.is_empty() {
            self.deliver();
            self.answered = true;
        }
    }

    /// Delivers all answers read; returns true if answers came since the last call.
    pub fn deliver(&mut self) -> bool {
        let answered = std::mem::take(&mut self.answered) || !self.replies.is_empty();
        self.connection.deliver(&mut self.replies, &mut self.unclaimed);
        for id in self.unclaimed.drain(..) {
            self.connection
                .router
                .violations
                .note(|| format!("an answer under id {id}, for which nobody waits (late or repeated)"));
        }
        answered
    }

    pub fn violation(&self, text: impl FnOnce() -> String) {
        self.connection.router.violations.note(text);
    }
}
