//! Server requests that wait for a client's answer, limited in number and bytes, one for each id.

use std::collections::HashMap;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::upstream::{Listener, ServerRequest, UpstreamAnswer};

/// The most server requests at once, and their most bytes: limits for the memory that one server can use.
const MOST: usize = 256;
const MOST_BYTES: usize = 64 << 20;

#[derive(Default)]
pub struct ServerRequests {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// Withdrawal token and bytes of each request, by the server's id.
    by_id: HashMap<Box<str>, (CancellationToken, usize)>,
    bytes: usize,
}

/// A server request that waits for its answer.
pub struct Waiting {
    pub withdrawn: CancellationToken,
    pub answer: oneshot::Receiver<UpstreamAnswer>,
}

impl ServerRequests {
    /// Passes a request to the listener.
    ///
    /// # Errors
    /// The reason: too many requests wait, or one under the same id does.
    pub fn put(
        &self,
        listener: &dyn Listener,
        id: &str,
        method: &str,
        params: Option<&str>,
    ) -> Result<Waiting, &'static str> {
        let bytes = id.len() + method.len() + params.map_or(0, str::len);
        let withdrawn = self.open.lock().add(id, bytes)?;
        let params = params.map(|params| Bytes::copy_from_slice(params.as_bytes()));
        let (request, answer) = ServerRequest::new(method.to_owned(), params);
        listener.on_request(request);
        Ok(Waiting { withdrawn, answer })
    }

    /// Frees the id of a request that was answered or is void.
    pub fn remove(&self, id: &str) {
        let mut open = self.open.lock();
        if let Some((_, bytes)) = open.by_id.remove(id) {
            open.bytes -= bytes;
        }
    }

    /// Withdraws a request at the server's wish.
    pub fn withdraw(&self, id: &str) {
        if let Some((withdrawn, _)) = self.open.lock().by_id.get(id) {
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
        self.by_id.insert(id.into(), (withdrawn.clone(), bytes));
        self.bytes += bytes;
        Ok(withdrawn)
    }
}
