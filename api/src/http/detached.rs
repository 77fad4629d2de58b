//! A request that may outlive its connection, and its answer as a stream.

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

/// A request that is being handled. When its client goes away, a legacy one is finished all the same,
/// for a client that comes back; a modern one is taken back (basic/patterns/cancellation).
pub struct Lasting {
    app: Arc<App>,
    stream: Arc<Stream>,
    handling: Option<Handling>,
}

impl Lasting {
    pub fn new(app: &Arc<App>, stream: &Arc<Stream>, handling: Handling) -> Self {
        Self { app: Arc::clone(app), stream: Arc::clone(stream), handling: Some(handling) }
    }

    /// Gives it away, to be finished elsewhere.
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

/// Handles to the end; the answer goes onto the stream.
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
        // Nothing was said before a request was turned away, so this was not a stream then.
        Err(away) => tracing::debug!(refusal = %away.refusal, "turned away after a stream had begun"),
    }
    if !out.is_empty() {
        stream.send(out);
    }
    stream.end();
}

/// The answer as a stream.
pub fn streamed(app: &Arc<App>, parts: &Arc<Parts>, stream: Arc<Stream>, handling: Handling) -> Response {
    stream.stay();
    let work = app.tasks.spawn(finish(Arc::clone(&stream), handling));
    let lasts = stream.number().is_some();
    let ends_with = (!lasts).then(|| sse::AbortOnDrop(work));
    // It ends by itself, with its answer, also when the gateway stops.
    let (app, parts) = (Arc::clone(app), Arc::clone(parts));
    let watch = sse::Watch { app, parts, owner: None, ended: None, _place: None };
    sse::response(stream, Cursor::start(), CancellationToken::new(), watch, ends_with)
}
