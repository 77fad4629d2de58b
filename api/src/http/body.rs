//! Request bodies. A body stays with its connection when the answer comes before the body was read: a small
//! one is read to its end, so that the connection is kept; after a larger one the connection is closed. Knows
//! no JSON.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::header::{CONNECTION, CONTENT_TYPE, EXPECT};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use parking_lot::Mutex;
use protocol::{Code, Refusal};

use crate::http::headers;
use crate::mcp::inbound::UnreadBody;

/// Most bytes that are read of a body although its request is refused.
const SMALL: usize = 64 << 10;

/// Time for a small body to arrive.
const SMALL_WITHIN: Duration = Duration::from_secs(1);

/// The body of one request, shared by its reader and its connection.
#[derive(Clone)]
pub struct RequestBody(Arc<Shared>);

struct Shared {
    incoming: Mutex<Option<Incoming>>,
    /// True if a reader polled the body.
    begun: AtomicBool,
    /// True if the client waits for `100 Continue`, which polling the body sends.
    expects_continue: bool,
    /// Announced length; for a body without one, its least length.
    announced: u64,
    has_length: bool,
}

impl RequestBody {
    pub fn new(incoming: Incoming, headers: &HeaderMap) -> Self {
        let hint = incoming.size_hint();
        Self(Arc::new(Shared {
            begun: AtomicBool::new(false),
            expects_continue: headers.contains_key(EXPECT),
            announced: hint.lower(),
            has_length: hint.exact().is_some(),
            incoming: Mutex::new(Some(incoming)),
        }))
    }

    /// Returns true if the body is announced as small enough to be read although its request is refused.
    pub fn is_small(&self) -> bool {
        self.0.has_length && self.0.announced <= SMALL as u64
    }

    /// Reads a small unread body, for the id of a refused request. None if the body is not small, does not
    /// arrive within a second, or waits for `100 Continue`.
    pub async fn read_small(&self) -> Option<Bytes> {
        if self.0.expects_continue || self.0.begun.load(Ordering::Relaxed) {
            return None;
        }
        let mut text = BytesMut::new();
        self.drain(|bytes| text.extend_from_slice(bytes)).await.then(|| text.freeze())
    }

    /// Prepares the connection for its next request, or announces its end (RFC 9112, section 9.6).
    pub async fn settle(&self, response: &mut Response) {
        let unasked = self.0.expects_continue && !self.0.begun.load(Ordering::Relaxed);
        let ended = match self.0.incoming.lock().as_ref() {
            None => true,
            Some(incoming) => incoming.is_end_stream(),
        };
        if !ended && (unasked || !self.drain(|_| ()).await) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        // Extensions of the request may live as long as its stream.
        self.0.incoming.lock().take();
    }

    /// Reads at most [`SMALL`] bytes within [`SMALL_WITHIN`]; returns true if that was the whole body.
    async fn drain(&self, mut take: impl FnMut(&Bytes)) -> bool {
        if self.0.announced > SMALL as u64 {
            return false;
        }
        let mut reader = self.clone();
        let reading = async {
            let mut bytes = 0;
            while let Some(frame) = reader.frame().await {
                let Ok(frame) = frame else { return false };
                if let Some(data) = frame.data_ref() {
                    bytes += data.len();
                    take(data);
                }
                if bytes > SMALL {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(SMALL_WITHIN, reading).await.unwrap_or(false)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.0.begun.store(true, Ordering::Relaxed);
        let mut incoming = self.0.incoming.lock();
        let Some(body) = incoming.as_mut() else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.incoming.lock().as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.incoming.lock().as_ref().map_or_else(SizeHint::new, Body::size_hint)
    }
}

/// Most bytes of a body that is copied.
const COPIED: usize = 2048;

/// Time for a body to arrive; a caller that sends a byte now and then must not hold memory.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// A JSON body of at most `limit` bytes, not read yet.
pub struct JsonBody<'a> {
    headers: &'a HeaderMap,
    body: axum::body::Body,
    is_small: bool,
    limit: usize,
}

impl<'a> JsonBody<'a> {
    pub fn new(parts: &'a Parts, body: axum::body::Body, limit: usize) -> Self {
        let is_small = parts.extensions.get::<RequestBody>().is_none_or(RequestBody::is_small);
        Self { headers: &parts.headers, body, is_small, limit }
    }
}

impl UnreadBody for JsonBody<'_> {
    fn is_small(&self) -> bool {
        self.is_small
    }

    async fn read(self) -> Result<Bytes, Refusal> {
        let kind = headers::single(self.headers, &CONTENT_TYPE)?;
        let json = kind.and_then(|value| value.to_str().ok()).is_some_and(is_json);
        if !json {
            return Err(Refusal::new(Code::UnsupportedMediaType, "the body must be JSON")
                .hint("send Content-Type: application/json"));
        }
        take(self.body, self.limit).await
    }
}

/// Reads a body of at most `limit` bytes.
pub async fn take(body: axum::body::Body, limit: usize) -> Result<Bytes, Refusal> {
    let read = tokio::time::timeout(BODY_WITHIN, Limited::new(body, limit).collect()).await;
    match read {
        Ok(Ok(body)) => Ok(own(body.to_bytes())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Refusal::new(Code::BodyTooLarge, format!("the body is larger than {limit} bytes"))
                .rule("server.max_body_bytes (MAX_BODY_BYTES)")
                .hint("send less, or ask the operator for a higher limit"))
        }
        Ok(Err(error)) => {
            Err(Refusal::new(Code::BadRequest, format!("the body did not arrive whole: {error}")))
        }
        Err(_) => {
            let seconds = BODY_WITHIN.as_secs();
            Err(Refusal::new(Code::BadRequest, format!("the body did not arrive within {seconds} s")))
        }
    }
}

/// Copies a small body: a slice would keep the connection's whole buffer as long as the request lasts.
fn own(body: Bytes) -> Bytes {
    if body.len() <= COPIED { Bytes::copy_from_slice(&body) } else { body }
}

/// Returns true for `application/json`, with or without parameters (RFC 9110, section 8.3).
pub fn is_json(content_type: &str) -> bool {
    content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}
