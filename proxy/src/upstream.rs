//! A live thing that messages can be sent to. What it is (a child process, a provider in this
//! process, a remote server) is behind the trait; what the messages mean is not known here.

use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use protocol::Refusal;

/// Where requests go. One that has died stays dead: the pool makes a new one.
#[async_trait]
pub trait Upstream: Send + Sync {
    /// Sends one request and waits for its answer, at most until its deadline. Dropping the future
    /// gives the request up and tells the upstream so.
    async fn request(&self, request: UpstreamRequest<'_>) -> Result<UpstreamAnswer, Failure>;

    /// Sends a notification when there is room for it. `params` is a raw JSON object, or empty.
    fn notify(&self, method: &str, params: &[u8]);

    fn is_alive(&self) -> bool;

    /// Waits until it is dead, and says why. What lives in this process never is.
    async fn closed(&self) -> Refusal;

    /// Ends it in an orderly way. Requests in flight are refused.
    async fn stop(&self);
}

/// One request to an upstream.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamRequest<'a> {
    pub method: &'a str,
    pub params: Params<'a>,
    pub deadline: Instant,
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
    /// The raw `initialize` result.
    pub result: Bytes,
    pub protocol_version: String,
    /// Grows with each start of this upstream.
    pub generation: u64,
}
