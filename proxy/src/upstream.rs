//! Upstream trait: sends messages to a child process, a built-in provider or a remote server, without
//! knowledge of their content.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use protocol::mcp::Era;
use protocol::{Caller, Code, Refusal};
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use crate::child::Needed;

/// Destination of requests. A dead upstream stays dead: the pool makes a new one.
#[async_trait]
pub trait Upstream: Send + Sync {
    /// Sends one request and waits for the answer, at most until the deadline. Dropping the future cancels
    /// the request at the upstream.
    async fn request(&self, request: UpstreamRequest<'_>) -> Result<UpstreamAnswer, Failure>;

    /// Sends a notification if the queue has room. `params` is a raw JSON object, or empty.
    fn notify(&self, method: &str, params: &[u8]);

    /// Subscribes to changes of a resource, by `resources/subscribe` or the list of a `subscriptions/listen`.
    /// Changes arrive as events of the pool.
    async fn subscribe(&self, uri: &str, deadline: Instant) -> Result<UpstreamAnswer, Failure>;

    /// Ends a subscription without waiting for an answer.
    fn unsubscribe(&self, uri: &str);

    fn is_alive(&self) -> bool;

    /// Waits for the upstream's death and returns the reason. A built-in provider never dies.
    async fn closed(&self) -> Refusal;

    /// Stops the upstream in order and refuses requests in flight. Returns the measures needed; `Nothing`
    /// without a process.
    async fn stop(&self) -> Needed;
}

/// One request to an upstream.
#[derive(Clone, Copy)]
pub struct UpstreamRequest<'a> {
    pub method: &'a str,
    pub params: Params<'a>,
    pub deadline: Instant,
    /// Receiver of the upstream's messages until the answer; `None` to ignore them.
    pub listener: Option<&'a Arc<dyn Listener>>,
    /// The progress token in `params`, if the listener wants progress. Unique per process.
    pub progress: Option<u64>,
    /// Names and plain values of the headers that mirror parameters of a tool (`Mcp-Param-*`). Only modern
    /// upstreams over HTTP send these headers, encoded where necessary.
    pub headers: &'a [(String, String)],
    /// The sender, for a built-in server; `None` for the gateway's own requests.
    pub caller: Option<&'a Caller>,
    /// Further attempts of a request that only reads; `None` for those of the server's row.
    pub retries: Option<u8>,
    /// False for upkeep, which does not keep an idle upstream running.
    pub is_use: bool,
}

impl<'a> UpstreamRequest<'a> {
    /// Returns a request without a listener.
    pub fn new(method: &'a str, params: Params<'a>, deadline: Instant) -> Self {
        Self {
            method,
            params,
            deadline,
            listener: None,
            progress: None,
            headers: &[],
            caller: None,
            retries: None,
            is_use: true,
        }
    }
}

/// Receiver of an upstream's messages besides answers. Neither method waits: a slow client must not hold up
/// the upstream's reader.
pub trait Listener: Send + Sync {
    /// Takes a notification, unchanged. `params` is a raw JSON object.
    fn on_notification(&self, method: &str, params: Option<&str>);

    /// Takes a request of the upstream: `sampling/createMessage`, `elicitation/create`, `roots/list` or an
    /// unknown method, but not `ping`.
    fn on_request(&self, request: ServerRequest);
}

/// A request of an upstream to the client. Dropping the request answers it with an error.
pub struct ServerRequest {
    pub method: String,
    /// The raw JSON object.
    pub params: Option<Bytes>,
    answer: Option<oneshot::Sender<UpstreamAnswer>>,
    /// A guard that is dropped with the answer.
    held: Option<Box<dyn std::any::Any + Send>>,
}

impl ServerRequest {
    /// Returns the request and the receiver of its answer. Dropping the receiver withdraws the request.
    pub fn new(method: String, params: Option<Bytes>) -> (ServerRequest, oneshot::Receiver<UpstreamAnswer>) {
        let (answer, answered) = oneshot::channel();
        (ServerRequest { method, params, answer: Some(answer), held: None }, answered)
    }

    /// Keeps a guard until the request is answered.
    pub fn holding(mut self, held: impl Send + 'static) -> Self {
        self.held = Some(Box::new((self.held.take(), held)));
        self
    }

    pub fn answer(mut self, answer: UpstreamAnswer) {
        if let Some(waiting) = self.answer.take() {
            // The receiver may be gone.
            drop(waiting.send(answer));
        }
    }

    pub fn refuse(self, code: Code, message: &str) {
        self.answer(UpstreamAnswer::error(code.rpc(), message));
    }

    pub fn is_withdrawn(&self) -> bool {
        self.answer.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// Waits for the withdrawal of the request.
    pub async fn withdrawn(&mut self) {
        match &mut self.answer {
            Some(answer) => answer.closed().await,
            None => std::future::pending().await,
        }
    }
}

impl Drop for ServerRequest {
    fn drop(&mut self) {
        if let Some(waiting) = self.answer.take() {
            let message = "the client went away without an answer";
            drop(waiting.send(UpstreamAnswer::error(Code::Internal.rpc(), message)));
        }
    }
}

/// The client that an upstream serves, or several with the same capabilities. Without a profile the gateway
/// is the client and declares nothing.
pub struct ClientProfile {
    /// The raw JSON object of `capabilities`.
    pub capabilities: Box<RawValue>,
    /// The raw JSON object of `clientInfo`.
    pub info: Option<Box<RawValue>>,
    /// Receiver of messages that belong to no request; `None` if no client can be reached.
    pub listener: Option<Arc<dyn Listener>>,
}

/// The raw JSON object of a request's `params`, in up to three slices, so that a tool can be renamed without
/// a copy of its arguments.
#[derive(Clone, Copy, Default, Debug)]
pub struct Params<'a>([&'a [u8]; 3]);

impl<'a> Params<'a> {
    /// Returns no `params` member.
    pub fn none() -> Self {
        Self::default()
    }

    pub fn raw(json: &'a [u8]) -> Self {
        Self([json, b"", b""])
    }

    /// Returns the object that `head`, `name` and `tail` form one after the other.
    pub fn spliced(head: &'a [u8], name: &'a [u8], tail: &'a [u8]) -> Self {
        Self([head, name, tail])
    }

    pub fn slices(&self) -> [&'a [u8]; 3] {
        self.0
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> usize {
        self.0.iter().map(|slice| slice.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the object as one slice, copied only if it consists of several.
    pub fn contiguous(&self) -> std::borrow::Cow<'a, [u8]> {
        match self.0 {
            [json, b"", b""] => json.into(),
            slices => slices.concat().into(),
        }
    }
}

/// Answer of an upstream, byte for byte.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UpstreamAnswer {
    /// The raw JSON of `result`.
    Result(Bytes),
    /// The raw JSON of the `error` object.
    Error(Bytes),
}

impl UpstreamAnswer {
    /// Returns an error of the gateway itself, in an upstream's place.
    pub fn error(code: i32, message: &str) -> UpstreamAnswer {
        let error = serde_json::json!({ "code": code, "message": message });
        UpstreamAnswer::Error(error.to_string().into())
    }
}

/// A request without an answer.
#[derive(Debug)]
pub struct Failure {
    pub refusal: Refusal,
    /// True if a byte of the request may have reached the upstream; if false, a retry is harmless.
    pub sent: bool,
}

/// Result of the handshake with an upstream.
#[derive(Clone, Debug)]
pub struct Initialized {
    pub era: Era,
    /// The raw result of `initialize`, or of `server/discover`.
    pub result: Bytes,
    /// The negotiated protocol revision.
    pub protocol_version: String,
    /// Number that grows with each start of this upstream.
    pub generation: u64,
}
