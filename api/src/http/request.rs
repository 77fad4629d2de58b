//! HTTP requests to MCP endpoints, as the pipeline takes them.

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderValue, Uri};
use bytes::{Bytes, BytesMut};
use protocol::jsonrpc;

use crate::app::App;
use crate::authn::Proof;
use crate::authn::oauth::ResourceUri;
use crate::http::body::{JsonBody, RequestBody};
use crate::http::connection::ConnectionInfo;
use crate::http::headers::TRACEPARENT;
use crate::mcp::context::Inbound;
use crate::mcp::endpoint::{Endpoint, Form};
use crate::mcp::headers::McpHeaders;

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
pub fn inbound<'a>(
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
pub fn proof<'a>(app: &'a App, parts: &'a Parts) -> Proof<'a> {
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

pub fn connection_info(parts: &Parts) -> ConnectionInfo {
    *parts.extensions.get::<ConnectionInfo>().expect("the accept loop puts it there")
}

/// The trace id of a `traceparent` header, if it is a valid one and the only one (W3C Trace Context,
/// section 3.2).
pub fn trace(headers: &HeaderMap) -> Option<[u8; 16]> {
    let text = crate::http::headers::single(headers, &TRACEPARENT).ok()??.to_str().ok()?;
    let id = text.split('-').nth(1).filter(|id| id.len() == 32)?;
    let id = u128::from_str_radix(id, 16).ok().filter(|id| *id != 0)?;
    Some(id.to_be_bytes())
}
