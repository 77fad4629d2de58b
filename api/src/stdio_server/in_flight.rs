//! Requests in flight under the ids of the client, so that one can be withdrawn.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use protocol::{Code, Refusal};
use tokio_util::sync::CancellationToken;

use crate::stdio_server::message::Message;

/// The most requests in flight; more are refused.
const MAX: usize = 1024;

type Requests = Arc<Mutex<HashMap<Box<str>, Arc<Request>>>>;

#[derive(Default)]
pub struct InFlight(Requests);

struct Request {
    /// Cancelled by the end of the HTTP request that carries it (2026-07-28).
    is_modern: bool,
    withdrawn: CancellationToken,
    begun: Instant,
}

/// A message that is in flight until this is dropped.
pub struct Registration {
    requests: Requests,
    /// None for a message that gets no answer.
    id: Option<Box<str>>,
    request: Arc<Request>,
}

impl InFlight {
    /// Registers a message; a batch counts as one request, under its first id.
    ///
    /// # Errors
    /// Refuses a request above the bound.
    pub fn register(&self, message: &Message) -> Result<Registration, Refusal> {
        let (is_modern, withdrawn) = (message.is_modern(true), CancellationToken::new());
        let request = Arc::new(Request { is_modern, withdrawn, begun: Instant::now() });
        let id = message.ids.first().cloned();
        if let Some(id) = &id {
            let mut all = self.0.lock();
            if all.len() >= MAX {
                return Err(Refusal::new(Code::ConcurrencyLimited, format!("{MAX} requests are in flight"))
                    .hint("wait for answers before sending more"));
            }
            all.insert(id.clone(), Arc::clone(&request));
        }
        Ok(Registration { requests: Arc::clone(&self.0), id, request })
    }

    /// Withdraws a request. Returns whether that cancels it; if not, the gateway must hear of it.
    pub fn withdraw(&self, id: &str) -> bool {
        let found = self.0.lock().get(id).cloned();
        found.is_some_and(|request| {
            request.withdrawn.cancel();
            request.is_modern
        })
    }

    /// Returns the time since which a request is in flight.
    pub fn begun(&self, id: &str) -> Option<Instant> {
        self.0.lock().get(id).map(|request| request.begun)
    }
}

impl Registration {
    pub fn is_modern(&self) -> bool {
        self.request.is_modern
    }

    /// Returns whether the client wants no answer under this id any more.
    pub fn is_withdrawn(&self, id: &str) -> bool {
        self.request.withdrawn.is_cancelled() && self.id.as_deref() == Some(id)
    }

    /// Returns the token that is cancelled when the client wants no answer any more.
    pub fn withdrawn(&self) -> &CancellationToken {
        &self.request.withdrawn
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let Some(id) = &self.id else { return };
        let mut all = self.requests.lock();
        // The client may have given the id to another request since.
        if all.get(id).is_some_and(|request| Arc::ptr_eq(request, &self.request)) {
            all.remove(id);
        }
    }
}
