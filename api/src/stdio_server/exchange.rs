//! A request, or a batch of them, until each has its answer: what is said and asked meanwhile goes out as
//! it comes, and what gets no answer gets a reason. It knows no era.

use bytes::Bytes;
use protocol::Refusal;
use protocol::jsonrpc::{self, Body, Incoming};
use protocol::mcp::method;
use serde_json::value::RawValue;

use crate::stdio_server::Door;
use crate::stdio_server::gate::{Answered, Events, Reply};
use crate::stdio_server::message::Message;
use crate::stdio_server::output::Said;
use crate::stdio_server::tickets::Ticket;

/// The waiting request.
pub struct Waiting {
    ids: Vec<Box<str>>,
    is_list: bool,
    ticket: Ticket,
    /// The time of the last message before the answer.
    said: Option<Said>,
}

/// The end of a reply.
pub enum Left {
    /// Everybody has an answer.
    Nobody,
    /// The stream ended too early; it may go on behind this event.
    Some { last_event_id: Option<String>, refusal: Refusal },
}

impl Waiting {
    pub fn new(message: &Message, ticket: Ticket) -> Waiting {
        let ids = message.ids().into_iter().map(Into::into).collect();
        Waiting { ids, is_list: message.method() == method::TOOLS_LIST, ticket, said: None }
    }

    pub fn gone(&self) -> tokio_util::sync::CancellationToken {
        self.ticket.gone()
    }

    /// Passes on a reply.
    pub async fn follow(&mut self, door: &Door, answered: Answered) -> Left {
        let left = |refusal| Left::Some { last_event_id: None, refusal };
        match answered.reply {
            Reply::Nothing => left(door.gate.no_answer()),
            Reply::Refused(refusal) => left(refusal),
            Reply::Json(text) => {
                self.take(door, &text).await;
                if self.ids.is_empty() { Left::Nobody } else { left(door.gate.no_answer()) }
            }
            Reply::Events(events) => self.read(door, events).await,
        }
    }

    /// Passes on a stream until everybody has an answer.
    pub async fn read(&mut self, door: &Door, mut events: Box<Events>) -> Left {
        loop {
            let refusal = match events.next().await {
                Ok(Some(text)) => {
                    self.take(door, &text).await;
                    if self.ids.is_empty() {
                        // What follows is the end, and the connection can be used again.
                        let end = std::time::Duration::from_millis(200);
                        drop(tokio::time::timeout(end, events.next()).await);
                        return Left::Nobody;
                    }
                    continue;
                }
                Ok(None) => door.gate.broken(),
                Err(error) => door.gate.unreached(&error),
            };
            return Left::Some { last_event_id: events.last_event_id().map(str::to_owned), refusal };
        }
    }

    /// Passes on one text, and notes who has an answer by it.
    pub async fn take(&mut self, door: &Door, text: &[u8]) {
        match jsonrpc::parse(text, usize::MAX) {
            Ok(Body::Single(Incoming::Message(_))) => self.said = Some(door.out.say(text).await),
            Ok(Body::Single(Incoming::Response(response))) => {
                self.ids.retain(|id| **id != *response.id.get());
                if self.is_list
                    && let Ok(result) = response.outcome
                {
                    door.mirrored.learn(result);
                }
                if let Some(said) = self.said.take() {
                    said.apart().await;
                }
                if !self.ticket.is_withdrawn() {
                    door.out.say(text).await;
                }
            }
            Ok(Body::Batch(elements)) => {
                for element in &elements {
                    if let Ok(Incoming::Response(response)) = jsonrpc::parse_message(element) {
                        self.ids.retain(|id| **id != *response.id.get());
                    }
                }
                door.out.say(text).await;
            }
            Err(_) => match unnamed_error(text) {
                // An error under no id is for everybody who asked.
                Some(error) => self.error(door, error.get().as_bytes()).await,
                None => tracing::warn!("the gateway said what is no JSON-RPC"),
            },
        }
    }

    /// Answers everybody who still waits with an error.
    async fn error(&mut self, door: &Door, error: &[u8]) {
        for id in std::mem::take(&mut self.ids) {
            if !self.ticket.is_withdrawn() {
                door.out.error(&id, error).await;
            }
        }
    }

    /// Answers everybody who still waits with the reason.
    pub async fn refuse(&mut self, door: &Door, refusal: &Refusal) {
        for id in std::mem::take(&mut self.ids) {
            if !self.ticket.is_withdrawn() {
                door.out.refuse(Some(&id), refusal).await;
            }
        }
    }
}

/// The error of a message whose id is null or missing.
pub fn unnamed_error(text: &[u8]) -> Option<Box<RawValue>> {
    #[derive(serde::Deserialize)]
    struct Unnamed<'a> {
        #[serde(borrow)]
        error: &'a RawValue,
    }
    let unnamed: Unnamed<'_> = serde_json::from_slice(text).ok()?;
    Some(unnamed.error.to_owned())
}

/// The code of the one error that a text is.
pub fn error_code(text: &Bytes) -> Option<i64> {
    #[derive(serde::Deserialize)]
    struct Shape {
        code: i64,
    }
    let error = unnamed_error(text)?;
    serde_json::from_str::<Shape>(error.get()).ok().map(|shape| shape.code)
}
