//! MCP request headers: `MCP-Protocol-Version`, `Mcp-Session-Id`, `Mcp-Method`, `Mcp-Name` and `Mcp-Param-*`.

use axum::http::{HeaderMap, HeaderName};
use protocol::mcp::header;
use protocol::{Code, Refusal};

use crate::http::headers;

/// The headers of a request. Each MCP header may be given once only.
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

    /// Returns the headers `Mcp-Param-*`; names are in lower case.
    pub fn parameters(self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let mirrors = |name: &str| name.starts_with(header::PARAM);
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .filter(move |(name, _)| mirrors(name))
    }
}

/// Refuses a header that differs from the body.
pub fn mismatch(reason: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(Code::HeaderMismatch, reason)
        .rule("2026-07-28, basic/transports/streamable-http, \"Server Validation\"")
}
