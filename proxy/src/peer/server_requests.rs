//! Requests of a server that wait for a client's answer: few at once, few bytes, one under each id, and
//! withdrawn when the server says so.

use std::collections::HashMap;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::upstream::{Listener, ServerRequest, UpstreamAnswer};

/// The most that wait at once, and the most bytes that they hold together: a server that asks and asks
/// costs no more memory than that.
const MOST: usize = 256;
const MOST_BYTES: usize = 64 << 20;

#[derive(Default)]
pub struct ServerRequests {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// The token that withdraws each and the bytes that it holds, by the id as the server wrote it.
    by_id: HashMap<Box<str>, (CancellationToken, usize)>,
    bytes: usize,
}

/// A request that a client was asked.
pub struct Waiting {
    pub withdrawn: CancellationToken,
    pub answer: oneshot::Receiver<UpstreamAnswer>,
}

impl ServerRequests {
    /// Puts a request to the listener.
    ///
    /// # Errors
    /// The reason, where too many wait already, or one under the same id does.
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

    /// Withdraws a request whose answer the server does not want any more.
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
