//! The doors: each turns HTTP into the pipeline's words and back. They call `Gateway::handle` and
//! nothing deeper.

pub mod authorization;
pub mod body;
pub mod connection;
mod detached;
pub mod execute;
pub mod headers;
pub mod host;
pub mod listener;
pub mod middleware;
pub mod oauth_metadata;
pub mod problem;
pub mod rest_auth;
pub mod routes;
pub mod rpc;
pub mod sse;
pub mod streamable;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, Uri, header};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use protocol::{Refusal, jsonrpc};

use crate::app::App;
use crate::authn::oauth::ResourceUri;
use crate::authn::{Proof, oauth};
use crate::http::body::{JsonBody, RequestBody};
use crate::http::headers::{RATELIMIT, RATELIMIT_POLICY, TRACEPARENT};
use crate::http::middleware::ConnectionInfo;
use crate::mcp::context::Inbound;
use crate::mcp::endpoint::{Endpoint, Form};
use crate::mcp::headers::McpHeaders;
use crate::pipeline::refused::{QuotaState, RateLimitState};

/// Where the doors that speak JSON-RPC are.
pub const MCP: &str = "/mcp";
/// Plain JSON-RPC.
pub const RPC: &str = "/mcp/rpc";
/// One server, whose slug follows.
pub const SERVER: &str = "/mcp/s/";

/// What was read of a request's head, without the connection's buffer behind it, for requests that may
/// last.
pub fn own_head(mut parts: Parts) -> Parts {
    let bytes: usize = parts.headers.values().map(HeaderValue::len).sum();
    let mut text = BytesMut::with_capacity(bytes);
    parts.headers.values().for_each(|value| text.extend_from_slice(value.as_bytes()));
    let mut text = text.freeze();
    for value in parts.headers.values_mut() {
        let own = text.split_to(value.len());
        // It was one before.
        if let Ok(own) = HeaderValue::from_maybe_shared(own) {
            *value = own;
        }
    }
    if let Ok(uri) = Uri::from_maybe_shared(Bytes::from(parts.uri.to_string())) {
        parts.uri = uri;
    }
    parts
}

/// A request in the pipeline's words.
fn inbound<'a>(
    app: &'a App,
    parts: &'a Parts,
    body: Body,
    form: Form,
    endpoint: &'a Endpoint,
) -> Inbound<'a, JsonBody<'a>> {
    Inbound {
        request: connection_info(parts).request,
        proof: proof(app, parts),
        body: JsonBody::new(parts, body, app.config.server.max_body_bytes),
        form,
        endpoint,
        headers: McpHeaders(&parts.headers),
        stream: None,
        trace: trace(&parts.headers),
    }
}

/// What a request says about its caller.
fn proof<'a>(app: &'a App, parts: &'a Parts) -> Proof<'a> {
    Proof {
        peer: connection_info(parts).peer.ip(),
        headers: &parts.headers,
        resource: resource_of(app, parts),
    }
}

/// What a request called, as the resource that a token is for.
pub fn resource_of<'a>(app: &'a App, parts: &'a Parts) -> ResourceUri<'a> {
    app.resources.of(&parts.headers, &parts.uri)
}

/// The id of a request that is refused before its body was read, as it was written; none for what is no
/// request, or is not small enough to be read all the same.
pub async fn unread_id(extensions: &Extensions) -> Option<String> {
    let body = extensions.get::<RequestBody>()?.read_small().await?;
    let id = match jsonrpc::parse(&body, 1) {
        Ok(jsonrpc::Body::Single(jsonrpc::Incoming::Message(message))) => message.id,
        Ok(_) => None,
        Err(malformed) => malformed.id,
    };
    id.map(|id| id.get().to_owned())
}

fn connection_info(parts: &Parts) -> ConnectionInfo {
    *parts.extensions.get::<ConnectionInfo>().expect("the accept loop puts it there")
}

/// The trace id of a `traceparent` header, if it is a valid one and the only one (W3C Trace Context,
/// section 3.2).
fn trace(headers: &HeaderMap) -> Option<[u8; 16]> {
    let text = crate::http::headers::single(headers, &TRACEPARENT).ok()??.to_str().ok()?;
    let id = text.split('-').nth(1).filter(|id| id.len() == 32)?;
    let id = u128::from_str_radix(id, 16).ok().filter(|id| *id != 0)?;
    Some(id.to_be_bytes())
}

/// How many requests are left, on every answer (draft-ietf-httpapi-ratelimit-headers).
pub fn set_rate_limit(response: &mut Response, rate_limit: RateLimitState) {
    let Some(QuotaState { whose, max, window, remaining, reset_after }) = rate_limit.0 else { return };
    let mut set = |name: HeaderName, text: String| {
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().insert(name, value);
        }
    };
    let seconds = |time: std::time::Duration| time.as_millis().div_ceil(1000);
    set(RATELIMIT_POLICY, format!("\"{whose}\";q={max};w={}", seconds(window)));
    set(RATELIMIT, format!("\"{whose}\";r={remaining};t={}", seconds(reset_after)));
}

/// What HTTP says beside a refusal.
pub fn set_refusal_headers(response: &mut Response, refusal: &Refusal) {
    if let Some(wait) = refusal.retry_after {
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)));
    }
    if refusal.code.http() == 401 {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, oauth::challenge(refusal));
    }
}

/// Says on an MCP door how to get a credential that is enough (RFC 6750, RFC 9728).
pub fn challenge(response: &mut Response, refusal: &Refusal, resource: &ResourceUri<'_>) {
    let challenge = resource.challenge(refusal).and_then(|text| HeaderValue::from_str(&text).ok());
    if let Some(challenge) = challenge {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
}
