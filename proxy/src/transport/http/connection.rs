//! Connection to a remote server by Streamable HTTP: its session, its requests in flight, and whether it is
//! still there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use protocol::mcp::{Era, header as names};
use protocol::{Code, Refusal};
use tokio::sync::mpsc;

use super::client::{HttpClient, Reply};
use super::headers;
use super::plan::RemotePlan;
use crate::egress::Method;
use crate::egress::header::{HeaderMap, HeaderValue};
use crate::peer::in_flight::InFlight;
use crate::peer::message::{self, Meant, Message};
use crate::peer::router::{ServerMessageRouter, Stream};
use crate::peer::{Connection, ConnectionState, PeerPlan};
use crate::server::RemoteLaunch;
use crate::upstream::{UpstreamAnswer, UpstreamRequest};

/// Notifications and answers that wait for a slow server; more are dropped.
const OUTBOX: usize = 256;
/// Time for a message without a waiter.
pub const ASIDE: Duration = Duration::from_secs(10);

pub struct HttpConnection {
    pub plan: PeerPlan,
    pub client: HttpClient,
    pub router: ServerMessageRouter,
    pub state: ConnectionState,
    pub in_flight: Mutex<InFlight>,
    session: OnceLock<HeaderValue>,
    /// The revision that was agreed upon in a handshake.
    revision: OnceLock<HeaderValue>,
    ids: AtomicU64,
    outbox: mpsc::Sender<(HeaderMap, Bytes)>,
}

/// A request that is in flight until this is dropped.
pub struct Registration<'a> {
    connection: &'a HttpConnection,
    id: u64,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.connection.in_flight.lock().remove_place(self.id);
    }
}

impl HttpConnection {
    pub fn new(plan: &RemotePlan, launch: &RemoteLaunch) -> Result<Arc<HttpConnection>, Refusal> {
        let peer = &plan.peer;
        let client = HttpClient::new(&peer.server, &plan.egress, launch, plan.message_cap)?;
        let (outbox, inbox) = mpsc::channel(OUTBOX);
        let connection = Arc::new(HttpConnection {
            plan: peer.clone(),
            client,
            router: ServerMessageRouter::new(peer),
            state: ConnectionState::default(),
            in_flight: Mutex::default(),
            session: OnceLock::new(),
            revision: OnceLock::new(),
            ids: AtomicU64::new(0),
            outbox,
        });
        peer.tasks.spawn(carry(connection.clone(), inbox));
        Ok(connection)
    }

    pub fn is_legacy(&self) -> bool {
        self.plan.era == Era::Legacy
    }

    /// Registers a request as in flight.
    pub fn register(&self, id: u64, request: &UpstreamRequest<'_>) -> Registration<'_> {
        let listening = request.listener.map(|listener| (listener, request.progress));
        self.in_flight.lock().register(id, listening);
        Registration { connection: self, id }
    }

    pub fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The server does not know the session any more. A new one is a new upstream.
    pub fn lose_session(&self) {
        let reason = format!("`{}` has ended the session", self.server());
        self.plan.logs.note(reason.clone());
        self.close(Refusal::new(Code::UpstreamFailed, reason));
    }

    /// Returns true if a reply with this status means that the session is gone.
    pub fn is_session_lost(&self, status: Option<u16>) -> bool {
        self.session.get().is_some() && status == Some(404)
    }

    pub fn has_session(&self) -> bool {
        self.session.get().is_some()
    }

    /// Keeps the session that the answer to a handshake brings.
    pub fn begin_session(&self, headers: &HeaderMap) {
        if let Some(session) = headers.get(names::SESSION) {
            let mut session = session.clone();
            session.set_sensitive(true);
            self.session.get_or_init(|| session);
        }
    }

    pub fn agree(&self, revision: &str) {
        if let Ok(revision) = HeaderValue::from_str(revision) {
            self.revision.get_or_init(|| revision);
        }
    }

    /// The headers of a message in this era.
    pub fn headers(&self, method: &str, params: &[u8], mirrored: &[(String, String)]) -> HeaderMap {
        match self.plan.era {
            Era::Modern => headers::modern(method, params, mirrored),
            Era::Legacy => self.session_headers(),
        }
    }

    pub fn session_headers(&self) -> HeaderMap {
        let mut map = HeaderMap::new();
        if let Some(session) = self.session.get() {
            map.insert(names::SESSION, session.clone());
        }
        if let Some(revision) = self.revision.get() {
            map.insert(names::PROTOCOL_VERSION, revision.clone());
        }
        map
    }

    /// Queues what gets no answer; dropped when too much waits.
    pub fn queue(&self, headers: HeaderMap, body: Bytes) {
        if self.outbox.try_send((headers, body)).is_err() {
            tracing::debug!(server = self.server(), "a message to a server was dropped");
        }
    }

    /// Takes the messages of a text where they belong. Gives the answer that is waited for, if it is there,
    /// or the refusal for one that nobody can read.
    pub fn take(
        self: &Arc<Self>,
        text: &Bytes,
        awaited: Option<u64>,
        stream: Stream<'_>,
    ) -> Option<Result<UpstreamAnswer, Refusal>> {
        let mut found = None;
        for message in message::read(text) {
            match message {
                // The right answer counts, whatever is beside it; of two the first.
                Message::Result { id, result } if Some(id) == awaited => {
                    let result = UpstreamAnswer::Result(text.slice_ref(result.as_bytes()));
                    found = found.filter(Result::is_ok).or(Some(Ok(result)));
                }
                Message::Error { id, error } if Some(id) == awaited => {
                    self.note_repair(error.as_bytes(), text);
                    let error = UpstreamAnswer::Error(message::slice(text, error));
                    found = found.filter(Result::is_ok).or(Some(Ok(error)));
                }
                Message::Unreadable { meant, fault, original } => {
                    self.violation(|| format!("{fault}: {}", message::excerpt(original.as_bytes())));
                    if let Some(awaited) = awaited {
                        found = found.or_else(|| self.unreadable(awaited, &meant, &fault, &original));
                    }
                }
                Message::Result { id, .. } | Message::Error { id, .. } => {
                    self.violation(|| format!("an answer under id {id}, for which nobody waits here"));
                }
                Message::Noise => {
                    self.violation(|| format!("this is not JSON-RPC: {}", message::excerpt(text)));
                }
                Message::Notification { method, params } => {
                    self.router.notification(&**self, stream, &method, params);
                }
                Message::Request { id, method, params } => {
                    self.router.request(self, stream, id, &method, params);
                }
            }
        }
        found
    }

    /// Returns what an answer that no client can read comes to for the request whose stream it came on. One
    /// that names no request can only be for that.
    fn unreadable(
        &self,
        awaited: u64,
        meant: &Meant,
        fault: &str,
        original: &str,
    ) -> Option<Result<UpstreamAnswer, Refusal>> {
        let shown = match meant {
            Meant::Ids(ids) if !ids.contains(&awaited) => return None,
            // What is for several requests is shown to none.
            Meant::Ids(ids) => (ids.len() == 1).then_some(original),
            Meant::Unnamed { .. } => Some(original),
        };
        let error = match meant {
            Meant::Unnamed { .. } => message::error_of(original.as_bytes()),
            Meant::Ids(_) => None,
        };
        Some(match error {
            Some((_, error)) => Ok(UpstreamAnswer::Error(error.into_owned().into())),
            None => Err(message::unreadable(self.server(), fault, shown)),
        })
    }

    /// Notes an error that had to be repaired.
    pub fn note_repair(&self, error: &[u8], original: &[u8]) {
        if message::is_repaired(error) {
            self.violation(|| format!("an odd `error`: {}", message::excerpt(original)));
        }
    }

    /// Returns true if a text has an answer to another request than the one that it came for.
    pub fn may_be_anothers(&self, text: &[u8], awaited: u64) -> bool {
        let given = self.ids.load(Ordering::Relaxed);
        let anothers = |id: u64| id != awaited && id <= given;
        message::read(text).into_iter().any(|message| match message {
            Message::Result { id, .. } | Message::Error { id, .. } => anothers(id),
            Message::Unreadable { meant: Meant::Ids(ids), .. } => ids.into_iter().any(anothers),
            Message::Unreadable { meant: Meant::Unnamed { .. }, .. }
            | Message::Request { .. }
            | Message::Notification { .. }
            | Message::Noise => false,
        })
    }

    fn violation(&self, text: impl FnOnce() -> String) {
        self.router.violations.note(text);
    }

    /// Sends what gets no answer.
    pub async fn send_aside(&self, headers: HeaderMap, body: Bytes) {
        let deadline = Some(Instant::now() + ASIDE);
        let sent = tokio::select! {
            sent = self.client.send(Method::POST, headers, Some(body), deadline) => sent,
            () = self.state.closed.cancelled() => return,
        };
        match sent {
            Ok((Reply::Explained { error, .. }, _)) => {
                self.plan.logs.note(format!("it refused a message: {}", message::excerpt(&error)));
            }
            Ok(_) => {}
            Err(trouble) if self.is_session_lost(trouble.status) => self.lose_session(),
            Err(trouble) => {
                self.plan.logs.note(format!("a message was lost: {}", trouble.failure.refusal.reason))
            }
        }
    }

    /// Tells the server that the session is over.
    pub async fn end_session(&self, within: Duration) {
        if self.has_session() {
            let deadline = Some(Instant::now() + within);
            let ended = self.client.send(Method::DELETE, self.session_headers(), None, deadline).await;
            if let Err(trouble) = ended {
                tracing::debug!(server = self.server(), reason = %trouble.failure.refusal, "the session was not ended");
            }
        }
    }
}

/// Sends what is queued one after the other, since their order may matter.
async fn carry(connection: Arc<HttpConnection>, mut inbox: mpsc::Receiver<(HeaderMap, Bytes)>) {
    loop {
        tokio::select! {
            () = connection.state.closed.cancelled() => return,
            next = inbox.recv() => match next {
                Some((headers, body)) => connection.send_aside(headers, body).await,
                None => return,
            }
        }
    }
}
