//! JSON-RPC peer of an MCP server, the same over every transport: handshake, routing of the server's
//! messages, server requests and subscriptions.

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
    /// The era of the connection.
    pub era: Era,
    pub gateway: ClientInfo,
    /// The client that the upstream serves; `None` for one that serves many.
    pub client: Option<Arc<ClientProfile>>,
    /// True if all requests, but for the gateway's own, are of one client.
    pub serves_one_client: bool,
    pub publish: Publish,
    pub logs: Arc<LogRing>,
    pub tasks: TaskTracker,
}

/// Connection to one server, implemented by each transport.
pub trait Connection: Send + Sync + Sized + 'static {
    /// Guard of an open `subscriptions/listen`.
    type Listen: Send;
    /// Failure of a request, with the transport's knowledge of the cause.
    type Error: From<Failure> + Into<Failure> + Send;

    fn plan(&self) -> &PeerPlan;
    fn router(&self) -> &ServerMessageRouter;
    fn state(&self) -> &ConnectionState;

    /// Sends a request and waits for its answer. Dropping the future cancels the request.
    fn request<'a>(
        self: &'a Arc<Self>,
        request: UpstreamRequest<'a>,
    ) -> impl Future<Output = Result<UpstreamAnswer, Self::Error>> + Send + 'a;

    /// Queues a notification; drops it if the queue is full.
    fn notify(&self, method: &str, params: &[u8]);

    /// Queues the answer to a server request, with the server's `id`; drops it if the queue is full.
    fn answer_now(&self, id: &str, answer: &UpstreamAnswer);

    /// Sends the answer to a server request.
    fn answer(&self, id: &str, answer: &UpstreamAnswer) -> impl Future<Output = ()> + Send {
        async move { self.answer_now(id, answer) }
    }

    /// Sends `notifications/initialized` before everything else. `revision` is the negotiated one.
    fn confirm_initialized(&self, revision: &str) -> impl Future<Output = ()> + Send;

    /// Opens a `subscriptions/listen` and waits for the server's acknowledgement.
    fn open_listen(
        self: &Arc<Self>,
        params: String,
    ) -> impl Future<Output = Result<(Self::Listen, Honoured), ListenError>> + Send;

    /// Waits for the end of a `subscriptions/listen`; an error if the server refused it.
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

    /// Refuses all requests in flight and to come, with the first reason given.
    fn close(&self, refusal: Refusal);

    /// Ends the connection in an orderly way.
    fn stop(&self, refusal: Refusal) -> impl Future<Output = Needed> + Send;

    fn server(&self) -> &str {
        &self.plan().server
    }
}

/// State of a connection, with the reason for its end.
#[derive(Default)]
pub struct ConnectionState {
    /// Cancelled at the end of the connection.
    pub closed: CancellationToken,
    reason: OnceLock<Refusal>,
}

impl ConnectionState {
    pub fn is_open(&self) -> bool {
        self.reason.get().is_none()
    }

    /// Returns the refusal of late requests, if the connection is closed.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.reason.get()
    }

    /// Returns the reason for the end.
    pub fn reason(&self) -> Refusal {
        self.reason.get().cloned().unwrap_or_else(|| Refusal::new(Code::UpstreamFailed, "it is gone"))
    }

    /// Stores the reason, unless there is one already. On true the caller cancels `closed`.
    pub fn set_reason(&self, refusal: Refusal) -> bool {
        self.reason.set(refusal).is_ok()
    }
}
