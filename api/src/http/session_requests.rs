//! GET and DELETE of Streamable HTTP: the stream of a legacy session, and its end.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use protocol::{Caller, Code, Refusal};

use crate::app::App;
use crate::authn::Owner;
use crate::http::sse::Cursor;
use crate::http::streamable::{At, accepts, challenge_response, not_acceptable};
use crate::http::{request, sse};
use crate::mcp::endpoint::Endpoint;
use crate::mcp::headers::McpHeaders;
use crate::openapi::rpc::{RpcAlways, RpcAnswer};
use crate::pipeline::limits::Cost;
use crate::pipeline::refused::Refused;
use crate::session::Session;
use crate::subscriptions::replica_bus::{Message, session_text};
use crate::subscriptions::{delivery, handlers};

/// Returns the caller and its session, for GET and DELETE.
async fn session(
    app: &App,
    endpoint: &Endpoint,
    parts: &Parts,
    cost: Cost,
) -> Result<(Arc<Caller>, Arc<Session>), Refused> {
    let proof = request::proof(app, parts);
    let caller = app.gateway.authn.identify(&proof).await?;
    caller.require(protocol::Scope::ToolsCall)?;
    app.gateway.limits.admit_all(&caller, cost).await?;
    let caller = app.gateway.authn.named(caller, &proof).await?;
    let headers = McpHeaders(&parts.headers);
    if headers.version()?.is_some_and(|version| !protocol::mcp::LEGACY_VERSIONS.contains(&version)) {
        let reason = "this revision has no sessions: send requests by POST";
        return Err(Refusal::new(Code::MethodNotAllowed, reason).into());
    }
    let id = headers.session()?.ok_or_else(|| {
        // Clients try GET without a session to see whether there is a stream: 405 says no.
        Refusal::new(Code::MethodNotAllowed, "there is no stream without a session")
            .hint("send initialize by POST, then name its Mcp-Session-Id here")
    })?;
    let session = app.gateway.sessions.find(&caller, endpoint.key(), id).await?;
    Ok((caller, session))
}

/// Streams the messages of a legacy session outside its requests.
///
/// Server-sent events; `Last-Event-ID` resumes a stream that was cut off. Needs `tools:call`.
#[utoipa::path(
    get, path = "/mcp", tag = "mcp",
    params(("Mcp-Session-Id" = Option<String>, Header, description = "The session.")),
    responses(
        (status = 200, description = "The stream.", content_type = "text/event-stream", body = String),
        (status = 400, description = "A header that cannot be read, or a stream that is not here any more.", body = RpcAnswer),
        (status = 404, description = "The session is gone.", body = RpcAnswer),
        (status = 405, description = "No session was named: there is nothing to be read.", body = RpcAnswer),
        (status = 406, description = "The header `Accept` does not list `text/event-stream`.", body = RpcAnswer),
        RpcAlways
    )
)]
pub async fn listen_mcp(State(app): State<Arc<App>>, At { endpoint, .. }: At, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    if !accepts(&parts.headers, "text/event-stream") {
        return not_acceptable(&parts, "text/event-stream").await;
    }
    let found = session(&app, &endpoint, &parts, Cost::UPKEEP).await;
    let permitted = found.and_then(|(caller, session)| {
        Ok((app.gateway.sessions.stream_quota.open(&caller)?, caller, session))
    });
    let (permit, caller, session) = match permitted {
        Ok(found) => found,
        Err(away) => return challenge_response(&app, &parts, away),
    };
    // A change is only noticed of a view that was loaded before.
    if let Err(refusal) = app.gateway.upstreams.directory.view(session.tenant).await {
        return challenge_response(&app, &parts, refusal.into());
    }
    let last = match crate::http::headers::single(&parts.headers, &crate::http::headers::LAST_EVENT_ID) {
        Ok(last) => last.and_then(|last| last.to_str().ok()),
        Err(refusal) => return challenge_response(&app, &parts, refusal.into()),
    };
    let read = last.and_then(|last| Cursor::parse(last, &app.gateway.dispatcher.bus.replica));
    let (stream, cursor) = match read.filter(|(cursor, ours)| *ours || cursor.stream != 0) {
        Some((cursor, ours)) => match session.state.find(cursor.stream).filter(|_| ours) {
            Some(stream) => {
                let after = cursor.after.min(stream.last());
                (stream, Cursor { after, ..cursor })
            }
            // The GET stream instead would be waited on in vain for an answer.
            None => return challenge_response(&app, &parts, gone(cursor).into()),
        },
        // The GET stream begins anew in each process, with its unread messages.
        None => {
            let stream = Arc::clone(&session.state.get_stream);
            let after = stream.read();
            (stream, Cursor { stream: 0, after })
        }
    };
    if session.facts.subscriptions.iter().any(|uri| !session.state.is_subscribed(uri)) {
        let (restoring, session) = (Arc::clone(&app), Arc::clone(&session));
        app.tasks.spawn(async move {
            handlers::restore(&restoring.gateway.upstreams, &restoring.gateway.dispatcher, &session).await
        });
    }
    if cursor.stream == 0 {
        delivery::notify_missed(&session);
    }
    // The GET stream has one reader only.
    let ended = (cursor.stream == 0).then(|| session.state.claim_reader());
    if ended.is_some() {
        let session = session_text(&session.hash);
        app.gateway.dispatcher.bus.publish(Message::Read { session }).await;
    }
    let (stopping, watch) = (
        app.stopping.clone(),
        sse::Watch {
            app: Arc::clone(&app),
            parts: Arc::new(request::own_head(parts)),
            owner: ended.is_some().then_some(Owner { tenant: caller.tenant, agent: caller.agent }),
            ended,
            _permit: Some(permit),
        },
    );
    sse::response(stream, cursor, stopping, watch, None)
}

fn gone(cursor: Cursor) -> Refusal {
    let reason = format!("the stream {} of this session is not here any more", cursor.stream);
    Refusal::new(Code::BadRequest, reason).hint("send GET without Last-Event-ID for what the session is told")
}

/// Ends a legacy session.
///
/// Needs `tools:call`.
#[utoipa::path(
    delete, path = "/mcp", tag = "mcp",
    params(("Mcp-Session-Id" = Option<String>, Header, description = "The session.")),
    responses(
        (status = 204, description = "It is over, on every replica."),
        (status = 400, description = "A header that cannot be read.", body = RpcAnswer),
        (status = 404, description = "There is no such session for this caller.", body = RpcAnswer),
        (status = 405, description = "No session was named.", body = RpcAnswer),
        RpcAlways
    )
)]
pub async fn end_mcp(State(app): State<Arc<App>>, At { endpoint, .. }: At, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let closed = async {
        // The end of a session is never refused by a rate limit.
        let (_, session) = session(&app, &endpoint, &parts, Cost::NOTHING).await?;
        app.gateway.sessions.close(&session).await?;
        let session = session_text(&session.hash);
        app.gateway.dispatcher.bus.publish(Message::Closed { session }).await;
        Ok::<(), Refused>(())
    };
    match closed.await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refused) => challenge_response(&app, &parts, refused),
    }
}
