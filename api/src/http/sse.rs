//! Streams of server-sent events: numbered for clients that may come back, kept alive by comments, ended when
//! the client's credential is no longer valid.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use protocol::Scope;
use proxy::http::sse::{self, Outgoing};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::authn::Owner;
use crate::http::headers::ACCEL_BUFFERING;
use crate::http::stream_credential::StreamCredential;
use crate::session::stream::{Event, Reading, Stream};
use crate::session::stream_quota::StreamPermit;

/// Time without a message before a comment.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Time before a client reconnects.
const RETRY: Duration = Duration::from_secs(1);

/// Position of a reader: the id of an event is `mark-stream-number`. The mark is that of the replica which
/// numbered the event, new at each start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cursor {
    pub stream: u32,
    pub after: u64,
}

impl Cursor {
    pub fn start() -> Self {
        Self { stream: 0, after: 0 }
    }

    /// Reads a `Last-Event-ID`, and if this replica gave it: the numbers of other replicas mean nothing here.
    pub fn parse(id: &str, mark: &str) -> Option<(Self, bool)> {
        let (from, rest) = id.split_once('-')?;
        let (stream, after) = rest.split_once('-')?;
        Some((Self { stream: stream.parse().ok()?, after: after.parse().ok()? }, from == mark))
    }
}

/// Owner and credential of a stream, checked repeatedly.
pub struct Watch {
    pub app: Arc<App>,
    pub parts: Arc<Parts>,
    /// The owner of a stream that is long-lived from its beginning.
    pub owner: Option<Owner>,
    /// Cancelled when another reader took over, or the session ended.
    pub ended: Option<CancellationToken>,
    /// Permit of a stream whose request holds none.
    pub _permit: Option<StreamPermit>,
}

/// Aborts the task of a client that has disconnected.
pub struct AbortOnDrop(pub tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Reader {
    mark: Arc<str>,
    stream: Arc<Stream>,
    after: u64,
    begun: bool,
    stopping: CancellationToken,
    watch: Watch,
    credential: StreamCredential,
    /// Time of the last write.
    wrote_at: Instant,
    /// Task that ends with its reader.
    _work: Option<AbortOnDrop>,
    _reading: Reading,
}

/// Returns the response whose body is the stream.
pub fn response(
    stream: Arc<Stream>,
    cursor: Cursor,
    stopping: CancellationToken,
    watch: Watch,
    work: Option<AbortOnDrop>,
) -> Response {
    let mark = Arc::clone(&watch.app.gateway.dispatcher.bus.replica);
    let credential =
        StreamCredential::new(Arc::clone(&watch.app), Arc::clone(&watch.parts), Scope::ToolsCall);
    let reader = Reader {
        mark,
        _reading: stream.reading(),
        stream,
        after: cursor.after,
        begun: false,
        stopping,
        watch,
        credential,
        wrote_at: Instant::now(),
        _work: work,
    };
    let body = stream::unfold(reader, |mut reader| async move {
        let bytes = reader.next().await?;
        Some((Ok::<Bytes, std::convert::Infallible>(bytes), reader))
    });
    streaming(Body::from_stream(body))
}

/// Returns a response of server-sent events, which no proxy keeps back or stores.
pub fn streaming(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

impl Reader {
    async fn next(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        if !std::mem::replace(&mut self.begun, true)
            && let Some(number) = self.stream.number()
        {
            if !self.stream.may_be_empty() {
                // Clients of earlier revisions parse the empty data and give up (Gemini CLI 0.61).
                sse::comment(&mut out, "");
                return Some(out.into());
            }
            // A client needs an id to resume before the first message (SEP-1699).
            let id = format!("{}-{number}-{}", self.mark, self.after);
            sse::write(
                &mut out,
                &Outgoing { id: Some(&id), retry: Some(RETRY), data: Some(""), ..Outgoing::default() },
            );
            return Some(out.into());
        }
        let ended = self.watch.ended.clone().unwrap_or_default();
        loop {
            let owner = self.watch.owner.or_else(|| self.stream.owner());
            // The stream of a call ends with its answer.
            if let Some(owner) = owner
                && !self.credential.is_still_allowed(owner).await
            {
                return None;
            }
            let quiet = self.wrote_at + KEEP_ALIVE;
            let wake = owner.map_or(quiet, |_| self.credential.due().min(quiet));
            tokio::select! {
                biased;
                event = self.stream.next(self.after) => {
                    self.write(&mut out, &event?);
                    break;
                }
                () = ended.cancelled() => return None,
                () = self.stopping.cancelled() => return None,
                () = self.credential.changed(), if owner.is_some() => {}
                () = tokio::time::sleep_until(wake.into()) => {
                    if self.wrote_at.elapsed() >= KEEP_ALIVE {
                        sse::comment(&mut out, "");
                        break;
                    }
                }
            }
        }
        self.wrote_at = Instant::now();
        Some(out.into())
    }

    fn write(&mut self, out: &mut Vec<u8>, event: &Event) {
        self.after = event.number;
        let id = self.stream.number().map(|number| format!("{}-{number}-{}", self.mark, event.number));
        let data = String::from_utf8_lossy(&event.message);
        let outgoing =
            Outgoing { event: Some("message"), id: id.as_deref(), data: Some(&data), ..Outgoing::default() };
        sse::write(out, &outgoing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_events() {
        let cursor = Cursor { stream: 3, after: 17 };
        assert_eq!(Cursor::parse("m-3-17", "m"), Some((cursor, true)));
        assert_eq!(Cursor::parse("n-3-17", "m"), Some((cursor, false)));
        for bad in ["", "3-17", "m-3", "m-3-", "m--1", "m-a-b", "m-3-17-1", "m-99999999999-1"] {
            assert_eq!(Cursor::parse(bad, "m"), None, "{bad}");
        }
    }
}
