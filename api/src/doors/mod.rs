//! The doors: each turns HTTP into the pipeline's words and back. They call `Gateway::handle` and
//! nothing deeper.

pub mod authorization;
pub mod events;
pub mod execute;
mod lasting;
pub mod mcp;
pub mod resource;
pub mod rest;
pub mod rpc;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, Uri, header};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use protocol::{Code, Refusal, jsonrpc};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::authn::Proof;
use crate::dialect::{Endpoint, Said};
use crate::edge::Arrival;
use crate::gateway::{Form, Inbound};
use crate::headers::{RATELIMIT, RATELIMIT_POLICY, TRACEPARENT};
use crate::limits::{Pace, Standing};
use crate::oauth::{self, ResourceUri};
use crate::request_body::RequestBody;

/// The routes that call the pipeline, as the OpenAPI document has them.
pub fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default()
        .routes(routes!(mcp::call_mcp, mcp::listen_mcp, mcp::end_mcp))
        .routes(routes!(rpc::call_rpc))
        .routes(routes!(execute::execute_tool))
}

/// Where the doors that speak JSON-RPC are.
pub const MCP: &str = "/mcp";
/// Plain JSON-RPC.
pub const RPC: &str = "/mcp/rpc";
/// One server, whose slug follows.
pub const SERVER: &str = "/mcp/s/";

/// Bodies up to this are copied.
const SMALL: usize = 2048;

/// Time for a body to arrive; a caller that sends a byte now and then must not hold memory.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// A body that has not been read.
pub struct Unread<'a> {
    pub headers: &'a HeaderMap,
    pub body: Body,
    is_small: bool,
    /// Bytes.
    pub limit: usize,
}

impl Unread<'_> {
    /// Whether it is announced as small enough to be read although its request may be refused.
    pub fn is_small(&self) -> bool {
        self.is_small
    }

    /// Takes a JSON body, or says why not.
    pub async fn read(self) -> Result<Bytes, Refusal> {
        let kind = crate::headers::single(self.headers, &header::CONTENT_TYPE)?;
        let json = kind.and_then(|value| value.to_str().ok()).is_some_and(is_json);
        if !json {
            return Err(Refusal::new(Code::UnsupportedMediaType, "the body must be JSON")
                .hint("send Content-Type: application/json"));
        }
        take(self.body, self.limit).await
    }
}

/// Takes a body of at most `limit` bytes.
pub async fn take(body: Body, limit: usize) -> Result<Bytes, Refusal> {
    let read = tokio::time::timeout(BODY_WITHIN, Limited::new(body, limit).collect()).await;
    match read {
        Ok(Ok(body)) => Ok(own(body.to_bytes())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Refusal::new(Code::BodyTooLarge, format!("the body is larger than {limit} bytes"))
                .rule("server.max_body_bytes (MAX_BODY_BYTES)")
                .hint("send less, or ask the operator for a higher limit"))
        }
        Ok(Err(error)) => {
            Err(Refusal::new(Code::BadRequest, format!("the body did not arrive whole: {error}")))
        }
        Err(_) => {
            let seconds = BODY_WITHIN.as_secs();
            Err(Refusal::new(Code::BadRequest, format!("the body did not arrive within {seconds} s")))
        }
    }
}

/// A small body of its own: a part of the connection's buffer would keep all of that, as long as the
/// request lasts.
fn own(body: Bytes) -> Bytes {
    if body.len() <= SMALL { Bytes::copy_from_slice(&body) } else { body }
}

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

/// `application/json`, with or without parameters (RFC 9110, section 8.3).
pub fn is_json(content_type: &str) -> bool {
    content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// A request in the pipeline's words.
fn inbound<'a>(
    app: &'a App,
    parts: &'a Parts,
    body: Body,
    form: Form,
    endpoint: &'a Endpoint,
) -> Inbound<'a> {
    Inbound {
        request: arrival(parts).request,
        proof: proof(app, parts),
        body: Unread {
            headers: &parts.headers,
            body,
            is_small: parts.extensions.get::<RequestBody>().is_none_or(RequestBody::is_small),
            limit: app.config.server.max_body_bytes,
        },
        form,
        endpoint,
        said: Said(&parts.headers),
        stream: None,
        trace: trace(&parts.headers),
    }
}

/// What a request says about its caller.
fn proof<'a>(app: &'a App, parts: &'a Parts) -> Proof<'a> {
    Proof { peer: arrival(parts).peer.ip(), headers: &parts.headers, resource: resource_of(app, parts) }
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

fn arrival(parts: &Parts) -> Arrival {
    *parts.extensions.get::<Arrival>().expect("the accept loop puts it there")
}

/// The trace id of a `traceparent` header, if it is a valid one and the only one (W3C Trace Context,
/// section 3.2).
fn trace(headers: &HeaderMap) -> Option<[u8; 16]> {
    let text = crate::headers::single(headers, &TRACEPARENT).ok()??.to_str().ok()?;
    let id = text.split('-').nth(1).filter(|id| id.len() == 32)?;
    let id = u128::from_str_radix(id, 16).ok().filter(|id| *id != 0)?;
    Some(id.to_be_bytes())
}

/// How many requests are left, on every answer (draft-ietf-httpapi-ratelimit-headers).
pub fn set_pace(response: &mut Response, pace: Pace) {
    let Some(Standing { whose, max, window, remaining, reset_after }) = pace.0 else { return };
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
