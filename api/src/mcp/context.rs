//! Context of a request: endpoint, MCP headers, negotiated protocol and caller, as the stages of the
//! pipeline pass it on.

use std::sync::Arc;

use protocol::{Caller, Code, Refusal, RequestId};
use proxy::bridge::Client;
use proxy::upstream::Listener;

use crate::authn::Proof;
use crate::mcp::endpoint::{Endpoint, Form};
use crate::mcp::headers::McpHeaders;
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
    pub headers: McpHeaders<'a>,
    /// Where messages before the answer go; none on doors that give nothing else.
    pub stream: Option<&'a Arc<Stream>>,
    pub trace: Option<[u8; 16]>,
}

/// One caller's request, while its messages are served.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub caller: &'a Arc<Caller>,
    pub protocol: &'a RequestProtocol<'a>,
    pub request: RequestId,
    pub trace: Option<[u8; 16]>,
}

/// A message's dialect, and who is behind it.
pub struct RequestProtocol<'a> {
    pub endpoint: &'a Endpoint,
    pub client: Arc<Client>,
    pub session: Option<Arc<Session>>,
    /// The channel for notifications and server requests before the answer.
    pub client_channel: Option<Arc<dyn Listener>>,
    /// Where that goes; none on doors that give nothing but the answer.
    pub stream: Option<&'a Arc<Stream>>,
    pub headers: McpHeaders<'a>,
}

impl RequestProtocol<'_> {
    pub fn session_state(&self) -> Option<&Arc<SessionState>> {
        self.session.as_deref().map(|session| &session.state)
    }
}

impl<'a> Context<'a> {
    /// Returns the legacy session of a request that needs one.
    pub fn session(&self) -> Result<&'a Arc<Session>, Refusal> {
        self.protocol.session.as_ref().ok_or_else(|| {
            Refusal::new(Code::SessionRequired, "this needs a session, which this endpoint does not keep")
                .hint("use /mcp or /mcp/s/{slug}")
        })
    }
}
