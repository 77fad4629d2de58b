//! Upstream: a live MCP server. Its kind (a child process, a provider in this
//! process, a remote server) is behind the trait; what the messages mean is not known here.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use protocol::mcp::Era;
use protocol::{Caller, Code, Refusal};
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use crate::child::Needed;

/// Where requests go. One that has died stays dead: the pool makes a new one.
#[async_trait]
pub trait Upstream: Send + Sync {
    /// Sends one request and waits for its answer, at most until its deadline. Dropping the future
    /// gives the request up and tells the upstream so.
    async fn request(&self, request: UpstreamRequest<'_>) -> Result<UpstreamAnswer, Failure>;

    /// Sends a notification when there is room for it. `params` is a raw JSON object, or empty.
    fn notify(&self, method: &str, params: &[u8]);

    /// Asks to be told when a resource changes: `resources/subscribe`, or the list of a
    /// `subscriptions/listen`. What it tells comes as an event of the pool.
    async fn subscribe(&self, uri: &str, deadline: Instant) -> Result<UpstreamAnswer, Failure>;

    /// Takes a [`Upstream::subscribe`] back. Nobody waits for it.
    fn unsubscribe(&self, uri: &str);

    fn is_alive(&self) -> bool;

    /// Waits until it is dead, and says why. What lives in this process never is.
    async fn closed(&self) -> Refusal;

    /// Ends it in an orderly way. Requests in flight are refused. Says what it took; nothing for what is
    /// no process.
    async fn stop(&self) -> Needed;
}

/// One request to an upstream.
#[derive(Clone, Copy)]
pub struct UpstreamRequest<'a> {
    pub method: &'a str,
    pub params: Params<'a>,
    pub deadline: Instant,
    /// Takes what the upstream sends until it answers; none where nobody would listen.
    pub listener: Option<&'a Arc<dyn Listener>>,
    /// The progress token in `params`, when the listener wants to hear of progress. Unique per process.
    pub progress: Option<u64>,
    /// Names and plain values of the headers that mirror parameters of a tool (`Mcp-Param-*`). Only an
    /// upstream of the modern era behind HTTP sends them, encoded where they have to be.
    pub headers: &'a [(String, String)],
    /// The sender, for a built-in server; none for the gateway's own requests.
    pub caller: Option<&'a Caller>,
}

impl<'a> UpstreamRequest<'a> {
    /// A request while which nobody listens.
    pub fn new(method: &'a str, params: Params<'a>, deadline: Instant) -> Self {
        Self { method, params, deadline, listener: None, progress: None, headers: &[], caller: None }
    }
}

/// Receiver of what an upstream sends besides its answers. Neither method waits: a client that cannot keep
/// up must not hold up the upstream's reader.
pub trait Listener: Send + Sync {
    /// Takes a notification as the upstream wrote it. `params` is a raw JSON object.
    fn on_notification(&self, method: &str, params: Option<&str>);

    /// Takes a request of the upstream: `sampling/createMessage`, `elicitation/create`, `roots/list`, `ping`
    /// excepted, or one that is not known here.
    fn on_request(&self, request: ServerRequest);
}

/// A request of an upstream to the client, to be answered once. Dropped, it is answered with an error.
pub struct ServerRequest {
    pub method: String,
    /// The raw JSON object.
    pub params: Option<Bytes>,
    answer: Option<oneshot::Sender<UpstreamAnswer>>,
    /// Dropped when it is answered.
    held: Option<Box<dyn std::any::Any + Send>>,
}

impl ServerRequest {
    /// Returns the request and the receiver of its answer. Dropping the receiver withdraws the request.
    pub fn new(method: String, params: Option<Bytes>) -> (ServerRequest, oneshot::Receiver<UpstreamAnswer>) {
        let (answer, answered) = oneshot::channel();
        (ServerRequest { method, params, answer: Some(answer), held: None }, answered)
    }

    /// Keeps something until it is answered.
    pub fn holding(mut self, held: impl Send + 'static) -> Self {
        self.held = Some(Box::new((self.held.take(), held)));
        self
    }

    pub fn answer(mut self, answer: UpstreamAnswer) {
        if let Some(waiting) = self.answer.take() {
            // Whoever asked may have gone meanwhile.
            drop(waiting.send(answer));
        }
    }

    pub fn refuse(self, code: Code, message: &str) {
        let error = serde_json::json!({ "code": code.rpc(), "message": message });
        self.answer(UpstreamAnswer::Error(error.to_string().into()));
    }

    pub fn is_withdrawn(&self) -> bool {
        self.answer.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// Waits until nobody wants the answer any more.
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
            let error = serde_json::json!({ "code": Code::Internal.rpc(), "message": message });
            drop(waiting.send(UpstreamAnswer::Error(error.to_string().into())));
        }
    }
}

/// The client that an upstream is for, where it serves one client (or several that declare the same).
/// Without one the gateway speaks for itself and declares nothing.
pub struct ClientProfile {
    /// The raw JSON object of `capabilities`.
    pub capabilities: Box<RawValue>,
    /// The raw JSON object of `clientInfo`.
    pub info: Option<Box<RawValue>>,
    /// Takes what belongs to no request; none where no client can be reached so.
    pub listener: Option<Arc<dyn Listener>>,
}

/// The raw JSON object of a request's `params`, in up to three slices, so that a tool can be renamed
/// without a copy of its arguments.
#[derive(Clone, Copy, Default, Debug)]
pub struct Params<'a>([&'a [u8]; 3]);

impl<'a> Params<'a> {
    /// No `params` member at all.
    pub fn none() -> Self {
        Self::default()
    }

    pub fn raw(json: &'a [u8]) -> Self {
        Self([json, b"", b""])
    }

    /// `head`, `name` and `tail` written one after the other are the object.
    pub fn spliced(head: &'a [u8], name: &'a [u8], tail: &'a [u8]) -> Self {
        Self([head, name, tail])
    }

    pub fn slices(&self) -> [&'a [u8]; 3] {
        self.0
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.iter().map(|slice| slice.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The object in one piece; a copy only when it is in several.
    pub fn contiguous(&self) -> std::borrow::Cow<'a, [u8]> {
        match self.0 {
            [json, b"", b""] => json.into(),
            slices => slices.concat().into(),
        }
    }
}

/// What an upstream answered, byte for byte.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UpstreamAnswer {
    /// The raw JSON of `result`.
    Result(Bytes),
    /// The raw JSON of the `error` object.
    Error(Bytes),
}

/// A request without an answer.
#[derive(Debug)]
pub struct Failure {
    pub refusal: Refusal,
    /// Whether any byte of the request may have reached the upstream. If not, another try is harmless.
    pub sent: bool,
}

/// What the handshake with an upstream brought.
#[derive(Clone, Debug)]
pub struct Initialized {
    pub era: Era,
    /// The raw result of `initialize`, or of `server/discover`.
    pub result: Bytes,
    /// The revision that is spoken.
    pub protocol_version: String,
    /// Grows with each start of this upstream.
    pub generation: u64,
}
