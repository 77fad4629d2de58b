//! `POST /mcp/rpc`: plain JSON-RPC 2.0, JSON in, JSON out, no session.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::{Code, jsonrpc};

use crate::app::App;
use crate::authn::oauth::ResourceUri;
use crate::http::headers::SESSION_ID;
use crate::http::{request, response};
use crate::mcp::endpoint::Endpoint;
use crate::mcp::methods;
use crate::mcp::response::{Handled, Replies, Reply};
use crate::openapi::rpc::{RpcAlways, RpcAnswer, RpcAnswers, RpcBody, RpcSent};
use crate::ops::metrics;
use crate::pipeline::refused::Refused;

/// Serves JSON-RPC 2.0: JSON in, JSON out, no session.
///
/// Needs `tools:call`. Tools are called `slug__tool`. Errors are JSON-RPC errors with HTTP 200, but for
/// invalid requests, refused callers and rate limits.
#[utoipa::path(
    post, path = "/mcp/rpc", tag = "call",
    request_body(content = RpcBody, description = "One request or a batch.", examples(
        ("call a tool" = (value = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "calculator__add", "arguments": {"a": 2, "b": 3}}}))),
        ("list tools" = (value = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}))),
        ("execute an operation" = (value = json!({"jsonrpc": "2.0", "id": 1, "method": "mcp.execute", "params": {"service": "calculator", "operation": "add", "params": {"a": 2, "b": 3}}}))),
        ("a batch" = (value = json!([{"jsonrpc": "2.0", "id": 1, "method": "ping"}, {"jsonrpc": "2.0", "id": 2, "method": "mcp.listServices"}])))
    )),
    responses(
        (status = 200, description = "The answer, or a list of answers to a batch.", body = RpcAnswers),
        (status = 202, description = "Nothing but notifications: taken, and not answered."),
        (status = 400, description = "Not JSON, or not a request: -32700, -32600.", body = RpcAnswer),
        RpcAlways, RpcSent
    )
)]
pub async fn call_rpc(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let connection = request::connection_info(&parts);
    match app.gateway.handle(request::inbound(&app, &parts, body, &methods::read, &Endpoint::Plain)).await {
        Ok(handled) => {
            answered(&handled, |reply| reply.refusal().map_or(StatusCode::OK, |refusal| status(refusal.code)))
        }
        Err(refused) => {
            let refused = refused.under(request::unread_id(&parts.extensions).await);
            challenge_response(&connection.request, refused, &request::resource_of(&app, &parts))
        }
    }
}

/// Answers with JSON, or with 202 where there are no replies. `status` is that of a single reply.
pub fn answered(handled: &Handled, status: impl Fn(&Reply) -> StatusCode) -> Response {
    let mut response = match &handled.replies {
        Replies::One(None) => StatusCode::ACCEPTED.into_response(),
        Replies::One(Some(reply)) => single(reply, status(reply)),
        Replies::Many(replies) if replies.is_empty() => StatusCode::ACCEPTED.into_response(),
        Replies::Many(replies) => batch(replies),
    };
    response::set_rate_limit(&mut response, handled.rate_limit);
    response
}

/// Answers with one JSON-RPC response.
pub fn single(reply: &Reply, status: StatusCode) -> Response {
    let mut out = Vec::new();
    reply.write(&mut out);
    let mut response = json(out);
    *response.status_mut() = status;
    if let Some(refusal) = reply.refusal() {
        metrics::refused(refusal.code);
        response::set_refusal_headers(&mut response, refusal);
    }
    if let Some(id) = reply.session.as_deref().and_then(|id| HeaderValue::from_str(id).ok()) {
        response.headers_mut().insert(SESSION_ID, id);
    }
    response
}

fn batch(replies: &[Reply]) -> Response {
    let mut out = vec![b'['];
    for (index, reply) in replies.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        reply.write(&mut out);
    }
    out.push(b']');
    json(out)
}

fn challenge_response(
    request: &protocol::RequestId,
    refused: Refused,
    resource: &ResourceUri<'_>,
) -> Response {
    metrics::refused(refused.refusal.code);
    let refusal = refused.refusal.clone();
    let mut response = refusal_response(request, refused);
    if matches!(
        refusal.code,
        Code::MissingMeta | Code::HeaderMismatch | Code::UnsupportedVersion | Code::MethodNotFound
    ) {
        // The HTTP statuses of 2026-07-28 belong to Streamable HTTP.
        *response.status_mut() = StatusCode::OK;
    }
    response::challenge(&mut response, &refusal, resource);
    response
}

/// Answers a request that was refused as a whole: a JSON-RPC error with its HTTP status.
pub fn refusal_response(request: &protocol::RequestId, refused: Refused) -> Response {
    let Refused { refusal, id, rate_limit, .. } = refused;
    let mut out = Vec::new();
    jsonrpc::write_error(
        &mut out,
        id.as_deref().unwrap_or("null"),
        &jsonrpc::error_object(&refusal, request),
    );
    let mut response = json(out);
    *response.status_mut() =
        StatusCode::from_u16(refusal.code.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response::set_refusal_headers(&mut response, &refusal);
    if let Some(rate_limit) = rate_limit {
        response::set_rate_limit(&mut response, rate_limit);
    }
    response
}

/// Returns the HTTP status: 200 but for invalid requests and rate limits.
fn status(code: Code) -> StatusCode {
    match code {
        Code::ParseError | Code::InvalidRequest => StatusCode::BAD_REQUEST,
        Code::RateLimited | Code::ConcurrencyLimited => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::OK,
    }
}

pub fn json(body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
