//! One request and what comes of it: its answer, what is said and asked meanwhile on its stream, a stream
//! that breaks and goes on, a caller who goes away.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::mcp::{header as names, method};
use protocol::{Code, Refusal};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::audience::Whose;
use super::failure::Trouble;
use super::line::{Events, Reply};
use super::link::Link;
use crate::backoff::Backoff;
use crate::egress::header::HeaderValue;
use crate::egress::{EgressError, Method};
use crate::message;
use crate::upstream::{UpstreamAnswer, UpstreamRequest};

/// How often in a row it is tried in vain to go on with a broken stream.
const FAILED_RESUMES: u32 = 5;
/// How often in a row a stream may go on without bringing anything.
const EMPTY_RESUMES: u32 = 200;
/// The pause before it, when the server names none, and the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Sends a request and waits for its answer. When the future is dropped the server is told so.
pub async fn run(link: &Arc<Link>, request: &UpstreamRequest<'_>) -> Result<UpstreamAnswer, Trouble> {
    if !link.is_open() {
        return Err(Trouble::from_refusal(link.reason(), false));
    }
    let exchange = Exchange::new(link, request);
    let work = tokio::time::timeout_at(request.deadline.into(), exchange.work(request));
    let outcome = tokio::select! {
        biased;
        outcome = work => outcome,
        () = link.closed.cancelled() => Ok(Err(Trouble::from_refusal(link.reason(), true))),
    };
    let late = || Trouble::new(Code::TimedOut, format!("`{}` did not answer in time", link.who()), true);
    let outcome = outcome.unwrap_or_else(|_| Err(late()));
    let lost = outcome.as_ref().is_err_and(|trouble| trouble.failure.refusal.code == Code::TimedOut);
    if !lost {
        exchange.over();
    }
    outcome
}

struct Exchange<'a> {
    link: &'a Arc<Link>,
    id: u64,
    whose: Whose<'a>,
    /// What the server asks on this stream is void when the request is over.
    scope: CancellationToken,
    _end_of_scope: DropGuard,
    give_up: GiveUp<'a>,
}

/// Dropped, it tells the server that nobody waits any more.
struct GiveUp<'a> {
    link: &'a Link,
    id: u64,
    armed: bool,
}

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let params = format!(r#"{{"requestId":{},"reason":"nobody waits for it any more"}}"#, self.id);
        self.link.notify(method::CANCELLED, params.as_bytes());
    }
}

impl<'a> Exchange<'a> {
    fn new(link: &'a Arc<Link>, request: &UpstreamRequest<'a>) -> Self {
        let id = link.next_id();
        let scope = CancellationToken::new();
        // In the modern era the end of the stream says it, and a handshake must not be cancelled.
        let cancellable = link.is_legacy() && request.method != method::INITIALIZE;
        let give_up = GiveUp { link, id, armed: cancellable };
        let whose = Whose::Request(request.listener);
        Self { link, id, whose, _end_of_scope: scope.clone().drop_guard(), scope, give_up }
    }

    /// There is nothing to give up any more.
    fn over(mut self) {
        self.give_up.armed = false;
    }

    async fn work(&self, request: &UpstreamRequest<'_>) -> Result<UpstreamAnswer, Trouble> {
        let link = self.link;
        let _seat = link.audience.sit(self.id, request);
        let body: Bytes = message::request(self.id, request.method, request.params).into();
        let params = request.params.contiguous();
        let headers = link.headers(request.method, &params, request.headers);
        let sent = link.line.send(Method::POST, headers, Some(body), Some(request.deadline)).await;
        let (reply, headers) = sent.map_err(|trouble| self.judged(trouble))?;
        if request.method == method::INITIALIZE {
            link.begin_session(&headers);
        }
        match reply {
            Reply::Json(text) => match link.take(&text, Some(self.id), self.whose, &self.scope) {
                Some(answer) => answer.map_err(unreadable),
                None => match message::error_of(&text) {
                    Some((None, error)) => Ok(UpstreamAnswer::Error(message::slice(&text, error))),
                    _ => Err(self.no_answer(&text)),
                },
            },
            Reply::Events(events) => self.follow(events).await,
            Reply::Nothing => Err(self.failed("took the request and gave no answer")),
            Reply::Explained { status, id, error } => {
                if link.is_legacy() && self.is_about_session(status, id, &error) {
                    return Err(self.session_lost());
                }
                link.note_repair(&error, &error);
                Ok(UpstreamAnswer::Error(error))
            }
        }
    }

    /// The body is no answer, or one to another request.
    fn no_answer(&self, text: &[u8]) -> Trouble {
        let original = String::from_utf8_lossy(text);
        let shown = (!self.link.may_be_anothers(text, self.id)).then_some(&*original);
        unreadable(message::unreadable(self.link.who(), "it is no answer to the request", shown))
    }

    /// Reads the stream to the answer. Where the server gave ids, one that breaks before goes on.
    async fn follow(&self, mut events: Box<Events>) -> Result<UpstreamAnswer, Trouble> {
        let (mut failed, mut empty, mut last_id, mut retry) = (0, 0, None::<String>, None);
        let mut pause = Backoff::new(PAUSE, LONGEST_PAUSE);
        loop {
            let broken = loop {
                match events.next_message().await {
                    Ok(Some(text)) => {
                        (failed, empty) = (0, 0);
                        let answer = self.link.take(&text, Some(self.id), self.whose, &self.scope);
                        if let Some(answer) = answer {
                            self.link.plan.tasks.spawn(events.finish());
                            return answer.map_err(unreadable);
                        }
                    }
                    Ok(None) => break None,
                    Err(error) => break Some(error),
                }
            };
            last_id = events.last_event_id().map(str::to_owned).or(last_id);
            retry = events.retry().or(retry);
            let given_up = match &broken {
                Some(EgressError::TooLarge { .. }) => true,
                Some(_) | None => !self.link.is_legacy() || last_id.is_none() || empty >= EMPTY_RESUMES,
            };
            let Some(id) = last_id.as_deref().filter(|_| !given_up) else {
                return Err(match broken {
                    Some(error) => self.link.line.unreached(&error),
                    None => self.failed("closed the stream without an answer"),
                });
            };
            empty += 1;
            events = self.resume(id, retry, &mut pause, &mut failed).await?;
        }
    }

    async fn resume(
        &self,
        id: &str,
        retry: Option<Duration>,
        pause: &mut Backoff,
        failed: &mut u32,
    ) -> Result<Box<Events>, Trouble> {
        loop {
            let first = retry.unwrap_or(PAUSE).min(LONGEST_PAUSE);
            tokio::time::sleep(pause.pause_from(first)).await;
            let mut headers = self.link.session_headers();
            if let Ok(id) = HeaderValue::from_str(id) {
                headers.insert(names::LAST_EVENT_ID, id);
            }
            let trouble = match self.link.line.send(Method::GET, headers, None, None).await {
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
            if *failed >= FAILED_RESUMES || trouble.is_a_no() || !self.link.is_open() {
                return Err(Trouble {
                    failure: crate::upstream::Failure { sent: true, ..trouble.failure },
                    ..trouble
                });
            }
        }
    }

    /// A 404 within a session ends it; nothing was done, so another session may try again.
    fn judged(&self, trouble: Trouble) -> Trouble {
        if self.link.is_session_lost(trouble.status) { self.session_lost() } else { trouble }
    }

    fn session_lost(&self) -> Trouble {
        self.link.lose_session();
        Trouble::from_refusal(self.link.reason(), false)
    }

    /// Besides 404, older servers say it with 400 and a sentence.
    fn is_about_session(&self, status: u16, id: Option<u64>, error: &[u8]) -> bool {
        let says = || String::from_utf8_lossy(error).to_ascii_lowercase().contains("session");
        self.link.is_session_lost(Some(status)) && id.is_none()
            || self.link.has_session() && status == 400 && id.is_none() && says()
    }

    fn failed(&self, what: &str) -> Trouble {
        let reason = format!("`{}` {what}", self.link.who());
        Trouble { no_answer: true, ..Trouble::new(Code::UpstreamFailed, reason, true) }
    }
}

/// The server answered in time with something that is not MCP.
fn unreadable(refusal: Refusal) -> Trouble {
    Trouble { no_answer: true, ..Trouble::from_refusal(refusal, true) }
}
