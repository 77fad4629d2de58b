//! Requests of the child that wait for a client's answer: a task each, few at once, withdrawn when the
//! child says so. It does not know what is asked.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::wire::Wire;
use crate::upstream::{Listener, Question, UpstreamAnswer};

/// The most that wait at once, and what they may hold together in bytes: a child that asks and asks
/// costs no more memory than that.
const MOST: usize = 256;
const MOST_BYTES: usize = 64 << 20;

pub struct Questions {
    wire: Arc<Wire>,
    tasks: TaskTracker,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// How each is withdrawn, by the id as the child wrote it.
    by_id: HashMap<Box<str>, CancellationToken>,
    bytes: usize,
}

impl Questions {
    pub fn new(wire: Arc<Wire>, tasks: TaskTracker) -> Arc<Questions> {
        Arc::new(Questions { wire, tasks, open: Mutex::default() })
    }

    /// Puts the question to the listener. Its answer goes to the child whenever it comes. Refuses when
    /// too many wait already, or one under the same id does.
    pub fn put(
        self: &Arc<Self>,
        listener: &dyn Listener,
        id: &str,
        asked: &str,
        params: Option<&str>,
    ) -> Result<(), &'static str> {
        let bytes = id.len() + asked.len() + params.map_or(0, str::len);
        let withdrawn = self.open.lock().add(id, bytes)?;
        let params = params.map(|params| Bytes::copy_from_slice(params.as_bytes()));
        let (question, answered) = Question::new(asked.to_owned(), params);
        let (questions, id) = (self.clone(), Box::<str>::from(id));
        self.tasks.spawn(async move {
            let answer = tokio::select! {
                // Whoever has the question sees that nobody waits for its answer any more.
                () = withdrawn.cancelled() => None,
                () = questions.wire.closed.cancelled() => None,
                answer = answered => Some(answer.unwrap_or_else(|_| nobody())),
            };
            questions.open.lock().remove(&id, bytes);
            if let Some(answer) = answer
                && !questions.wire.answer(&id, &answer)
            {
                tracing::warn!(server = questions.wire.who(), "an answer did not reach a child");
            }
        });
        listener.ask(question);
        Ok(())
    }

    /// The child does not want the answer any more.
    pub fn withdraw(&self, id: &str) {
        if let Some(withdrawn) = self.open.lock().by_id.get(id) {
            withdrawn.cancel();
        }
    }
}

impl Open {
    fn add(&mut self, id: &str, bytes: usize) -> Result<CancellationToken, &'static str> {
        if self.by_id.len() >= MOST || self.bytes + bytes > MOST_BYTES {
            return Err("too many requests of this server wait for an answer already");
        }
        if self.by_id.contains_key(id) {
            return Err("a request under this id waits for its answer already");
        }
        let withdrawn = CancellationToken::new();
        self.by_id.insert(id.into(), withdrawn.clone());
        self.bytes += bytes;
        Ok(withdrawn)
    }

    fn remove(&mut self, id: &str, bytes: usize) {
        self.by_id.remove(id);
        self.bytes -= bytes;
    }
}

fn nobody() -> UpstreamAnswer {
    let error = r#"{"code":-32603,"message":"nobody answered"}"#;
    UpstreamAnswer::Error(Bytes::from_static(error.as_bytes()))
}
