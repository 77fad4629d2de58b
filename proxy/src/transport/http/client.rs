//! HTTP client of one MCP endpoint: a request, and the reply as JSON, a stream of events, nothing, or a
//! status. Eras and sessions are its callers' concern.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use protocol::mcp::header as names;
use protocol::{Code, Refusal};

use super::failure::{self, Trouble};
use super::headers;
use super::sse::{Event, Parser};
use crate::egress::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use crate::egress::{Egress, EgressError, Method, Response, Url, next_chunk, read_limited};
use crate::peer::message;
use crate::server::RemoteLaunch;

/// The most bytes of the body that comes with a status.
const ERROR_CAP: usize = 1 << 20;
/// Without a byte for this long a stream counts as broken.
const SILENCE: Duration = Duration::from_secs(600);
/// Time for the end of a stream after its answer, and the number of events until then.
const FINISH: Duration = Duration::from_secs(1);
const LITTLE: usize = 16;
/// A time that stands for no time-out.
const EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Address of a server, and the headers of every request.
#[derive(Clone)]
pub struct HttpClient {
    pub server: Arc<str>,
    pub egress: Egress,
    pub url: Url,
    /// Without a byte for this long a stream counts as broken.
    pub silence: Duration,
    /// The messages are those of a client, which reads errors about its credentials and limits itself.
    pub is_forwarding: bool,
    own: HeaderMap,
    message_cap: usize,
}

/// The reply.
pub enum Reply {
    Json(Bytes),
    Events(Box<Events>),
    /// A success without a body: it was taken, or there is nothing to say.
    Nothing,
    /// A status with the JSON-RPC error that explains it.
    Explained {
        status: u16,
        id: Option<u64>,
        error: Bytes,
    },
}

impl HttpClient {
    pub fn new(
        server: &Arc<str>,
        egress: &Egress,
        launch: &RemoteLaunch,
        cap: usize,
    ) -> Result<HttpClient, Refusal> {
        let wrong = |reason: String| Refusal::new(Code::NotConfigured, format!("`{server}`: {reason}"));
        let url =
            Url::parse(&launch.url).map_err(|error| wrong(format!("its URL cannot be read: {error}")))?;
        let own = headers::own(&launch.headers).map_err(wrong)?;
        Ok(HttpClient {
            server: server.clone(),
            egress: egress.clone(),
            url,
            silence: SILENCE,
            is_forwarding: false,
            own,
            message_cap: cap,
        })
    }

    /// The same for another place.
    pub fn at(&self, url: Url) -> HttpClient {
        HttpClient { url, ..self.clone() }
    }

    /// Sends a request; without a deadline it may take for ever. Returns the reply and its headers.
    ///
    /// # Errors
    /// The reason why there is no reply: the network, or a status without a JSON-RPC error.
    pub async fn send(
        &self,
        method: Method,
        extra: HeaderMap,
        body: Option<Bytes>,
        deadline: Option<Instant>,
    ) -> Result<(Reply, HeaderMap), Trouble> {
        let accept = match &body {
            Some(_) => "application/json, text/event-stream",
            None => "text/event-stream",
        };
        let patience = deadline.map_or(EVER, |deadline| deadline.saturating_duration_since(Instant::now()));
        let request = self.egress.request(method, &self.url).map_err(|error| self.unreached(&error))?;
        let mut request = request
            .headers(self.own.clone())
            .headers(extra)
            .header(ACCEPT, HeaderValue::from_static(accept))
            .timeout(patience);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json")).body(body);
        }
        let response = self.egress.send(request).await.map_err(|error| self.unreached(&error))?;
        let headers = response.headers().clone();
        Ok((self.read(response).await?, headers))
    }

    async fn read(&self, response: Response) -> Result<Reply, Trouble> {
        let status = response.status();
        if !status.is_success() {
            return self.read_status(response).await;
        }
        let kind =
            response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if kind == "text/event-stream" {
            let events = Events::new(response, self.message_cap, self.silence);
            return Ok(Reply::Events(Box::new(events)));
        }
        let body = read_limited(response, self.message_cap).await.map_err(|error| self.unreached(&error))?;
        let is_nothing = body.trim_ascii().is_empty() || matches!(status.as_u16(), 202 | 204);
        Ok(if is_nothing { Reply::Nothing } else { Reply::Json(body) })
    }

    /// Reads a status that is no success; a JSON-RPC error in the body is the reply.
    async fn read_status(&self, response: Response) -> Result<Reply, Trouble> {
        let (status, wait) = (response.status().as_u16(), failure::retry_after(&response));
        if self.is_forwarding || !matches!(status, 401 | 403 | 429) {
            let body = read_limited(response, ERROR_CAP).await.unwrap_or_default();
            if let Some((id, error)) = message::error_of(&body) {
                return Ok(Reply::Explained { status, id, error: message::slice(&body, error) });
            }
        }
        Err(failure::status(&self.server, status, wait))
    }

    pub fn unreached(&self, error: &EgressError) -> Trouble {
        failure::unreached(&self.server, error)
    }
}

/// A stream of events as it comes.
pub struct Events {
    response: Response,
    parser: Parser,
    ready: VecDeque<Event>,
    read: Vec<Event>,
    cap: usize,
    silence: Duration,
}

/// Place in a stream of events behind which a GET goes on with it ("Resumability and Redelivery", 2025-11-25).
#[derive(Default)]
pub struct StreamPosition {
    pub last_event_id: Option<HeaderValue>,
    /// The pause before the GET that the server names.
    pub retry: Option<Duration>,
}

impl StreamPosition {
    /// Moves to the last event that was read; a stream without ids leaves the position as it is.
    pub fn advance(&mut self, events: &Events) {
        let id = events.parser.last_event_id().and_then(|id| HeaderValue::from_str(id).ok());
        self.last_event_id = id.or(self.last_event_id.take());
        self.retry = events.retry().or(self.retry);
    }

    /// Adds `Last-Event-ID` to the headers of the GET.
    pub fn headers(&self, mut headers: HeaderMap) -> HeaderMap {
        if let Some(id) = &self.last_event_id {
            headers.insert(names::LAST_EVENT_ID, id.clone());
        }
        headers
    }
}

impl Events {
    fn new(response: Response, cap: usize, silence: Duration) -> Self {
        // The envelope and the names of the fields come on top of a message.
        let parser = Parser::new(cap.saturating_add(1024));
        Self { response, parser, ready: VecDeque::new(), read: Vec::new(), cap, silence }
    }

    /// The next event; none at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<Event>, EgressError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let piece = tokio::time::timeout(self.silence, next_chunk(&mut self.response)).await;
            let silent = |_| EgressError::TimedOut { host: self.host() };
            let Some(piece) = piece.map_err(silent)?? else { return Ok(None) };
            let fed = self.parser.feed(&piece, &mut self.read);
            self.ready.extend(self.read.drain(..));
            if fed.is_err() {
                return Err(EgressError::TooLarge { host: self.host(), limit: self.cap });
            }
        }
    }

    /// The next message that is not empty, as JSON text, or the end.
    pub async fn next_message(&mut self) -> Result<Option<Bytes>, EgressError> {
        loop {
            match self.next().await? {
                Some(event) if event.is_message() && !event.data.is_empty() => {
                    return Ok(Some(event.data.into()));
                }
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    /// Reads what little follows the answer, so that the connection can be used again.
    pub async fn finish(mut self: Box<Self>) {
        let rest = async {
            for _ in 0..LITTLE {
                if !matches!(self.next().await, Ok(Some(_))) {
                    return;
                }
            }
        };
        tokio::time::timeout(FINISH, rest).await.ok();
    }

    fn host(&self) -> String {
        self.response.url().host_str().unwrap_or_default().to_owned()
    }

    pub fn retry(&self) -> Option<Duration> {
        self.parser.retry()
    }
}
