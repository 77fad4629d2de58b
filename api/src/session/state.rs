//! State of a session in this replica: streams, server requests that wait for the client's answer, and
//! requests in flight, which the client may cancel.

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

/// Most bytes of them, but for those that are under way.
const MAX_BYTES: usize = 4 << 20;

/// Most questions that wait for one client.
const MAX_QUESTIONS: usize = 256;

pub struct SessionState {
    /// Held while what is kept of the session changes.
    pub changing: tokio::sync::Mutex<()>,
    /// The messages of no request: what a GET reads.
    pub get_stream: Arc<Stream>,
    streams: Mutex<HashMap<u32, Arc<Stream>>>,
    next_stream: AtomicU32,
    questions: Mutex<HashMap<u64, ServerRequest>>,
    next_question: AtomicU64,
    in_flight: Mutex<HashMap<Box<str>, CancellationToken>>,
    /// Cancelled when another GET takes over, or the session ends.
    reader: Mutex<CancellationToken>,
    heard: AtomicBool,
    /// Whether changes may have been told while this replica knew nothing of the session.
    pub missed: AtomicBool,
    /// By the URI as the client named it.
    subscriptions: Mutex<HashMap<String, Subscribed>>,
    /// The replica's mark in the ids of questions.
    replica: Arc<str>,
    /// Counts what waits for the session's client.
    backlog: Arc<Backlog>,
}

impl SessionState {
    /// `version` is the session's revision of MCP.
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
            questions: Mutex::default(),
            next_question: AtomicU64::new(1),
            in_flight: Mutex::default(),
            reader: Mutex::new(CancellationToken::new()),
            heard: AtomicBool::new(false),
            missed: AtomicBool::new(missed),
            subscriptions: Mutex::default(),
            replica,
            backlog,
        })
    }

    /// Gives the stream of a POST a number of this session.
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

    /// The one reader of [`SessionState::home`]: an earlier one is ended.
    pub fn claim_reader(&self) -> CancellationToken {
        self.heard.store(true, Ordering::Relaxed);
        let mut reader = self.reader.lock();
        reader.cancel();
        *reader = CancellationToken::new();
        reader.clone()
    }

    /// The home is read at another replica now.
    pub fn release_reader(&self) {
        self.heard.store(false, Ordering::Relaxed);
        self.reader.lock().cancel();
    }

    /// Whether a client reads, or read lately, what is said at home.
    pub fn is_read(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    pub fn is_subscribed(&self, uri: &str) -> bool {
        self.subscriptions.lock().contains_key(uri)
    }

    /// Keeps a subscription as long as the session lives in this replica.
    pub fn subscribe(&self, uri: &str, subscribed: Subscribed) {
        self.subscriptions.lock().insert(uri.to_owned(), subscribed);
    }

    pub fn unsubscribe(&self, uri: &str) {
        self.subscriptions.lock().remove(uri);
    }

    /// Whether something of it goes on now: its home is read, a request is served, an answer waits for a
    /// client that may come back, or the client is asked something.
    pub fn is_busy(&self) -> bool {
        self.get_stream.has_reader()
            || !self.in_flight.lock().is_empty()
            || !self.questions.lock().is_empty()
            || !self.streams.lock().is_empty()
    }

    /// Forgets streams to which nobody comes back any more.
    pub fn tidy(&self) {
        self.streams.lock().retain(|_, stream| !stream.is_old());
        self.questions.lock().retain(|_, question| !question.is_withdrawn());
    }

    /// A request that the client may cancel under its id, until the guard is dropped.
    pub fn begin(self: &Arc<Self>, id: &str) -> InFlight {
        let token = CancellationToken::new();
        self.in_flight.lock().insert(id.into(), token.clone());
        InFlight { state: Arc::clone(self), id: id.into(), token }
    }

    /// The client wants no answer to this request any more.
    pub fn cancel(&self, id: &str) -> bool {
        self.in_flight.lock().remove(id).is_some_and(|token| {
            token.cancel();
            true
        })
    }

    /// Whether an id is of this replica's questions.
    pub fn numbers(&self, id: &str) -> bool {
        id.strip_prefix(&*self.replica).is_some_and(|rest| rest.starts_with('-'))
    }

    /// The client's answer to a question. Says whether the question was asked here.
    pub fn answer(&self, id: &str, answer: UpstreamAnswer) -> bool {
        let number = id.strip_prefix(&*self.replica).and_then(|rest| rest.strip_prefix('-'));
        let question = number
            .and_then(|number| number.parse::<u64>().ok())
            .and_then(|number| self.questions.lock().remove(&number));
        match question {
            Some(question) => {
                question.answer(answer);
                true
            }
            None => false,
        }
    }

    /// Nobody can answer any more: the gateway stops.
    pub fn refuse_questions(&self) {
        let questions: Vec<ServerRequest> =
            self.questions.lock().drain().map(|(_, question)| question).collect();
        for question in questions {
            question.refuse(Code::ShuttingDown, "the gateway is shutting down");
        }
    }

    /// The session is over.
    pub fn end(&self) {
        self.reader.lock().cancel();
        self.get_stream.end();
        for stream in self.streams.lock().values() {
            stream.end();
        }
        self.questions.lock().clear();
        self.subscriptions.lock().clear();
        for (_, token) in self.in_flight.lock().drain() {
            token.cancel();
        }
    }

    fn ask(&self, stream: &Stream, question: ServerRequest) {
        let number = self.next_question.fetch_add(1, Ordering::Relaxed);
        let id = format!("\"{}-{number}\"", self.replica);
        let params = question.params.as_deref().and_then(|params| std::str::from_utf8(params).ok());
        let message = stream::request(&id, &question.method, params);
        let mut questions = self.questions.lock();
        // Questions that nobody waits for any more make room.
        questions.retain(|_, question| !question.is_withdrawn());
        if questions.len() >= MAX_QUESTIONS || stream.is_overfull() {
            return question.refuse(Code::Internal, "too many questions wait for this client");
        }
        questions.insert(number, question);
        drop(questions);
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
            // The oldest of those that have ended goes first; what is under way stays.
            let ended = streams.iter().filter(|(_, one)| one.is_ended()).map(|(number, _)| *number).min();
            let Some(oldest) = ended.and_then(|oldest| streams.remove(&oldest)) else { break };
            bytes -= oldest.bytes();
        }
    }
}

/// See [`SessionState::begin`].
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

/// Says things to a legacy client: on the stream of one of its requests, or at home.
pub struct ClientChannel {
    pub state: Weak<SessionState>,
    pub stream: Arc<Stream>,
}

impl Listener for ClientChannel {
    fn on_notification(&self, method: &str, params: Option<&str>) {
        self.stream.try_send(stream::notification(method, params));
    }

    fn on_request(&self, question: ServerRequest) {
        match self.state.upgrade() {
            Some(live) => live.ask(&self.stream, question),
            None => question.refuse(Code::Internal, "the client's session is over"),
        }
    }
}

/// Says things to a modern client, which is asked nothing outside its results.
pub struct NotificationChannel(pub Arc<Stream>);

impl Listener for NotificationChannel {
    fn on_notification(&self, method: &str, params: Option<&str>) {
        self.0.try_send(stream::notification(method, params));
    }

    fn on_request(&self, question: ServerRequest) {
        question.refuse(Code::MethodNotFound, "the client cannot be asked here");
    }
}
