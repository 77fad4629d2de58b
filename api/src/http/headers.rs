//! Names of the HTTP headers that the gateway reads and writes, each with its source.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use protocol::mcp::header as mcp;
use protocol::{Code, Refusal};

/// An API key, as earlier gateways took it.
pub const API_KEY: HeaderName = HeaderName::from_static("x-mcp-key");
/// The agent that a trusted connection acts for.
pub const AGENT: HeaderName = HeaderName::from_static("x-agent-id");
/// The tenant that an operator acts for.
pub const TENANT: HeaderName = HeaderName::from_static("x-tenant-id");
/// The request's id, on every answer.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// W3C trace context, level 1.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Fetch Metadata: the site that a browser's request comes from.
pub const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Fetch Metadata: `navigate` when a user opens the page itself.
pub const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
/// draft-ietf-httpapi-ratelimit-headers.
pub const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// draft-ietf-httpapi-ratelimit-headers.
pub const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// Streamable HTTP up to 2025-11-25: the legacy session.
pub const SESSION_ID: HeaderName = HeaderName::from_static(mcp::SESSION);
/// The protocol revision of a request.
pub const PROTOCOL_VERSION: HeaderName = HeaderName::from_static(mcp::PROTOCOL_VERSION);
/// 2026-07-28: the body's method, repeated.
pub const METHOD: HeaderName = HeaderName::from_static(mcp::METHOD);
/// 2026-07-28: the name or URI in the body, repeated.
pub const NAME: HeaderName = HeaderName::from_static(mcp::NAME);
/// WHATWG HTML, Server-Sent Events.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static(mcp::LAST_EVENT_ID);
/// Disables buffering in proxies.
pub const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Reads a header that has one value (RFC 9110, section 5.3).
///
/// # Errors
/// Refuses a header that is given several times: two readers could take different ones.
pub fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    match values.next() {
        None => Ok(value),
        Some(_) => Err(Refusal::new(Code::BadRequest, format!("the header {name} was sent twice"))
            .hint("send it once, with one value")),
    }
}

/// Returns `Retry-After` in whole seconds, at least 1 (RFC 9110, section 10.2.3): never less than the wait.
pub fn retry_after(wait: Duration) -> HeaderValue {
    HeaderValue::from(wait.as_millis().div_ceil(1000).clamp(1, u128::from(u32::MAX)) as u32)
}

/// Returns true if only the gateway or the connection may set this header of an upstream request.
pub fn is_reserved_upstream(name: &HeaderName) -> bool {
    let connection = [
        header::ACCEPT,
        header::CONNECTION,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::EXPECT,
        header::HOST,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    let protocol = [mcp::OURS, "sec-websocket-", "proxy-", "keep-alive", mcp::LAST_EVENT_ID];
    connection.contains(name) || protocol.iter().any(|start| name.as_str().starts_with(start))
}
