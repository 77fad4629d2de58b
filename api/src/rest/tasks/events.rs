//! `GET /v1/tasks/{id}/events`: events of a task as server-sent events or WebSocket messages.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use entity::collab::Event;
use futures_util::stream;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use protocol::{Code, Refusal, Scope};
use proxy::http::sse::{self, Outgoing};
use proxy::websocket::server::{self, Closed, ServerSocket};
use servers::collab::Feed;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::authn::Owner;
use crate::http::headers::LAST_EVENT_ID;
use crate::http::listener::ConnectionPermit;
use crate::http::problem::Problem;
use crate::http::sse::streaming;
use crate::http::stream_credential::StreamCredential;
use crate::rest::acting::Acting;
use crate::rest::describe::{Always, Filtered, Named};
use crate::rest::input::{Name, Parameters};
use crate::rest::tasks::{agent, cursor};
use crate::session::stream_quota::StreamPermit;

/// Time without an event before a comment or a ping.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Time before a client reconnects.
const RETRY: Duration = Duration::from_secs(1);

/// Follows the events of a task, from the first one after `Last-Event-ID` or `after`.
///
/// Each event is `id: <seq>`, `event: <kind>` and the event as JSON. As a WebSocket, each message is the event
/// as JSON. Numbers have no gaps: who reconnects with the last one misses nothing. Needs `tasks:read`.
#[utoipa::path(
    get, path = "/v1/tasks/{id}/events", tag = "tasks",
    params(
        ("id" = String, Path, description = "The task's id."),
        ("after" = Option<u64>, Query, description = "The number of the last event that is known; 0 when not given."),
        ("Last-Event-ID" = Option<u64>, Header, description = "The same, as browsers send it; it counts before `after`."),
    ),
    responses(
        (status = 200, description = "The events.", content_type = "text/event-stream"),
        (status = 101, description = "A WebSocket of the events."),
        Always, Named, Filtered
    )
)]
pub async fn follow_task(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(id): Name,
    query: Parameters,
    request: Request,
) -> Result<Response, Problem> {
    let agent = agent(&acting, Scope::TasksRead)?;
    let mut query = query.read()?;
    let wanted = "is the number of the last event that is known";
    let after = query.optional("after", |text| cursor(text).ok_or_else(|| wanted.to_owned()));
    query.finish()?;
    let (mut parts, _) = request.into_parts();
    let last = crate::http::headers::single(&parts.headers, &LAST_EVENT_ID)?;
    let last = last.map(|last| {
        let number = last.to_str().ok().and_then(cursor);
        number.ok_or_else(|| Refusal::new(Code::BadRequest, format!("Last-Event-ID {wanted}")))
    });
    let last = last.transpose()?;
    let feed = app.collab.feed(agent, &id, last.or(after).unwrap_or_default()).await?;
    let key = websocket_key(&parts.method, &parts.headers)?;
    let connection = parts.extensions.remove::<ConnectionPermit>();
    let upgrade = key.and_then(|key| Some((server::accept(&key), parts.extensions.remove::<OnUpgrade>()?)));
    let permit = app.gateway.sessions.stream_quota.open(&acting.caller)?;
    let follow = Follow {
        feed,
        owner: Owner { tenant: acting.tenant(), agent: acting.caller.agent },
        credential: StreamCredential::new(Arc::clone(&app), Arc::new(parts), Scope::TasksRead),
        stopping: app.stopping.clone(),
        _permit: (permit, connection),
    };
    Ok(match upgrade {
        Some((accept, upgrade)) => {
            app.tasks.spawn(follow.over_websocket(upgrade));
            switched(&accept)
        }
        None => follow.into_sse(),
    })
}

/// A reader of a task's events.
struct Follow {
    feed: Feed,
    owner: Owner,
    credential: StreamCredential,
    stopping: CancellationToken,
    _permit: (StreamPermit, Option<ConnectionPermit>),
}

/// Next message of a reader.
enum Next {
    Events(Vec<Event>),
    /// Nothing for a while.
    Quiet,
    /// The task is gone, the credential is over, or the gateway stops.
    End,
}

impl Follow {
    async fn next(&mut self) -> Next {
        let quiet = Instant::now() + KEEP_ALIVE;
        loop {
            if !self.credential.is_still_allowed(self.owner).await {
                return Next::End;
            }
            let wake = quiet.min(self.credential.due());
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => return Next::End,
                events = self.feed.next() => {
                    return events.map_or(Next::End, Next::Events);
                }
                () = self.credential.changed() => {}
                () = tokio::time::sleep_until(wake.into()) => {
                    if Instant::now() >= quiet {
                        return Next::Quiet;
                    }
                }
            }
        }
    }

    fn into_sse(self) -> Response {
        let body = stream::unfold((self, false), |(mut follow, begun)| async move {
            let mut out = Vec::new();
            if !begun {
                sse::write(&mut out, &Outgoing { retry: Some(RETRY), ..Outgoing::default() });
                sse::comment(&mut out, "");
                return Some((Ok::<Bytes, Infallible>(out.into()), (follow, true)));
            }
            match follow.next().await {
                Next::Events(events) => events.iter().for_each(|event| write(&mut out, event)),
                Next::Quiet => sse::comment(&mut out, ""),
                Next::End => return None,
            }
            Some((Ok(out.into()), (follow, true)))
        });
        streaming(Body::from_stream(body))
    }

    async fn over_websocket(mut self, upgrade: OnUpgrade) {
        let upgraded = match upgrade.await {
            Ok(upgraded) => upgraded,
            Err(error) => return tracing::debug!(%error, "a connection did not become a WebSocket"),
        };
        let mut socket = ServerSocket::new(TokioIo::new(upgraded)).await;
        loop {
            let next = tokio::select! {
                next = self.next() => next,
                () = socket.closed() => return,
            };
            let sent = match next {
                Next::Events(events) => send(&mut socket, &events).await,
                Next::Quiet => socket.ping().await,
                Next::End => return socket.close().await,
            };
            if sent.is_err() {
                return;
            }
        }
    }
}

async fn send(socket: &mut ServerSocket<TokioIo<Upgraded>>, events: &[Event]) -> Result<(), Closed> {
    for event in events {
        socket.send(json(event)).await?;
    }
    Ok(())
}

fn write(out: &mut Vec<u8>, event: &Event) {
    let (id, data) = (event.seq.to_string(), json(event));
    let outgoing =
        Outgoing { event: Some(&event.kind), id: Some(&id), data: Some(&data), ..Outgoing::default() };
    sse::write(out, &outgoing);
}

fn json(event: &Event) -> String {
    serde_json::to_string(event).expect("an event is JSON")
}

/// Returns the key of a request that asks for a WebSocket (RFC 6455, section 4.2.1); none of any other.
fn websocket_key(method: &Method, headers: &HeaderMap) -> Result<Option<Vec<u8>>, Refusal> {
    let has = |name: HeaderName, word: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(word))
    };
    if !has(header::UPGRADE, "websocket") {
        return Ok(None);
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map(|key| key.as_bytes().to_vec());
    let fits = method == Method::GET
        && has(header::CONNECTION, "upgrade")
        && has(header::SEC_WEBSOCKET_VERSION, "13");
    let is_key = |key: &Vec<u8>| STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16);
    key.filter(|key| fits && is_key(key)).map(Some).ok_or_else(|| {
        let reason = "a WebSocket needs GET, `Connection: Upgrade`, a key of 16 bytes and version 13";
        Refusal::new(Code::BadRequest, reason)
    })
}

fn switched(accept: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept.parse().expect("Base64 is plain text"));
    response
}
