//! Context of a request: endpoint, MCP headers, negotiated protocol and caller, as the stages of the
//! pipeline pass it on.

use std::future::Future;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName};
use bytes::Bytes;
use protocol::mcp::header;
use protocol::{Caller, Code, Refusal, RequestId, Slug};
use proxy::bridge::Client;
use proxy::upstream::Listener;

use crate::authn::Proof;
use crate::http::headers;
use crate::mcp::request::RequestBatch;
use crate::pipeline::limits::RateLimitState;
use crate::session::Session;
use crate::session::state::SessionState;
use crate::session::stream::Stream;

/// A message as a door received it.
pub struct Inbound<'a, B> {
    pub request: RequestId,
    /// What the connection and its headers say about the caller.
    pub proof: Proof<'a>,
    /// Not read yet: a stranger's bytes are not taken in.
    pub body: B,
    pub form: Form,
    pub endpoint: &'a Endpoint,
    /// What the headers say about the protocol.
    pub said: McpHeaders<'a>,
    /// Where messages before the answer go; none on doors that give nothing else.
    pub stream: Option<&'a Arc<Stream>>,
    pub trace: Option<[u8; 16]>,
}

/// The body of a request, not read yet.
pub trait UnreadBody: Send {
    /// Whether the body is announced as small enough to be read although its request may be refused.
    fn is_small(&self) -> bool;

    /// Reads the body, which must be JSON.
    fn read(self) -> impl Future<Output = Result<Bytes, Refusal>> + Send;
}

/// How a door's bodies are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    JsonRpc,
    /// The body of `POST /v1/mcp/execute`.
    Execute,
}

/// One caller's request, while its messages are served.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub caller: &'a Arc<Caller>,
    pub protocol: &'a RequestProtocol<'a>,
    pub request: RequestId,
    pub trace: Option<[u8; 16]>,
}

/// Where a message came in.
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

/// What the headers of a request say of the protocol. Each may be given once only.
#[derive(Clone, Copy)]
pub struct McpHeaders<'a>(pub &'a HeaderMap);

impl<'a> McpHeaders<'a> {
    pub fn one(self, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
        let mut values = self.0.get_all(name).iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(mismatch(format!("the header {name} is given twice")));
        }
        let text = value.to_str().map_err(|_| mismatch(format!("the header {name} is not plain text")))?;
        Ok(Some(text.trim_matches([' ', '\t'])))
    }

    pub fn version(self) -> Result<Option<&'a str>, Refusal> {
        self.one(&headers::PROTOCOL_VERSION)
    }

    pub fn session(self) -> Result<Option<&'a str>, Refusal> {
        self.one(&headers::SESSION_ID)
    }

    /// The headers `Mcp-Param-*`; names are in lower case.
    pub fn parameters(self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let mirrors = |name: &str| name.starts_with(header::PARAM);
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .filter(move |(name, _)| mirrors(name))
    }
}

/// A message's dialect, and who is behind it.
pub struct RequestProtocol<'a> {
    pub endpoint: &'a Endpoint,
    pub client: Arc<Client>,
    pub session: Option<Arc<Session>>,
    /// Who can be told and requests something before the answer.
    pub voice: Option<Arc<dyn Listener>>,
    /// Where that goes; none on doors that give nothing but the answer.
    pub stream: Option<&'a Arc<Stream>>,
    pub said: McpHeaders<'a>,
}

impl RequestProtocol<'_> {
    pub fn session_state(&self) -> Option<&Arc<SessionState>> {
        self.session.as_deref().map(|session| &session.state)
    }
}

/// A request that was turned away as a whole.
pub struct Refused {
    pub refusal: Refusal,
    pub id: Option<String>,
    pub rate_limit: Option<RateLimitState>,
    /// Whether it was read and is one `tools/call`, whose refusal can be a tool's result too.
    pub is_tool_call: bool,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, id: None, rate_limit: None, is_tool_call: false }
    }
}

impl Refused {
    /// Answers under this id where the request's own was not read.
    pub fn under(self, id: Option<String>) -> Self {
        Self { id: self.id.or(id), ..self }
    }

    /// Adds what was read of the request.
    pub fn of(self, requests: &Result<RequestBatch<'_>, Refused>) -> Self {
        match requests {
            Ok(requests) => Self { is_tool_call: requests.is_tool_call(), ..self.under(requests.id()) },
            Err(unread) => self.under(unread.id.clone()),
        }
    }

    pub fn rate_limited(self, rate_limit: RateLimitState) -> Self {
        Self { rate_limit: Some(rate_limit), ..self }
    }
}

/// A header that says something else than the body.
pub fn mismatch(reason: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(Code::HeaderMismatch, reason)
        .rule("2026-07-28, basic/transports/streamable-http, \"Server Validation\"")
}
