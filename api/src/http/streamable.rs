//! `/mcp` and `/mcp/s/{slug}`: Streamable HTTP in both eras. A POST is answered with JSON, or, as soon
//! as there is something to say before the answer, with a stream of server-sent events. GET reads what
//! a legacy session is told outside any request; DELETE ends the session.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::mcp::{Era, MODERN};
use protocol::{Code, Refusal, RequestId, Slug, jsonrpc};

use crate::app::App;
use crate::config::LimitRefusals;
use crate::http::detached::{Handling, Lasting, streamed};
use crate::http::headers::SESSION_ID;
use crate::http::rpc::json;
use crate::http::{request, response};
use crate::mcp::endpoint::Endpoint;
use crate::mcp::headers::McpHeaders;
use crate::mcp::inbound::Inbound;
use crate::mcp::methods;
use crate::mcp::response::{Answer, Handled, Replies, Reply};
use crate::openapi::rpc::{RpcAlways, RpcAnswer, RpcBody, RpcSent};
use crate::ops::metrics;
use crate::pipeline::refused::Refused;
use crate::session::stream::Stream;

/// An answer that takes longer than this comes as a stream, so that nobody between takes the
/// connection for dead.
const STREAM_AFTER: Duration = Duration::from_secs(10);

/// Takes one message of an MCP client, over Streamable HTTP.
///
/// Revisions 2024-11-05 to 2025-11-25 begin with `initialize` and then name their `Mcp-Session-Id`;
/// 2026-07-28 says all in each request's `_meta` and headers. The answer is JSON, or a stream of
/// server-sent events when something is said before it. Needs `tools:call`.
#[utoipa::path(
    post, path = "/mcp", tag = "mcp", request_body = RpcBody,
    responses(
        (status = 200, description = "The answer, as JSON or as a stream.", body = RpcAnswer),
        (status = 202, description = "A notification, or an answer to a question: taken."),
        (status = 400, description = "No message, no session, or (2026-07-28) headers or `_meta` that are wrong: -32700, -32600, -32602, -32020, -32021, -32022.", body = RpcAnswer),
        (status = 404, description = "The session is gone, or (2026-07-28) there is no such method: -32601.", body = RpcAnswer),
        (status = 406, description = "The header `Accept` lists neither JSON nor event streams.", body = RpcAnswer),
        RpcAlways, RpcSent
    )
)]
pub async fn call_mcp(State(app): State<Arc<App>>, At(endpoint): At, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let parts = Arc::new(request::own_head(parts));
    let streams = accepts(&parts.headers, "text/event-stream");
    if !streams && !accepts(&parts.headers, "application/json") {
        return not_acceptable(&parts, "application/json and text/event-stream").await;
    }
    let request = request::connection_info(&parts).request;
    let stream = Arc::new(Stream::default());
    let handling: Handling = Box::pin({
        let (app, parts, stream) = (Arc::clone(&app), Arc::clone(&parts), Arc::clone(&stream));
        async move {
            let inbound = request::inbound(&app, &parts, body, methods::read, &endpoint);
            let stream = streams.then_some(&stream);
            app.gateway.handle(Inbound { stream, ..inbound }).await
        }
    });
    // A legacy client that goes away has not taken its request back.
    let mut handling = Lasting::new(&app, &stream, handling);
    let answered = tokio::select! {
        biased;
        done = handling.next() => Some(done),
        () = stream.readable(), if streams => None,
        () = late(&stream), if streams => None,
    };
    match answered {
        // Something was said first: it must come first.
        Some(done) if streams && stream.has_unread() => {
            streamed(&app, &parts, stream, Box::pin(async { done }))
        }
        Some(Ok(handled)) => plain(handled),
        Some(Err(away)) if away.is_tool_call && app.config.limits.refusals == LimitRefusals::Result => {
            limited(&parts, away)
        }
        Some(Err(away)) => {
            let away = away.under(request::unread_id(&parts.extensions).await);
            turned_away(&app, &parts, away)
        }
        None => match handling.take() {
            Some(handling) => streamed(&app, &parts, stream, handling),
            None => refused(request, Refusal::new(Code::Internal, "the answer is gone").into()),
        },
    }
}

/// The endpoint of a path: all servers at `/mcp`, one at `/mcp/s/{slug}`.
pub struct At(pub Endpoint);

impl<S: Send + Sync> FromRequestParts<S> for At {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let slug = Option::<Path<String>>::from_request_parts(parts, state).await;
        let Some(Path(slug)) = slug.map_err(IntoResponse::into_response)? else {
            return Ok(Self(Endpoint::All));
        };
        if let Ok(slug) = slug.parse::<Slug>() {
            return Ok(Self(Endpoint::One(slug)));
        }
        let refusal = Refusal::new(Code::UnknownServer, "the path names no server");
        Err(early(parts, refusal.hint("GET /v1/mcp/servers lists slugs").into()).await)
    }
}

/// Waits until the answer takes too long to come alone. That to `initialize` comes alone however long it
/// takes: its session is named in a header.
async fn late(stream: &Stream) {
    loop {
        tokio::time::sleep(STREAM_AFTER).await;
        if stream.may_begin() {
            return;
        }
    }
}

/// The answer as JSON.
fn plain(handled: Handled) -> Response {
    let era = handled.era;
    let mut response = match &handled.replies {
        Replies::One(None) => StatusCode::ACCEPTED.into_response(),
        Replies::One(Some(reply)) => single(reply, era),
        Replies::Many(replies) if replies.is_empty() => StatusCode::ACCEPTED.into_response(),
        Replies::Many(replies) => super::rpc::batch(replies),
    };
    response::set_rate_limit(&mut response, handled.rate_limit);
    response
}

fn single(reply: &Reply, era: Era) -> Response {
    let mut out = Vec::new();
    reply.write(&mut out);
    let mut response = json(out);
    *response.status_mut() = status(reply, era);
    if let Some(refusal) = reply.refusal() {
        metrics::refused(refusal.code);
        response::set_refusal_headers(&mut response, refusal);
    }
    if let Some(id) = reply.session.as_deref().and_then(|id| HeaderValue::from_str(id).ok()) {
        response.headers_mut().insert(SESSION_ID, id);
    }
    response
}

/// Errors have a status of their own where 2026-07-28 gives them one; a legacy session's are answers,
/// since 404 would mean that the session is gone.
fn status(reply: &Reply, era: Era) -> StatusCode {
    use protocol::mcp::code;
    if let Some(refusal) = reply.refusal()
        && matches!(
            refusal.code,
            Code::ParseError
                | Code::InvalidRequest
                | Code::RateLimited
                | Code::SessionRequired
                | Code::SessionNotFound
                | Code::MissingMeta
        )
    {
        return StatusCode::from_u16(refusal.code.http()).unwrap_or(StatusCode::BAD_REQUEST);
    }
    let code = reply.error_code().filter(|_| era == Era::Modern).and_then(|code| i32::try_from(code).ok());
    match code {
        Some(code) if code == Code::MethodNotFound.rpc() => StatusCode::NOT_FOUND,
        Some(
            code::HEADER_MISMATCH | code::MISSING_CLIENT_CAPABILITY | code::UNSUPPORTED_PROTOCOL_VERSION,
        ) => StatusCode::BAD_REQUEST,
        Some(_) | None => StatusCode::OK,
    }
}

/// A request that was turned away as a whole; its id is null where it could not be read (JSON-RPC 2.0,
/// section 5).
pub fn refused(request: RequestId, away: Refused) -> Response {
    let Refused { refusal, id, rate_limit, .. } = away;
    metrics::refused(refusal.code);
    let mut out = Vec::new();
    let (id, answer) = (id.map(Into::into), Answer::Refused(refusal.clone()));
    let reply = Reply { id, answer, facts: None, request, session: None };
    reply.write(&mut out);
    let mut response = json(out);
    *response.status_mut() =
        StatusCode::from_u16(refusal.code.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response::set_refusal_headers(&mut response, &refusal);
    if refusal.code == Code::MethodNotAllowed {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    }
    response::set_rate_limit(&mut response, rate_limit.unwrap_or_default());
    response
}

/// A tool call over its limit, as a result that says so: many client frameworks lose what an HTTP status
/// says, and some never return from such a call (docs/clients.md).
fn limited(parts: &Parts, away: Refused) -> Response {
    metrics::refused(away.refusal.code);
    let modern = McpHeaders(&parts.headers).version().is_ok_and(|version| version == Some(MODERN));
    let era = if modern { Era::Modern } else { Era::Legacy };
    let request = request::connection_info(parts).request;
    let result = jsonrpc::refused_result(&away.refusal, &request, era);
    let (id, answer) = (away.id.map(Into::into), Answer::Result(result.into()));
    let reply = Reply { id, answer, facts: None, request, session: None };
    let mut response = single(&reply, era);
    response::set_refusal_headers(&mut response, &away.refusal);
    response::set_rate_limit(&mut response, away.rate_limit.unwrap_or_default());
    response
}

pub fn turned_away(app: &App, parts: &Parts, away: Refused) -> Response {
    let refusal = away.refusal.clone();
    let mut response = refused(request::connection_info(parts).request, away);
    response::challenge(&mut response, &refusal, &request::resource_of(app, parts));
    response
}

pub async fn not_acceptable(parts: &Parts, what: &str) -> Response {
    let refusal = Refusal::new(Code::NotAcceptable, format!("the header Accept must list {what}"));
    early(parts, refusal.into()).await
}

/// Refuses a request that nobody looked at, under its id if that can be read.
pub async fn early(parts: &Parts, away: Refused) -> Response {
    let id = request::unread_id(&parts.extensions).await;
    refused(request::connection_info(parts).request, away.under(id))
}

/// Whether a media type is accepted; nothing said is everything (RFC 9110, section 12.5.1).
pub fn accepts(headers: &HeaderMap, wanted: &str) -> bool {
    let mut any = false;
    for value in headers.get_all(header::ACCEPT) {
        any = true;
        let Ok(value) = value.to_str() else { continue };
        let main = wanted.split('/').next().unwrap_or_default();
        let listed = value.split(',').map(|one| one.split(';').next().unwrap_or_default().trim());
        for one in listed {
            let whole_kind = one.strip_suffix("/*").is_some_and(|kind| kind.eq_ignore_ascii_case(main));
            if one.eq_ignore_ascii_case(wanted) || one == "*/*" || whole_kind {
                return true;
            }
        }
    }
    !any
}
