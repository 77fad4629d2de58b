//! `/mcp` and `/mcp/s/{slug}`: Streamable HTTP in both eras. A POST is answered with JSON, or, as soon as a
//! message precedes the answer, with a stream of server-sent events. GET reads the messages of a legacy
//! session outside any request; DELETE ends the session.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use protocol::mcp::{Era, MODERN};
use protocol::{Code, Refusal, RequestId, Slug, jsonrpc};

use crate::app::App;
use crate::config::LimitRefusals;
use crate::http::detached::{Handling, Lasting, streamed};
use crate::http::rpc;
use crate::http::{request, response};
use crate::mcp::endpoint::Endpoint;
use crate::mcp::headers::McpHeaders;
use crate::mcp::inbound::Inbound;
use crate::mcp::methods;
use crate::mcp::response::{Answer, Reply};
use crate::openapi::rpc::{RpcAlways, RpcAnswer, RpcAnswers, RpcBody, RpcSent};
use crate::ops::metrics;
use crate::pipeline::refused::Refused;
use crate::session::stream::Stream;

/// Time before an answer becomes a stream, so that no proxy takes the connection for dead.
const STREAM_AFTER: Duration = Duration::from_secs(10);

/// Takes one message of an MCP client, over Streamable HTTP.
///
/// Revisions 2024-11-05 to 2025-11-25 begin with `initialize` and then name their `Mcp-Session-Id`;
/// 2026-07-28 has no session: each request has its `_meta` and headers. The answer is JSON, or a stream of
/// server-sent events if messages precede it. Needs `tools:call`.
#[utoipa::path(
    post, path = "/mcp", tag = "mcp", request_body = RpcBody,
    responses(
        (status = 200, description = "The answer, as JSON or as a stream.", body = RpcAnswers),
        (status = 202, description = "A notification, or an answer to a question: taken."),
        (status = 400, description = "No message, no session, or (2026-07-28) headers or `_meta` that are wrong: -32700, -32600, -32602, -32020, -32021, -32022.", body = RpcAnswer),
        (status = 404, description = "The session is gone, or (2026-07-28) there is no such method: -32601.", body = RpcAnswer),
        (status = 406, description = "The header `Accept` lists neither JSON nor event streams.", body = RpcAnswer),
        RpcAlways, RpcSent
    )
)]
pub async fn call_mcp(
    State(app): State<Arc<App>>,
    At { endpoint, strict }: At,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let parts = Arc::new(request::own_head(parts));
    let streams = accepts(&parts.headers, "text/event-stream");
    if !streams && !accepts(&parts.headers, "application/json") {
        return not_acceptable(&parts, "application/json and text/event-stream").await;
    }
    let stream = Arc::new(Stream::default());
    let handling: Handling = Box::pin({
        let (app, parts, stream) = (Arc::clone(&app), Arc::clone(&parts), Arc::clone(&stream));
        async move {
            let inbound = request::inbound(&app, &parts, body, &methods::read, &endpoint);
            let stream = streams.then_some(&stream);
            app.gateway.handle(Inbound { stream, strict, ..inbound }).await
        }
    });
    // A legacy client that disconnects has not cancelled its request.
    let mut handling = Lasting::new(&app, &stream, handling);
    let answered = tokio::select! {
        biased;
        done = handling.next() => Some(done),
        () = stream.readable(), if streams => None,
        () = late(&stream), if streams => None,
    };
    match answered {
        // Messages that were sent before the answer must precede it.
        Some(done) if streams && stream.has_unread() => {
            streamed(&app, &parts, stream, Box::pin(async { done }))
        }
        Some(Ok(handled)) => rpc::answered(&handled, |reply| status(reply, handled.era)),
        Some(Err(refused)) if refused.is_tool_call && app.config.limits.refusals == LimitRefusals::Result => {
            limited(&parts, refused)
        }
        Some(Err(refused)) => {
            let refused = refused.under(request::unread_id(&parts.extensions).await);
            challenge_response(&app, &parts, refused)
        }
        None => {
            let unanswered = handling.take().expect("only an answer takes it");
            streamed(&app, &parts, stream, unanswered)
        }
    }
}

/// The endpoint of a path: all servers at `/mcp`, one at `/mcp/s/{slug}`.
pub struct At {
    pub endpoint: Endpoint,
    /// The query parameter `strict`: lists of one server leave out what strict clients refuse.
    pub strict: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for At {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let slug = Option::<Path<String>>::from_request_parts(parts, state).await;
        let Some(Path(slug)) = slug.map_err(IntoResponse::into_response)? else {
            return Ok(Self { endpoint: Endpoint::All, strict: false });
        };
        let unknown = || {
            let refusal = Refusal::new(Code::UnknownServer, "the path names no server");
            refusal.hint("GET /v1/mcp/servers lists slugs")
        };
        let slug = slug.parse::<Slug>().map_err(|_| unknown());
        match slug.and_then(|slug| Ok((slug, strict(&parts.uri)?))) {
            Ok((slug, strict)) => Ok(Self { endpoint: Endpoint::One(slug), strict }),
            Err(refusal) => Err(early(parts, refusal.into()).await),
        }
    }
}

/// Returns the query parameter `strict`, false by default.
///
/// # Errors
/// A value other than `true` and `false`, or two of them.
fn strict(uri: &Uri) -> Result<bool, Refusal> {
    let pairs = uri.query().unwrap_or_default().split('&');
    let mut given = pairs.filter(|pair| pair.split('=').next() == Some("strict"));
    match (given.next(), given.next()) {
        (None | Some("strict=false"), None) => Ok(false),
        (Some("strict=true"), None) => Ok(true),
        _ => Err(Refusal::new(Code::InvalidRequest, "the query parameter `strict` is true or false, once")),
    }
}

/// Waits until the answer must become a stream. An answer to `initialize` never does, since its session is
/// named in a header.
async fn late(stream: &Stream) {
    loop {
        tokio::time::sleep(STREAM_AFTER).await;
        if stream.may_begin() {
            return;
        }
    }
}

/// Returns the HTTP status: errors of 2026-07-28 have their own; errors of a legacy session have 200, since
/// 404 would mean that the session is gone.
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

/// Answers a request that was refused as a whole; an unread id is null (JSON-RPC 2.0, section 5).
pub fn refusal_response(request: RequestId, refused: Refused) -> Response {
    let code = refused.refusal.code;
    metrics::refused(code);
    let mut response = rpc::refusal_response(&request, refused);
    if code == Code::MethodNotAllowed {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

/// Answers a tool call over its limit with a tool error: many client frameworks drop the message of an HTTP
/// error, and some never return from such a call (docs/clients.md).
fn limited(parts: &Parts, refused: Refused) -> Response {
    metrics::refused(refused.refusal.code);
    let modern = McpHeaders(&parts.headers).version().is_ok_and(|version| version == Some(MODERN));
    let era = if modern { Era::Modern } else { Era::Legacy };
    let request = request::connection_info(parts).request;
    let result = jsonrpc::refused_result(&refused.refusal, &request, era);
    let (id, answer) = (refused.id.map(Into::into), Answer::Result(result.into()));
    let reply = Reply { id, answer, facts: None, request, session: None };
    let mut response = rpc::single(&reply, status(&reply, era));
    response::set_refusal_headers(&mut response, &refused.refusal);
    response::set_rate_limit(&mut response, refused.rate_limit.unwrap_or_default());
    response
}

pub fn challenge_response(app: &App, parts: &Parts, refused: Refused) -> Response {
    let refusal = refused.refusal.clone();
    let mut response = refusal_response(request::connection_info(parts).request, refused);
    response::challenge(&mut response, &refusal, &request::resource_of(app, parts));
    response
}

pub async fn not_acceptable(parts: &Parts, what: &str) -> Response {
    let refusal = Refusal::new(Code::NotAcceptable, format!("the header Accept must list {what}"));
    early(parts, refusal.into()).await
}

/// Refuses an unread request, under its id if that can be read.
pub async fn early(parts: &Parts, refused: Refused) -> Response {
    let id = request::unread_id(&parts.extensions).await;
    refusal_response(request::connection_info(parts).request, refused.under(id))
}

/// Returns true if a media type is accepted; no `Accept` accepts everything (RFC 9110, section 12.5.1).
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
