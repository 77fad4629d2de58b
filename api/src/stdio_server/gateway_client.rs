//! The way to the gateway: HTTP requests to one endpoint, and what comes back. It knows neither eras nor
//! sessions, and says what went wrong so that the client's user can mend it.

use std::collections::VecDeque;
use std::time::Duration;

use axum::http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue};
use bytes::Bytes;
use protocol::mcp::header as names;
use protocol::{Code, Refusal};
use proxy::egress::{Egress, EgressError, EgressSettings, Method, Response, Url, next_chunk, read_limited};
use proxy::http::sse::{Event, Parser};

use crate::http::headers::{AGENT, API_KEY};

/// The largest message that is taken from the gateway, bytes.
const MESSAGE_CAP: usize = 64 << 20;
/// The most that is read of what comes with a refusal, bytes.
const ERROR_CAP: usize = 1 << 20;
/// Until an answer begins. The gateway begins a stream when an answer takes its time, but for that to
/// `initialize`, before which a server may have to be started.
const BEGINS: Duration = Duration::from_secs(180);
/// Without a byte for this long a stream is broken: the gateway keeps it alive with comments.
const SILENCE: Duration = Duration::from_secs(90);
/// A time that stands for no time-out.
const EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// One endpoint of a gateway, and who speaks to it.
pub struct GatewayClient {
    egress: Egress,
    url: Url,
    /// Its address as it may be shown: a URL can hold a secret.
    pub shown: String,
    own: HeaderMap,
}

/// The reply.
pub struct Answered {
    pub status: u16,
    /// The session that begins with this answer.
    pub session: Option<HeaderValue>,
    pub reply: Reply,
}

pub enum Reply {
    /// A body that ought to be JSON-RPC, with whichever status.
    Json(Bytes),
    Events(Box<Events>),
    /// The message was accepted.
    Nothing,
    /// A status without a word of JSON-RPC.
    Refused(Refusal),
}

impl GatewayClient {
    /// The error is a sentence about what cannot be put into a header.
    pub fn new(url: Url, key: Option<&str>, agent: Option<&str>) -> Result<GatewayClient, String> {
        let mut own = HeaderMap::new();
        for (name, value) in [(API_KEY, key), (AGENT, agent)] {
            let Some(value) = value else { continue };
            let mut value = HeaderValue::from_str(value.trim())
                .map_err(|_| format!("what is to be sent as {name} holds what a header cannot"))?;
            value.set_sensitive(true);
            own.insert(name, value);
        }
        // The operator's own address, which may be private.
        let settings = EgressSettings { trusted: vec![url.clone()], ..EgressSettings::default() };
        let shown = format!("{}{}", url.origin().ascii_serialization(), url.path());
        Ok(GatewayClient { egress: Egress::new(settings), url, shown, own })
    }

    pub async fn post(&self, headers: HeaderMap, body: Bytes) -> Result<Answered, Refusal> {
        self.send(Method::POST, headers, Some(body)).await
    }

    pub async fn get(&self, headers: HeaderMap) -> Result<Answered, Refusal> {
        self.send(Method::GET, headers, None).await
    }

    pub async fn delete(&self, headers: HeaderMap) -> Result<Answered, Refusal> {
        self.send(Method::DELETE, headers, None).await
    }

    async fn send(
        &self,
        method: Method,
        headers: HeaderMap,
        body: Option<Bytes>,
    ) -> Result<Answered, Refusal> {
        let accept = if body.is_some() { "application/json, text/event-stream" } else { "text/event-stream" };
        let request = self.egress.request(method, &self.url).map_err(|error| self.unreached(&error))?;
        let mut request = request
            .headers(self.own.clone())
            .headers(headers)
            .header(ACCEPT, HeaderValue::from_static(accept))
            .timeout(EVER);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json")).body(body);
        }
        let late = |_| EgressError::TimedOut { host: self.host() };
        let response = tokio::time::timeout(BEGINS, self.egress.send(request))
            .await
            .map_err(late)
            .flatten()
            .map_err(|error| self.unreached(&error))?;
        let status = response.status().as_u16();
        let session = response.headers().get(names::SESSION).cloned();
        Ok(Answered { status, session, reply: self.read(response).await? })
    }

    async fn read(&self, response: Response) -> Result<Reply, Refusal> {
        let status = response.status();
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if status.is_success() && kind == "text/event-stream" {
            return Ok(Reply::Events(Box::new(Events::new(response))));
        }
        let wait = response.headers().get(RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.parse().ok());
        let cap = if status.is_success() { MESSAGE_CAP } else { ERROR_CAP };
        let body = read_limited(response, cap).await.map_err(|error| self.unreached(&error))?;
        if status.is_success() && body.trim_ascii().is_empty() {
            return Ok(Reply::Nothing);
        }
        // The gateway says what is wrong as JSON-RPC; what stands before it may say anything.
        if kind == "application/json" && matches!(body.trim_ascii_start().first(), Some(b'{' | b'[')) {
            return Ok(Reply::Json(body));
        }
        Ok(Reply::Refused(self.refused(status.as_u16(), wait)))
    }

    fn refused(&self, status: u16, wait: Option<u64>) -> Refusal {
        let reason = format!("{} answered with status {status} and nothing that can be read", self.shown);
        match status {
            401 => Refusal::new(Code::Unauthenticated, reason).hint("give a key of the gateway in MCP_KEY"),
            403 => Refusal::new(Code::MissingScope, reason).hint("this key may not do that here"),
            429 => {
                let refusal = Refusal::new(Code::RateLimited, reason);
                wait.map_or(refusal.clone(), |wait| refusal.retry_after(Duration::from_secs(wait)))
            }
            _ => Refusal::new(Code::UpstreamFailed, reason).hint("is MCP_GATEWAY_URL a gateway's address?"),
        }
    }

    pub fn unreached(&self, error: &EgressError) -> Refusal {
        let code = match error {
            EgressError::TimedOut { .. } => Code::TimedOut,
            error if error.sent() => Code::UpstreamFailed,
            _ => Code::UpstreamUnavailable,
        };
        Refusal::new(code, format!("the gateway at {} is away: {error}", self.shown))
            .hint("look whether it runs, and whether MCP_GATEWAY_URL is its address")
    }

    /// A stream that ended before what it was for.
    pub fn broken(&self) -> Refusal {
        let reason = format!("the gateway at {} ended the stream before its answer", self.shown);
        Refusal::new(Code::UpstreamFailed, reason)
            .hint("look whether it runs; whether it did the work is not known")
    }

    /// An answer that is none.
    pub fn no_answer(&self) -> Refusal {
        Refusal::new(Code::UpstreamFailed, format!("the gateway at {} gave no answer", self.shown))
    }

    fn host(&self) -> String {
        self.url.host_str().unwrap_or_default().to_owned()
    }
}

/// A stream of events as it comes.
pub struct Events {
    response: Response,
    parser: Parser,
    ready: VecDeque<Event>,
    read: Vec<Event>,
}

impl Events {
    fn new(response: Response) -> Self {
        Self { response, parser: Parser::new(MESSAGE_CAP), ready: VecDeque::new(), read: Vec::new() }
    }

    /// The next message; none at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<Bytes>, EgressError> {
        loop {
            if let Some(message) = self.pop() {
                return Ok(Some(message));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    fn pop(&mut self) -> Option<Bytes> {
        while let Some(event) = self.ready.pop_front() {
            if event.is_message() && !event.data.is_empty() {
                return Some(event.data.into());
            }
        }
        None
    }

    /// Reads the next piece; false at the end.
    async fn fill(&mut self) -> Result<bool, EgressError> {
        let host = || self.response.url().host_str().unwrap_or_default().to_owned();
        let (silent, too_large) = (
            EgressError::TimedOut { host: host() },
            EgressError::TooLarge { host: host(), limit: MESSAGE_CAP },
        );
        let piece = tokio::time::timeout(SILENCE, next_chunk(&mut self.response)).await;
        let Some(piece) = piece.map_err(|_| silent)?? else { return Ok(false) };
        let fed = self.parser.feed(&piece, &mut self.read);
        self.ready.extend(self.read.drain(..));
        fed.map(|()| true).map_err(|_| too_large)
    }

    pub fn last_event_id(&self) -> Option<&str> {
        self.parser.last_event_id()
    }

    pub fn retry(&self) -> Option<Duration> {
        self.parser.retry()
    }
}
