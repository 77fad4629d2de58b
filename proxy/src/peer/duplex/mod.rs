//! Connections on which messages of both directions go over one stream: standard streams, WebSocket, HTTP
//! with SSE. The transports write what is queued and hand in what they read.

pub mod call;
pub mod connection;
pub mod incoming;
pub mod outbox;
pub mod pending;
pub mod standing;

use std::future::Future;
use std::sync::Arc;

use protocol::Refusal;
use protocol::mcp::method;

pub use self::connection::DuplexConnection;
pub use self::incoming::Incoming;
pub use self::outbox::{Outbox, Outgoing, QueueOutbox};

use self::call::Call;
use self::standing::Standing;
use super::listen::{Honoured, ListenError};
use super::router::ServerMessageRouter;
use super::{Connection, ConnectionState, PeerPlan};
use crate::child::Needed;
use crate::upstream::{Failure, Listener, UpstreamAnswer, UpstreamRequest};

impl<O: Outbox> Connection for DuplexConnection<O> {
    type Listen = Standing<O>;
    type Error = Failure;

    fn plan(&self) -> &PeerPlan {
        &self.plan
    }

    fn router(&self) -> &ServerMessageRouter {
        &self.router
    }

    fn state(&self) -> &ConnectionState {
        &self.state
    }

    fn request<'a>(
        self: &'a Arc<Self>,
        request: UpstreamRequest<'a>,
    ) -> impl Future<Output = Result<UpstreamAnswer, Failure>> + Send + 'a {
        Call::new(self, request)
    }

    fn notify(&self, method: &str, params: &[u8]) {
        DuplexConnection::notify(self, method, params);
    }

    fn answer_now(&self, id: &str, answer: &UpstreamAnswer) {
        DuplexConnection::answer(self, id, answer);
    }

    async fn confirm_initialized(&self, _revision: &str) {
        self.notify(method::INITIALIZED, b"");
    }

    async fn open_listen(self: &Arc<Self>, params: String) -> Result<(Standing<O>, Honoured), ListenError> {
        let mut acknowledgements = self.router.acknowledgements();
        let opened = Standing::open(self, method::LISTEN, &params);
        let mut listen = opened.map_err(|failure| ListenError::Failed(failure.refusal))?;
        let id = listen.id();
        let acknowledged = async {
            let is_ours = |last: &Option<(u64, Honoured)>| last.as_ref().is_some_and(|last| last.0 == id);
            let last = acknowledgements.wait_for(is_ours).await.ok()?;
            last.as_ref().map(|(_, honoured)| honoured.clone())
        };
        tokio::select! {
            biased;
            Some(honoured) = acknowledged => Ok((listen, honoured)),
            reply = &mut listen => Err(match reply {
                Ok(answer) => ListenError::of_answer(self.server(), answer),
                Err(failure) => ListenError::Failed(failure.refusal),
            }),
        }
    }

    async fn end_of_listen(self: &Arc<Self>, listen: &mut Standing<O>) -> Result<(), ListenError> {
        match listen.await {
            Ok(UpstreamAnswer::Result(_)) => Ok(()),
            Ok(UpstreamAnswer::Error(error)) => Err(ListenError::Refused(error)),
            Err(failure) => Err(ListenError::Failed(failure.refusal)),
        }
    }

    fn cancel_listen(&self, id: u64) {
        if self.is_standing(id) {
            self.complete(id, Ok(UpstreamAnswer::Result(bytes::Bytes::from_static(b"{}"))));
        }
    }

    fn listener_of_progress(&self, token: u64) -> Option<Arc<dyn Listener>> {
        DuplexConnection::listener_of_progress(self, token)
    }

    fn listener_of_only_request(&self, one_client: bool) -> Option<Arc<dyn Listener>> {
        DuplexConnection::listener_of_only_request(self, one_client)
    }

    fn close(&self, refusal: Refusal) {
        DuplexConnection::close(self, refusal);
    }

    fn stop(&self, refusal: Refusal) -> impl Future<Output = Needed> + Send {
        self.close(refusal);
        O::stop(&self.process)
    }
}
