//! Conversion of HTTP requests into requests of the pipeline.

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
use crate::mcp::endpoint::Endpoint;
use crate::mcp::headers::McpHeaders;
use crate::mcp::inbound::{Inbound, Reader};

/// Copies a request's head out of the connection's buffer, for requests that may last.
pub fn own_head(mut parts: Parts) -> Parts {
    let bytes: usize = parts.headers.values().map(HeaderValue::len).sum();
    let mut text = BytesMut::with_capacity(bytes);
    parts.headers.values().for_each(|value| text.extend_from_slice(value.as_bytes()));
    let mut text = text.freeze();
    for value in parts.headers.values_mut() {
        let own = text.split_to(value.len());
        // The value was valid before.
        if let Ok(own) = HeaderValue::from_maybe_shared(own) {
            *value = own;
        }
    }
    if let Ok(uri) = Uri::from_maybe_shared(Bytes::from(parts.uri.to_string())) {
        parts.uri = uri;
    }
    parts
}

/// Returns the request as the pipeline takes it.
pub fn inbound<'a>(
    app: &'a App,
    parts: &'a Parts,
    body: Body,
    reader: &'a Reader,
    endpoint: &'a Endpoint,
) -> Inbound<'a, JsonBody<'a>> {
    Inbound {
        request: connection_info(parts).request,
        proof: proof(app, parts),
        body: JsonBody::new(parts, body, app.config.server.max_body_bytes),
        reader,
        endpoint,
        headers: McpHeaders(&parts.headers),
        stream: None,
        trace: trace(&parts.headers),
        strict: false,
    }
}

/// Returns the evidence of a request's caller.
pub fn proof<'a>(app: &'a App, parts: &'a Parts) -> Proof<'a> {
    Proof {
        peer: connection_info(parts).peer.ip(),
        headers: &parts.headers,
        resource: resource_of(app, parts),
    }
}

/// Returns the called endpoint as an OAuth resource.
pub fn resource_of<'a>(app: &'a App, parts: &'a Parts) -> ResourceUri<'a> {
    app.resources.of(&parts.headers, &parts.uri)
}

/// Returns the id of a request that is refused with its body unread, as it was written; none if the body is
/// no request, or not small.
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

/// Returns the trace id of a `traceparent` header, if there is one valid header (W3C Trace Context, section
/// 3.2).
pub fn trace(headers: &HeaderMap) -> Option<[u8; 16]> {
    let text = crate::http::headers::single(headers, &TRACEPARENT).ok()??.to_str().ok()?;
    let id = text.split('-').nth(1).filter(|id| id.len() == 32)?;
    let id = u128::from_str_radix(id, 16).ok().filter(|id| *id != 0)?;
    Some(id.to_be_bytes())
}
