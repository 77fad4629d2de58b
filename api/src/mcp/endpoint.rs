//! Endpoints of MCP: plain JSON-RPC, the whole catalog, or one server.

use std::future::Future;

use bytes::Bytes;
use protocol::{Refusal, Slug};

/// The endpoint that received a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Endpoint {
    /// Plain JSON-RPC: the whole catalog, no session, nothing but the answer.
    Plain,
    /// The caller's whole catalog.
    All,
    /// One server under its own names.
    One(Slug),
}

impl Endpoint {
    /// What a session is bound to.
    pub fn key(&self) -> &str {
        match self {
            Endpoint::Plain | Endpoint::All => "",
            Endpoint::One(slug) => slug.as_str(),
        }
    }

    pub fn slug(&self) -> Option<&Slug> {
        match self {
            Endpoint::One(slug) => Some(slug),
            Endpoint::Plain | Endpoint::All => None,
        }
    }
}

/// The form of an endpoint's bodies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    JsonRpc,
    /// The body of `POST /v1/mcp/execute`.
    Execute,
}

/// The body of a request, not read yet.
pub trait UnreadBody: Send {
    /// Whether the body is announced as small enough to be read although its request may be refused.
    fn is_small(&self) -> bool;

    /// Reads the body, which must be JSON.
    fn read(self) -> impl Future<Output = Result<Bytes, Refusal>> + Send;
}
