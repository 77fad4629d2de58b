//! Exchange of one request for its answer: what the server sends meanwhile on its stream, a stream that breaks
//! and goes on, a caller who goes away.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::mcp::method;
use protocol::{Code, Refusal};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::client::{Events, Reply, StreamPosition};
use super::connection::HttpConnection;
use super::failure::Trouble;
use crate::backoff::Backoff;
use crate::egress::{EgressError, Method};
use crate::peer::Connection;
use crate::peer::message;
use crate::peer::router::Stream;
use crate::upstream::{Listener, UpstreamAnswer, UpstreamRequest};

/// Failed attempts in a row to resume a broken stream.
const FAILED_RESUMES: u32 = 5;
/// Resumptions in a row that bring nothing.
const EMPTY_RESUMES: u32 = 200;
/// The pause before it, when the server names none, and the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Sends a request and waits for its answer. A dropped future cancels the request at the server.
pub async fn run(
    connection: &Arc<HttpConnection>,
    request: &UpstreamRequest<'_>,
) -> Result<UpstreamAnswer, Trouble> {
    if !connection.state.is_open() {
        return Err(Trouble::from_refusal(connection.state.reason(), false));
    }
    let exchange = Exchange::new(connection, request);
    let work = tokio::time::timeout_at(request.deadline.into(), exchange.work(request));
    let outcome = tokio::select! {
        biased;
        outcome = work => outcome,
        () = connection.state.closed.cancelled() => Ok(Err(Trouble::from_refusal(connection.state.reason(), true))),
    };
    let late =
        || Trouble::new(Code::TimedOut, format!("`{}` did not answer in time", connection.server()), true);
    let outcome = outcome.unwrap_or_else(|_| Err(late()));
    let lost = outcome.as_ref().is_err_and(|trouble| trouble.failure.refusal.code == Code::TimedOut);
    if !lost {
        exchange.answered();
    }
    outcome
}

struct Exchange<'a> {
    connection: &'a Arc<HttpConnection>,
    id: u64,
    listener: Option<&'a Arc<dyn Listener>>,
    /// Cancelled with the request: server requests on this stream are void then.
    over: CancellationToken,
    _over: DropGuard,
    give_up: GiveUp<'a>,
}

/// Dropped, it tells the server that nobody waits any more.
struct GiveUp<'a> {
    connection: &'a HttpConnection,
    id: u64,
    armed: bool,
}

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let params = format!(r#"{{"requestId":{},"reason":"nobody waits for it any more"}}"#, self.id);
        self.connection.notify(method::CANCELLED, params.as_bytes());
    }
}

impl<'a> Exchange<'a> {
    fn new(connection: &'a Arc<HttpConnection>, request: &UpstreamRequest<'a>) -> Self {
        let id = connection.next_id();
        let over = CancellationToken::new();
        // In the modern era the end of the stream says it, and a handshake must not be cancelled.
        let cancellable = connection.is_legacy() && request.method != method::INITIALIZE;
        let give_up = GiveUp { connection, id, armed: cancellable };
        Self { connection, id, listener: request.listener, _over: over.clone().drop_guard(), over, give_up }
    }

    /// Ends it with an answer: there is nothing to give up any more.
    fn answered(mut self) {
        self.give_up.armed = false;
    }

    async fn work(&self, request: &UpstreamRequest<'_>) -> Result<UpstreamAnswer, Trouble> {
        let connection = self.connection;
        let _registration = connection.register(self.id, request);
        let body: Bytes = message::request(self.id, request.method, request.params).into();
        let params = request.params.contiguous();
        let headers = connection.headers(request.method, &params, request.headers);
        let sent = connection.client.send(Method::POST, headers, Some(body), Some(request.deadline)).await;
        let (reply, headers) = sent.map_err(|trouble| self.judged(trouble))?;
        if request.method == method::INITIALIZE {
            connection.begin_session(&headers);
        }
        match reply {
            Reply::Json(text) => match connection.take(&text, Some(self.id), self.stream()) {
                Some(answer) => answer.map_err(unreadable),
                None => match message::error_of(&text) {
                    Some((None, error)) => Ok(UpstreamAnswer::Error(message::slice(&text, error))),
                    _ => Err(self.no_answer(&text)),
                },
            },
            Reply::Events(events) => self.follow(events).await,
            Reply::Nothing => Err(self.failed("took the request and gave no answer")),
            Reply::Explained { status, id, error } => {
                if connection.is_legacy() && self.is_about_session(status, id, &error) {
                    return Err(self.session_lost());
                }
                connection.note_repair(&error, &error);
                Ok(UpstreamAnswer::Error(error))
            }
        }
    }

    fn stream(&self) -> Stream<'_> {
        Stream::OfRequest { listener: self.listener, over: &self.over }
    }

    /// The body is no answer, or one to another request.
    fn no_answer(&self, text: &[u8]) -> Trouble {
        let original = String::from_utf8_lossy(text);
        let shown = (!self.connection.may_be_anothers(text, self.id)).then_some(&*original);
        unreadable(message::unreadable(self.connection.server(), "it is no answer to the request", shown))
    }

    /// Reads the stream to the answer. Where the server gave ids, one that breaks before goes on.
    async fn follow(&self, mut events: Box<Events>) -> Result<UpstreamAnswer, Trouble> {
        let (mut failed, mut empty, mut position) = (0, 0, StreamPosition::default());
        let mut pause = Backoff::new(PAUSE, LONGEST_PAUSE);
        loop {
            let broken = loop {
                match events.next_message().await {
                    Ok(Some(text)) => {
                        (failed, empty) = (0, 0);
                        let answer = self.connection.take(&text, Some(self.id), self.stream());
                        if let Some(answer) = answer {
                            self.connection.plan.tasks.spawn(events.finish());
                            return answer.map_err(unreadable);
                        }
                    }
                    Ok(None) => break None,
                    Err(error) => break Some(error),
                }
            };
            position.advance(&events);
            let given_up = matches!(broken, Some(EgressError::TooLarge { .. }))
                || !self.connection.is_legacy()
                || position.last_event_id.is_none()
                || empty >= EMPTY_RESUMES;
            if given_up {
                return Err(match broken {
                    Some(error) => self.connection.client.unreached(&error),
                    None => self.failed("closed the stream without an answer"),
                });
            }
            empty += 1;
            events = self.resume(&position, &mut pause, &mut failed).await?;
        }
    }

    async fn resume(
        &self,
        position: &StreamPosition,
        pause: &mut Backoff,
        failed: &mut u32,
    ) -> Result<Box<Events>, Trouble> {
        loop {
            let first = position.retry.unwrap_or(PAUSE).min(LONGEST_PAUSE);
            tokio::time::sleep(pause.pause_from(first)).await;
            let headers = position.headers(self.connection.session_headers());
            let trouble = match self.connection.client.send(Method::GET, headers, None, None).await {
                Ok((Reply::Events(events), _)) => {
                    // A server may close its stream again and again until it has an answer.
                    pause.reset();
                    return Ok(events);
                }
                Ok(_) => {
                    return Err(self.failed("closed the stream without an answer and does not go on with it"));
                }
                Err(trouble) => self.judged(trouble),
            };
            *failed += 1;
            if *failed >= FAILED_RESUMES || trouble.is_a_no() || !self.connection.state.is_open() {
                return Err(Trouble {
                    failure: crate::upstream::Failure { sent: true, ..trouble.failure },
                    ..trouble
                });
            }
        }
    }

    /// A 404 within a session ends it; nothing was done, so another session may try again.
    fn judged(&self, trouble: Trouble) -> Trouble {
        if self.connection.is_session_lost(trouble.status) { self.session_lost() } else { trouble }
    }

    fn session_lost(&self) -> Trouble {
        self.connection.lose_session();
        Trouble::from_refusal(self.connection.state.reason(), false)
    }

    /// Besides 404, older servers say it with 400 and a sentence.
    fn is_about_session(&self, status: u16, id: Option<u64>, error: &[u8]) -> bool {
        let says = || String::from_utf8_lossy(error).to_ascii_lowercase().contains("session");
        self.connection.is_session_lost(Some(status)) && id.is_none()
            || self.connection.has_session() && status == 400 && id.is_none() && says()
    }

    fn failed(&self, what: &str) -> Trouble {
        let reason = format!("`{}` {what}", self.connection.server());
        Trouble { no_answer: true, ..Trouble::new(Code::UpstreamFailed, reason, true) }
    }
}

/// The server answered in time with something that is not MCP.
fn unreadable(refusal: Refusal) -> Trouble {
    Trouble { no_answer: true, ..Trouble::from_refusal(refusal, true) }
}
