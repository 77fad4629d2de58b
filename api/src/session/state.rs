//! State of a session in this replica: its streams, the server requests that wait for the client's responses,
//! and the requests in flight that the client may cancel.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use protocol::Code;
use protocol::mcp::WITH_EMPTY_EVENTS;
use proxy::pool::Subscribed;
use proxy::upstream::{Listener, ServerRequest, UpstreamAnswer};
use tokio_util::sync::CancellationToken;

use crate::session::backlog::Backlog;
use crate::session::stream;
use crate::session::stream::{Stream, StreamKeeper};

/// Most streams of one session that are kept for a client that comes back.
const MAX_STREAMS: usize = 64;

/// Most bytes of these streams, not counting those in use.
const MAX_BYTES: usize = 4 << 20;

/// Most server requests that wait for one client.
const MAX_SERVER_REQUESTS: usize = 256;

pub struct SessionState {
    /// Held while the session's facts change.
    pub changing: tokio::sync::Mutex<()>,
    /// The GET stream: messages outside any request.
    pub get_stream: Arc<Stream>,
    streams: Mutex<HashMap<u32, Arc<Stream>>>,
    next_stream: AtomicU32,
    server_requests: Mutex<HashMap<u64, ServerRequest>>,
    next_request: AtomicU64,
    in_flight: Mutex<HashMap<Box<str>, CancellationToken>>,
    /// Cancelled when another GET takes over, or the session ends.
    reader: Mutex<CancellationToken>,
    was_read: AtomicBool,
    /// True if this replica may have missed changes of the session's lists.
    pub missed: AtomicBool,
    /// Subscriptions by the URI as the client named it.
    subscriptions: Mutex<HashMap<String, Subscribed>>,
    /// The replica's mark in the ids of server requests.
    replica: Arc<str>,
    /// The tenant's backlog.
    backlog: Arc<Backlog>,
}

impl SessionState {
    /// Returns a new state; `version` is the session's revision of MCP.
    pub fn new(replica: Arc<str>, backlog: Arc<Backlog>, missed: bool, version: &str) -> Arc<SessionState> {
        let get_stream = Stream::default();
        get_stream.keep_as(0, Weak::<SessionState>::new());
        get_stream.charge_to(&backlog);
        get_stream.allow_empty(version >= WITH_EMPTY_EVENTS);
        Arc::new(SessionState {
            changing: tokio::sync::Mutex::default(),
            get_stream: Arc::new(get_stream),
            streams: Mutex::default(),
            next_stream: AtomicU32::new(1),
            server_requests: Mutex::default(),
            next_request: AtomicU64::new(1),
            in_flight: Mutex::default(),
            reader: Mutex::new(CancellationToken::new()),
            was_read: AtomicBool::new(false),
            missed: AtomicBool::new(missed),
            subscriptions: Mutex::default(),
            replica,
            backlog,
        })
    }

    /// Numbers the stream of a POST within this session.
    pub fn number(self: &Arc<Self>, stream: &Stream) {
        stream.keep_as(
            self.next_stream.fetch_add(1, Ordering::Relaxed),
            Arc::downgrade(self) as Weak<dyn StreamKeeper>,
        );
        stream.charge_to(&self.backlog);
        stream.allow_empty(self.get_stream.may_be_empty());
    }

    pub fn find(&self, number: u32) -> Option<Arc<Stream>> {
        match number {
            0 => Some(Arc::clone(&self.get_stream)),
            _ => self.streams.lock().get(&number).cloned(),
        }
    }

    /// Makes the caller the only reader of the GET stream; ends an earlier one.
    pub fn claim_reader(&self) -> CancellationToken {
        self.was_read.store(true, Ordering::Relaxed);
        let mut reader = self.reader.lock();
        reader.cancel();
        *reader = CancellationToken::new();
        reader.clone()
    }

    /// Ends the reader, since another replica has a newer one.
    pub fn release_reader(&self) {
        self.was_read.store(false, Ordering::Relaxed);
        self.reader.lock().cancel();
    }

    /// Returns true if a client reads the GET stream, or read it lately.
    pub fn is_read(&self) -> bool {
        self.was_read.load(Ordering::Relaxed)
    }

    pub fn is_subscribed(&self, uri: &str) -> bool {
        self.subscriptions.lock().contains_key(uri)
    }

    /// Keeps a subscription as long as the session is in this replica.
    pub fn subscribe(&self, uri: &str, subscribed: Subscribed) {
        self.subscriptions.lock().insert(uri.to_owned(), subscribed);
    }

    pub fn unsubscribe(&self, uri: &str) {
        self.subscriptions.lock().remove(uri);
    }

    /// Returns true if the session has a GET reader, requests in flight, unread answers, or server requests.
    pub fn is_busy(&self) -> bool {
        self.get_stream.has_reader()
            || !self.in_flight.lock().is_empty()
            || !self.server_requests.lock().is_empty()
            || !self.streams.lock().is_empty()
    }

    /// Forgets streams that ended long ago, and withdrawn server requests.
    pub fn tidy(&self) {
        self.streams.lock().retain(|_, stream| !stream.is_old());
        self.server_requests.lock().retain(|_, request| !request.is_withdrawn());
    }

    /// Registers a request that the client may cancel under its id, until the guard is dropped.
    pub fn begin(self: &Arc<Self>, id: &str) -> InFlight {
        let token = CancellationToken::new();
        self.in_flight.lock().insert(id.into(), token.clone());
        InFlight { state: Arc::clone(self), id: id.into(), token }
    }

    /// Cancels a request in flight; returns false if the id is unknown.
    pub fn cancel(&self, id: &str) -> bool {
        self.in_flight.lock().remove(id).is_some_and(|token| {
            token.cancel();
            true
        })
    }

    /// Returns true if an id is of this replica's server requests.
    pub fn is_own_id(&self, id: &str) -> bool {
        id.strip_prefix(&*self.replica).is_some_and(|rest| rest.starts_with('-'))
    }

    /// Delivers the client's response; returns false if the server request is unknown.
    pub fn answer(&self, id: &str, answer: UpstreamAnswer) -> bool {
        let number = id.strip_prefix(&*self.replica).and_then(|rest| rest.strip_prefix('-'));
        let request = number
            .and_then(|number| number.parse::<u64>().ok())
            .and_then(|number| self.server_requests.lock().remove(&number));
        match request {
            Some(request) => {
                request.answer(answer);
                true
            }
            None => false,
        }
    }

    /// Refuses all server requests when the gateway stops.
    pub fn refuse_server_requests(&self) {
        let server_requests: Vec<ServerRequest> =
            self.server_requests.lock().drain().map(|(_, request)| request).collect();
        for request in server_requests {
            request.refuse(Code::ShuttingDown, "the gateway is shutting down");
        }
    }

    /// Ends the session.
    pub fn end(&self) {
        self.reader.lock().cancel();
        self.get_stream.end();
        for stream in self.streams.lock().values() {
            stream.end();
        }
        self.server_requests.lock().clear();
        self.subscriptions.lock().clear();
        for (_, token) in self.in_flight.lock().drain() {
            token.cancel();
        }
    }

    fn ask(&self, stream: &Stream, request: ServerRequest) {
        let number = self.next_request.fetch_add(1, Ordering::Relaxed);
        let id = format!("\"{}-{number}\"", self.replica);
        let params = request.params.as_deref().and_then(|params| std::str::from_utf8(params).ok());
        let message = stream::request(&id, &request.method, params);
        let mut server_requests = self.server_requests.lock();
        // Withdrawn server requests make room.
        server_requests.retain(|_, request| !request.is_withdrawn());
        if server_requests.len() >= MAX_SERVER_REQUESTS || stream.is_overfull() {
            return request.refuse(Code::Internal, "too many requests wait for this client");
        }
        server_requests.insert(number, request);
        drop(server_requests);
        stream.send(message);
    }
}

impl StreamKeeper for SessionState {
    fn keep(&self, stream: &Arc<Stream>) {
        let Some(number) = stream.number() else { return };
        let mut streams = self.streams.lock();
        streams.insert(number, Arc::clone(stream));
        streams.retain(|_, stream| !stream.is_old());
        let mut bytes: usize = streams.values().map(|stream| stream.bytes()).sum();
        while streams.len() > MAX_STREAMS || bytes > MAX_BYTES {
            // The oldest ended stream goes first; those in use stay.
            let ended = streams.iter().filter(|(_, one)| one.is_ended()).map(|(number, _)| *number).min();
            let Some(oldest) = ended.and_then(|oldest| streams.remove(&oldest)) else { break };
            bytes -= oldest.bytes();
        }
    }
}

/// Guard of a request in flight; see [`SessionState::begin`].
pub struct InFlight {
    state: Arc<SessionState>,
    id: Box<str>,
    pub token: CancellationToken,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.state.in_flight.lock().remove(&self.id);
    }
}

/// Channel to a legacy client: on the stream of one of its requests, or on the GET stream.
pub struct ClientChannel {
    pub state: Weak<SessionState>,
    pub stream: Arc<Stream>,
}

impl Listener for ClientChannel {
    fn on_notification(&self, method: &str, params: Option<&str>) {
        self.stream.try_send(stream::notification(method, params));
    }

    fn on_request(&self, request: ServerRequest) {
        match self.state.upgrade() {
            Some(state) => state.ask(&self.stream, request),
            None => request.refuse(Code::Internal, "the client's session is over"),
        }
    }
}

/// Channel to a modern client, which takes server requests only in results.
pub struct NotificationChannel(pub Arc<Stream>);

impl Listener for NotificationChannel {
    fn on_notification(&self, method: &str, params: Option<&str>) {
        self.0.try_send(stream::notification(method, params));
    }

    fn on_request(&self, request: ServerRequest) {
        request.refuse(Code::MethodNotFound, "the client cannot be asked here");
    }
}
