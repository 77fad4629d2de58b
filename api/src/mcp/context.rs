//! Context of a request: endpoint, MCP headers, negotiated protocol and caller, as the stages of the
//! pipeline pass it on.

use std::sync::Arc;

use protocol::{Caller, Code, Refusal, RequestId};
use proxy::bridge::Client;
use proxy::upstream::Listener;

use crate::mcp::endpoint::Endpoint;
use crate::mcp::headers::McpHeaders;
use crate::session::Session;
use crate::session::state::SessionState;
use crate::session::stream::Stream;

/// One caller's request, while its messages are served.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub caller: &'a Arc<Caller>,
    pub protocol: &'a RequestProtocol<'a>,
    pub request: RequestId,
    pub trace: Option<[u8; 16]>,
    /// True if lists of one server leave out what strict clients refuse.
    pub strict: bool,
}

/// Negotiated protocol and client of a request.
pub struct RequestProtocol<'a> {
    pub endpoint: &'a Endpoint,
    pub client: Arc<Client>,
    pub session: Option<Arc<Session>>,
    /// The channel for notifications and server requests before the answer.
    pub client_channel: Option<Arc<dyn Listener>>,
    /// The stream of the channel; none at endpoints that answer with JSON only.
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
