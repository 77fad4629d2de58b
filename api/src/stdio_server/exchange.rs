//! A request, or a batch of them, until each has its answer: what is said and asked meanwhile goes out as
//! it comes, and what gets no answer gets a reason. It knows no era.

use protocol::Refusal;
use protocol::jsonrpc::{self, Body, Incoming};
use protocol::mcp::method;

use crate::stdio_server::gateway_client::{Answered, Events, Reply};
use crate::stdio_server::in_flight::InFlight;
use crate::stdio_server::message::{Message, unnamed_error};
use crate::stdio_server::output::Said;
use crate::stdio_server::server::StdioServer;

/// The waiting request.
pub struct Waiting {
    ids: Vec<Box<str>>,
    is_list: bool,
    in_flight: InFlight,
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
    pub fn new(message: &Message, in_flight: InFlight) -> Waiting {
        let ids = message.ids().into_iter().map(Into::into).collect();
        Waiting { ids, is_list: message.method() == method::TOOLS_LIST, in_flight, said: None }
    }

    pub fn gone(&self) -> tokio_util::sync::CancellationToken {
        self.in_flight.gone()
    }

    /// Passes on a reply.
    pub async fn follow(&mut self, server: &StdioServer, answered: Answered) -> Left {
        let left = |refusal| Left::Some { last_event_id: None, refusal };
        match answered.reply {
            Reply::Nothing => left(server.client.no_answer()),
            Reply::Refused(refusal) => left(refusal),
            Reply::Json(text) => {
                self.take(server, &text).await;
                if self.ids.is_empty() { Left::Nobody } else { left(server.client.no_answer()) }
            }
            Reply::Events(events) => self.read(server, events).await,
        }
    }

    /// Passes on a stream until everybody has an answer.
    pub async fn read(&mut self, server: &StdioServer, mut events: Box<Events>) -> Left {
        loop {
            let refusal = match events.next().await {
                Ok(Some(text)) => {
                    self.take(server, &text).await;
                    if self.ids.is_empty() {
                        // What follows is the end, and the connection can be used again.
                        let end = std::time::Duration::from_millis(200);
                        drop(tokio::time::timeout(end, events.next()).await);
                        return Left::Nobody;
                    }
                    continue;
                }
                Ok(None) => server.client.broken(),
                Err(error) => server.client.unreached(&error),
            };
            return Left::Some { last_event_id: events.last_event_id().map(str::to_owned), refusal };
        }
    }

    /// Passes on one text, and notes who has an answer by it.
    pub async fn take(&mut self, server: &StdioServer, text: &[u8]) {
        match jsonrpc::parse(text, usize::MAX) {
            Ok(Body::Single(Incoming::Message(_))) => self.said = Some(server.out.say(text).await),
            Ok(Body::Single(Incoming::Response(response))) => {
                self.ids.retain(|id| **id != *response.id.get());
                if self.is_list
                    && let Ok(result) = response.outcome
                {
                    server.param_headers.learn(result);
                }
                if let Some(said) = self.said.take() {
                    said.apart().await;
                }
                if !self.in_flight.is_withdrawn() {
                    server.out.say(text).await;
                }
            }
            Ok(Body::Batch(elements)) => {
                for element in &elements {
                    if let Ok(Incoming::Response(response)) = jsonrpc::parse_message(element) {
                        self.ids.retain(|id| **id != *response.id.get());
                    }
                }
                server.out.say(text).await;
            }
            Err(_) => match unnamed_error(text) {
                // An error under no id is for everybody who asked.
                Some(error) => self.error(server, error.get().as_bytes()).await,
                None => tracing::warn!("the gateway said what is no JSON-RPC"),
            },
        }
    }

    /// Answers everybody who still waits with an error.
    async fn error(&mut self, server: &StdioServer, error: &[u8]) {
        for id in std::mem::take(&mut self.ids) {
            if !self.in_flight.is_withdrawn() {
                server.out.error(&id, error).await;
            }
        }
    }

    /// Answers everybody who still waits with the reason.
    pub async fn refuse(&mut self, server: &StdioServer, refusal: &Refusal) {
        for id in std::mem::take(&mut self.ids) {
            if !self.in_flight.is_withdrawn() {
                server.out.refuse(Some(&id), refusal).await;
            }
        }
    }
}
