//! JSON-RPC peer of an MCP server, the same over every transport: handshake, routing of what the server
//! sends, its requests, and what it is listened to for.

pub mod duplex;
pub mod events;
pub mod gateway_client;
pub mod handshake;
pub mod in_flight;
pub mod listen;
pub mod message;
pub mod router;
pub mod server_requests;
pub mod upstream;
pub mod violations;

use std::future::Future;
use std::sync::{Arc, OnceLock};

use protocol::mcp::Era;
use protocol::{Code, Refusal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::events::Publish;
use self::gateway_client::ClientInfo;
use self::listen::{Honoured, ListenError};
use self::router::ServerMessageRouter;
use crate::child::Needed;
use crate::logs::LogRing;
use crate::upstream::{ClientProfile, Failure, Listener, UpstreamAnswer, UpstreamRequest};

/// The part of a start that is the same for every transport.
#[derive(Clone)]
pub struct PeerPlan {
    /// The server's slug.
    pub server: Arc<str>,
    /// The era in which the server is spoken to.
    pub era: Era,
    pub gateway: ClientInfo,
    /// The client that the upstream serves; none for one that serves many.
    pub client: Option<Arc<ClientProfile>>,
    pub publish: Publish,
    pub logs: Arc<LogRing>,
    pub tasks: TaskTracker,
}

/// A connection to one server, as its transport implements it.
pub trait Connection: Send + Sync + Sized + 'static {
    /// A `subscriptions/listen` that stands. Dropped, it is ended.
    type Listen: Send;
    /// A request without an answer, with what the transport knows of the cause.
    type Error: From<Failure> + Into<Failure> + Send;

    fn plan(&self) -> &PeerPlan;
    fn router(&self) -> &ServerMessageRouter;
    fn state(&self) -> &ConnectionState;

    /// Sends a request and waits for its answer. When the future is dropped, the server is told so.
    fn request<'a>(
        self: &'a Arc<Self>,
        request: UpstreamRequest<'a>,
    ) -> impl Future<Output = Result<UpstreamAnswer, Self::Error>> + Send + 'a;

    /// Queues a notification; dropped when too much waits.
    fn notify(&self, method: &str, params: &[u8]);

    /// Queues the answer to a request of the server, whose id is as the server wrote it. Dropped when too
    /// much waits.
    fn answer_now(&self, id: &str, answer: &UpstreamAnswer);

    /// Sends such an answer.
    fn answer(&self, id: &str, answer: &UpstreamAnswer) -> impl Future<Output = ()> + Send {
        async move { self.answer_now(id, answer) }
    }

    /// Sends `notifications/initialized` before everything else. `revision` is what both sides speak.
    fn confirm_initialized(&self, revision: &str) -> impl Future<Output = ()> + Send;

    /// Opens a `subscriptions/listen` and waits until the server acknowledges it.
    fn open_listen(
        self: &Arc<Self>,
        params: String,
    ) -> impl Future<Output = Result<(Self::Listen, Honoured), ListenError>> + Send;

    /// Waits for the end of a `subscriptions/listen`; an error where the server refused it.
    fn end_of_listen(
        self: &Arc<Self>,
        listen: &mut Self::Listen,
    ) -> impl Future<Output = Result<(), ListenError>> + Send;

    /// Completes a `subscriptions/listen` that the server ended by `notifications/cancelled`.
    fn cancel_listen(&self, id: u64);

    /// Returns the listener of the request in flight with this progress token.
    fn listener_of_progress(&self, token: u64) -> Option<Arc<dyn Listener>>;

    /// Returns the listener of the only request in flight; of the newest one with `one_client`.
    fn listener_of_only_request(&self, one_client: bool) -> Option<Arc<dyn Listener>>;

    /// Refuses everything in flight and to come, with the first reason given.
    fn close(&self, refusal: Refusal);

    /// Ends the connection in an orderly way.
    fn stop(&self, refusal: Refusal) -> impl Future<Output = Needed> + Send;

    fn server(&self) -> &str {
        &self.plan().server
    }
}

/// Whether a connection is open, and why it was closed.
#[derive(Default)]
pub struct ConnectionState {
    /// Cancelled when nothing goes either way any more.
    pub closed: CancellationToken,
    reason: OnceLock<Refusal>,
}

impl ConnectionState {
    pub fn is_open(&self) -> bool {
        self.reason.get().is_none()
    }

    /// Returns the refusal of what comes too late, if the connection is closed.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.reason.get()
    }

    /// Returns why the connection is closed.
    pub fn reason(&self) -> Refusal {
        self.reason.get().cloned().unwrap_or_else(|| Refusal::new(Code::UpstreamFailed, "it is gone"))
    }

    /// Keeps the reason; false if there is one already. The caller then cancels `closed`.
    pub fn set_reason(&self, refusal: Refusal) -> bool {
        self.reason.set(refusal).is_ok()
    }
}
