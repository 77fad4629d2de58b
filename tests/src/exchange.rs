//! One request and what comes back on its connection: a JSON body, or server-sent events, read one by
//! one as they arrive. Dropping it closes the connection.

use std::collections::VecDeque;
use std::time::Duration;

use reqwest::Response;
use reqwest::header::HeaderMap;
use serde_json::Value;

use crate::answer::shortened;

/// How long the next message may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Exchange {
    pub sent: String,
    pub status: u16,
    pub headers: HeaderMap,
    /// The notifications and requests that came before the answer.
    pub heard: Vec<Value>,
    /// The id of the last event, to go on from it.
    pub last_event: Option<String>,
    id: Value,
    response: Response,
    unread: Vec<u8>,
    events: VecDeque<Event>,
    /// All that came, for a failed expectation.
    seen: Vec<u8>,
    is_stream: bool,
}

struct Event {
    id: Option<String>,
    text: String,
}

/// Why there is no next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    TimedOut,
    /// The server ended the answer.
    Ended,
    /// The connection broke.
    Broken,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (sent, seen) = (shortened(self.sent.as_bytes()), shortened(&self.seen));
        write!(formatter, "\n  sent: {sent}\n  status: {} {:?}\n  came: {seen}", self.status, self.headers)
    }
}

impl Exchange {
    pub fn new(sent: String, id: Value, response: Response) -> Exchange {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is_stream = kind.starts_with("text/event-stream");
        Exchange {
            sent,
            status,
            headers,
            heard: Vec::new(),
            last_event: None,
            id,
            response,
            unread: Vec::new(),
            events: VecDeque::new(),
            seen: Vec::new(),
            is_stream,
        }
    }

    pub fn is_stream(&self) -> bool {
        self.is_stream
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The text of the next message, with the id of its event if it has one.
    pub async fn next_text(&mut self, at_most: Duration) -> Result<String, Silence> {
        let until = tokio::time::Instant::now() + at_most;
        loop {
            while let Some(event) = self.events.pop_front() {
                self.last_event = event.id.or(self.last_event.take());
                // An event without data only tells where a stream begins.
                if !event.text.is_empty() {
                    return Ok(event.text);
                }
            }
            match tokio::time::timeout_at(until, self.response.chunk()).await {
                Err(_) => return Err(Silence::TimedOut),
                Ok(Err(_)) => return Err(Silence::Broken),
                Ok(Ok(Some(chunk))) => self.take(&chunk),
                Ok(Ok(None)) if !self.is_stream && !self.unread.is_empty() => {
                    let body = std::mem::take(&mut self.unread);
                    return Ok(String::from_utf8_lossy(&body).into_owned());
                }
                Ok(Ok(None)) => return Err(Silence::Ended),
            }
        }
    }

    fn take(&mut self, chunk: &[u8]) {
        if self.seen.len() < 65_536 {
            self.seen.extend_from_slice(chunk);
        }
        self.unread.extend_from_slice(chunk);
        while self.is_stream
            && let Some(end) = self.unread.windows(2).position(|pair| pair == b"\n\n")
        {
            let event: Vec<u8> = self.unread.drain(..end + 2).collect();
            let (mut id, mut data) = (None, Vec::new());
            for line in String::from_utf8_lossy(&event).lines() {
                if let Some(found) = line.strip_prefix("data:") {
                    data.push(found.strip_prefix(' ').unwrap_or(found).to_owned());
                } else if let Some(found) = line.strip_prefix("id:") {
                    id = Some(found.trim().to_owned());
                }
            }
            if id.is_some() || !data.is_empty() {
                self.events.push_back(Event { id, text: data.join("\n") });
            }
        }
    }

    pub async fn next_within(&mut self, at_most: Duration) -> Result<Value, Silence> {
        let text = self.next_text(at_most).await?;
        match serde_json::from_str(&text) {
            Ok(message) => Ok(message),
            Err(error) => panic!("a message should be JSON: {error}: {self:?}"),
        }
    }

    /// The next message, which must come.
    #[track_caller]
    pub fn message(&mut self) -> impl Future<Output = Value> {
        let place = std::panic::Location::caller();
        async move {
            match self.next_within(PATIENCE).await {
                Ok(message) => message,
                Err(silence) => panic!("no message came ({silence:?}), asked at {place}: {self:?}"),
            }
        }
    }

    /// The next message with this method; others are put to what was heard.
    #[track_caller]
    pub fn next_of(&mut self, method: &str) -> impl Future<Output = Value> {
        let (place, until) = (std::panic::Location::caller(), tokio::time::Instant::now() + PATIENCE);
        async move {
            loop {
                let left = until.saturating_duration_since(tokio::time::Instant::now());
                match self.next_within(left).await {
                    Ok(message) if message["method"] == method => return message,
                    Ok(message) => self.heard.push(message),
                    Err(silence) => panic!("no {method} came ({silence:?}), asked at {place}: {self:?}"),
                }
            }
        }
    }

    /// All messages that come until it is quiet for so long, or ended.
    pub async fn rest(&mut self, quiet: Duration) -> Vec<Value> {
        let mut all = Vec::new();
        while let Ok(message) = self.next_within(quiet).await {
            all.push(message);
        }
        all
    }

    /// The response to the request; what comes before is put to what was heard.
    #[track_caller]
    pub fn answer(&mut self) -> impl Future<Output = Value> {
        let place = std::panic::Location::caller();
        async move {
            loop {
                let message = match self.next_within(PATIENCE).await {
                    Ok(message) => message,
                    Err(silence) => panic!("no answer came ({silence:?}), asked at {place}: {self:?}"),
                };
                if message["method"].is_null() {
                    let own = message["id"] == self.id || message["id"].is_null();
                    assert!(own && message["jsonrpc"] == "2.0", "the answer is to this request: {self:?}");
                    return message;
                }
                self.heard.push(message);
            }
        }
    }

    #[track_caller]
    pub fn result(&mut self) -> impl Future<Output = Value> {
        let place = std::panic::Location::caller();
        async move {
            let mut answer = self.answer().await;
            assert!(answer["result"].is_object(), "{place}: the answer should be a result: {self:?}");
            answer["result"].take()
        }
    }

    #[track_caller]
    pub fn error(&mut self) -> impl Future<Output = Value> {
        let place = std::panic::Location::caller();
        async move {
            let mut answer = self.answer().await;
            assert!(answer["error"].is_object(), "{place}: the answer should be an error: {self:?}");
            answer["error"].take()
        }
    }

    /// The text of a tool's result.
    #[track_caller]
    pub fn text(&mut self) -> impl Future<Output = String> {
        let result = self.result();
        async move { result.await["content"][0]["text"].as_str().unwrap_or_default().to_owned() }
    }
}
