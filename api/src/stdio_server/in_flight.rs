//! The requests in flight, so that one can be taken back under the id that the client gave it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use protocol::mcp::method;
use protocol::{Code, Refusal};
use tokio_util::sync::CancellationToken;

use crate::stdio_server::message::{Kind, Message};

/// Most requests in flight; further ones are refused.
const MAX: usize = 1024;

#[derive(Default)]
pub struct RequestsInFlight(Arc<Mutex<HashMap<Box<str>, Arc<Entry>>>>);

struct Entry {
    /// Taken back by ending the HTTP request that carries it, which a modern gateway understands.
    by_hanging_up: bool,
    is_subscription: bool,
    gone: CancellationToken,
    /// The client wants no answer any more.
    withdrawn: AtomicBool,
    begun: Instant,
}

/// Held as long as a message is in flight.
pub struct InFlight {
    all: Arc<Mutex<HashMap<Box<str>, Arc<Entry>>>>,
    /// None for what is no request.
    id: Option<Box<str>>,
    entry: Arc<Entry>,
}

impl RequestsInFlight {
    pub fn take(&self, message: &Message) -> Result<InFlight, Refusal> {
        let entry = Arc::new(Entry {
            by_hanging_up: message.is_modern(true),
            is_subscription: message.method() == method::LISTEN,
            gone: CancellationToken::new(),
            withdrawn: AtomicBool::new(false),
            begun: Instant::now(),
        });
        let id = match &message.kind {
            Kind::Request { id, .. } => Some(id.clone()),
            // The first one stands for all, so that they are counted.
            Kind::Batch { ids } => ids.first().cloned(),
            Kind::Notification { .. } | Kind::Cancelled { .. } | Kind::Response => None,
        };
        let mut all = self.0.lock();
        if let Some(id) = &id {
            if all.len() >= MAX {
                return Err(Refusal::new(Code::ConcurrencyLimited, format!("{MAX} requests are in flight"))
                    .hint("wait for answers before sending more"));
            }
            all.insert(id.clone(), Arc::clone(&entry));
        }
        Ok(InFlight { all: Arc::clone(&self.0), id, entry })
    }

    /// Cancels a request. Returns true if that is all; else the gateway must be notified.
    pub fn take_back(&self, id: &str) -> bool {
        let found = self.0.lock().get(id).cloned();
        let Some(entry) = found else { return false };
        entry.withdrawn.store(true, Ordering::Relaxed);
        if entry.by_hanging_up {
            entry.gone.cancel();
        }
        entry.by_hanging_up
    }

    /// When a request in flight was begun.
    pub fn begun(&self, id: &str) -> Option<Instant> {
        self.0.lock().get(id).map(|entry| entry.begun)
    }

    /// Streams that would never end by themselves are not waited for.
    pub fn end_subscriptions(&self) {
        self.0.lock().values().filter(|entry| entry.is_subscription).for_each(|entry| entry.gone.cancel());
    }
}

impl InFlight {
    /// Cancelled when the request is to be dropped.
    pub fn gone(&self) -> CancellationToken {
        self.entry.gone.clone()
    }

    pub fn is_withdrawn(&self) -> bool {
        self.entry.withdrawn.load(Ordering::Relaxed)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(id) = &self.id {
            let mut all = self.all.lock();
            if all.get(id).is_some_and(|entry| Arc::ptr_eq(entry, &self.entry)) {
                all.remove(id);
            }
        }
    }
}
