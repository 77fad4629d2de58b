//! Exchange of a request, or of a batch of them, for the answers: messages of the reply go out as they come,
//! and a request that gets no answer is refused with the reason. Both eras use it.

use protocol::jsonrpc::{self, Body, Incoming, Response};
use protocol::mcp::{header, method};
use protocol::{Refusal, RequestId};
use proxy::egress::header::HeaderValue;
use proxy::http::{Events, Reply, StreamPosition};
use proxy::message;

use crate::stdio_server::gateway_client::Sent;
use crate::stdio_server::in_flight::Registration;
use crate::stdio_server::message::Message;
use crate::stdio_server::output::Written;
use crate::stdio_server::server::StdioServer;

pub struct Exchange<'a> {
    server: &'a StdioServer,
    method: &'a str,
    /// The ids that wait for an answer.
    ids: Vec<Box<str>>,
    registration: Registration,
    /// The session that the reply begins.
    session: Option<HeaderValue>,
    /// The last message before the answer.
    written: Option<Written>,
    /// The end of the stream that broke.
    pub position: StreamPosition,
}

impl<'a> Exchange<'a> {
    pub fn new(server: &'a StdioServer, message: &'a Message, registration: Registration) -> Exchange<'a> {
        let (method, ids) = (&*message.method, message.ids.clone());
        let position = StreamPosition::default();
        Exchange { server, method, ids, registration, session: None, written: None, position }
    }

    /// Passes on a reply.
    ///
    /// # Errors
    /// The refusal for the requests without an answer.
    pub async fn follow(&mut self, sent: Sent) -> Result<(), Refusal> {
        let (reply, headers) = sent.map_err(|trouble| self.server.client.refusal(trouble))?;
        self.session = headers.get(header::SESSION).cloned();
        match reply {
            Reply::Json(text) => self.take(&text).await,
            Reply::Events(events) => return self.read(events).await,
            Reply::Explained { error, .. } => self.fail(&error).await,
            Reply::Nothing => {}
        }
        if self.ids.is_empty() { Ok(()) } else { Err(self.server.client.unanswered()) }
    }

    /// Passes on a stream until no request waits any more.
    ///
    /// # Errors
    /// The refusal for the requests without an answer; the stream may go on behind the position.
    pub async fn read(&mut self, mut events: Box<Events>) -> Result<(), Refusal> {
        let refusal = loop {
            match events.next_message().await {
                Ok(Some(text)) => {
                    self.take(&text).await;
                    if self.ids.is_empty() {
                        events.finish().await;
                        return Ok(());
                    }
                }
                Ok(None) => break self.server.client.unanswered(),
                Err(error) => break self.server.client.unreached(&error),
            }
        };
        self.position.advance(&events);
        Err(refusal)
    }

    /// Refuses the requests without an answer.
    pub async fn end(&mut self, outcome: Result<(), Refusal>) {
        if let Err(refusal) = outcome {
            tracing::warn!(%refusal, "a message was refused");
            self.fail(&jsonrpc::error_object(&refusal, &RequestId::new())).await;
        }
    }

    async fn take(&mut self, text: &[u8]) {
        let out = &self.server.out;
        match jsonrpc::parse(text, usize::MAX) {
            Ok(Body::Single(Incoming::Message(_))) => self.written = Some(out.write(text).await),
            Ok(Body::Single(Incoming::Response(response))) => {
                self.complete(&response);
                if let Some(written) = self.written.take() {
                    written.apart().await;
                }
                if !self.registration.is_withdrawn(response.id.get()) {
                    out.write(text).await;
                }
            }
            Ok(Body::Batch(elements)) => {
                for element in elements {
                    if let Ok(Incoming::Response(response)) = jsonrpc::parse_message(element) {
                        self.complete(&response);
                    }
                }
                out.write(text).await;
            }
            Err(_) => match message::error_of(text) {
                // An error under no id is for all requests of the message.
                Some((_, error)) => self.fail(error.as_bytes()).await,
                None => tracing::warn!(text = message::excerpt(text), "the gateway's message is no JSON-RPC"),
            },
        }
    }

    /// Notes a response, and what the stdio server itself learns from its result.
    fn complete(&mut self, response: &Response<'_>) {
        self.ids.retain(|id| **id != *response.id.get());
        let Ok(result) = response.outcome else { return };
        match (self.method, self.session.take()) {
            (method::TOOLS_LIST, _) if self.registration.is_modern() => {
                drop(self.server.param_headers.learn(result))
            }
            (method::INITIALIZE, Some(session)) => self.server.session.begin(session, result),
            _ => {}
        }
    }

    /// Answers the requests that still wait with an error.
    async fn fail(&mut self, error: &[u8]) {
        if self.ids.is_empty() {
            let error = message::excerpt(error);
            tracing::warn!(method = self.method, error, "a message was not taken");
        }
        for id in std::mem::take(&mut self.ids) {
            if !self.registration.is_withdrawn(&id) {
                self.server.out.error(&id, error).await;
            }
        }
    }
}
