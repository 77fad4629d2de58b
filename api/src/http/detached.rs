//! Detached requests, which may outlive their connection, and their answers as streams.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::http::request::Parts;
use axum::response::Response;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::http::sse;
use crate::http::sse::Cursor;
use crate::mcp::response::{Handled, Replies};
use crate::pipeline::refused::Refused;
use crate::session::stream::Stream;

pub type Handling = Pin<Box<dyn Future<Output = Done> + Send>>;
pub type Done = Result<Handled, Refused>;

/// A request that is being handled. After its client disconnects, a legacy request is finished for a client
/// that comes back; a modern one is cancelled (basic/patterns/cancellation).
pub struct Lasting {
    app: Arc<App>,
    stream: Arc<Stream>,
    handling: Option<Handling>,
}

impl Lasting {
    pub fn new(app: &Arc<App>, stream: &Arc<Stream>, handling: Handling) -> Self {
        Self { app: Arc::clone(app), stream: Arc::clone(stream), handling: Some(handling) }
    }

    /// Takes the request out, to be finished elsewhere.
    pub fn take(&mut self) -> Option<Handling> {
        self.handling.take()
    }

    pub async fn next(&mut self) -> Done {
        let done = match &mut self.handling {
            Some(handling) => handling.await,
            None => std::future::pending().await,
        };
        self.handling = None;
        done
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        if let Some(handling) = self.handling.take()
            && self.stream.number().is_some()
        {
            self.stream.stay();
            self.app.tasks.spawn(finish(Arc::clone(&self.stream), handling));
        }
    }
}

/// Handles the request to its end, and sends the answer on the stream.
async fn finish(stream: Arc<Stream>, handling: Handling) {
    let mut out = Vec::new();
    match handling.await {
        Ok(Handled { replies: Replies::One(Some(reply)), .. }) => reply.write(&mut out),
        Ok(Handled { replies: Replies::One(None), .. }) => {}
        Ok(Handled { replies: Replies::Many(replies), .. }) => {
            for reply in &replies {
                let mut one = Vec::new();
                reply.write(&mut one);
                stream.send(one);
            }
        }
        // A request is only refused before its first message, so the stream had not begun.
        Err(refused) => tracing::debug!(refusal = %refused.refusal, "refused after a stream had begun"),
    }
    if !out.is_empty() {
        stream.send(out);
    }
    stream.end();
}

/// Returns a response that streams the answer.
pub fn streamed(app: &Arc<App>, parts: &Arc<Parts>, stream: Arc<Stream>, handling: Handling) -> Response {
    stream.stay();
    let work = app.tasks.spawn(finish(Arc::clone(&stream), handling));
    let lasts = stream.number().is_some();
    let ends_with = (!lasts).then(|| sse::AbortOnDrop(work));
    // The stream ends with its answer, also when the gateway stops.
    let (app, parts) = (Arc::clone(app), Arc::clone(parts));
    let watch = sse::Watch { app, parts, owner: None, ended: None, _permit: None };
    sse::response(stream, Cursor::start(), CancellationToken::new(), watch, ends_with)
}
