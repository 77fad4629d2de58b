//! Start of a remote server by Streamable HTTP as an upstream.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::mcp::{Era, method};
use protocol::{Code, Refusal};

use super::connection::HttpConnection;
use super::exchange;
use super::failure::Trouble;
use super::get_stream;
use super::listen::{self, ListenStream};
use super::plan::RemotePlan;
use crate::child::Needed;
use crate::peer::listen::{DeclaredLists, Honoured, ListenError};
use crate::peer::router::ServerMessageRouter;
use crate::peer::upstream::{PeerUpstream, Started};
use crate::peer::{Connection, ConnectionState, PeerPlan, handshake, message};
use crate::server::RemoteLaunch;
use crate::transport::sse_legacy;
use crate::upstream::{Listener, Params, UpstreamAnswer, UpstreamRequest};

/// Time for the end of a session.
const GOODBYE: Duration = Duration::from_secs(2);

/// Shakes hands with a remote server in the era of the plan.
pub async fn start(
    plan: &RemotePlan,
    launch: &RemoteLaunch,
    generation: u64,
    deadline: Instant,
) -> Result<Started, Refusal> {
    let connection = HttpConnection::new(plan, launch)?;
    // The start may be given up.
    let unfinished = connection.state.closed.clone().drop_guard();
    let trouble = match handshake::shake(&connection, generation, deadline).await {
        Ok(initialized) => {
            unfinished.disarm();
            if plan.peer.era == Era::Legacy {
                let lists = DeclaredLists::read(&initialized.result);
                plan.peer.tasks.spawn(get_stream::read(connection.clone(), lists));
            }
            return Ok(PeerUpstream::new(connection, &initialized).started(initialized));
        }
        Err(trouble) => trouble,
    };
    // The handshake fails so where there is only the transport before this one.
    if plan.peer.era == Era::Legacy
        && matches!(trouble.status, Some(400 | 404 | 405))
        && let Some(older) = sse_legacy::open(plan, &connection.client, deadline).await
    {
        connection.close(connection.state.reason());
        return shake_or_close(plan, older, generation, deadline).await;
    }
    let refusal = not_started(&plan.peer.server, trouble.failure.refusal);
    connection.close(refusal.clone());
    Err(refusal)
}

/// Shakes hands on a connection that is open, and closes it if that fails.
pub async fn shake_or_close<C: Connection>(
    plan: &RemotePlan,
    connection: Arc<C>,
    generation: u64,
    deadline: Instant,
) -> Result<Started, Refusal> {
    // The start may be given up.
    let unfinished = connection.state().closed.clone().drop_guard();
    match handshake::shake(&connection, generation, deadline).await {
        Ok(initialized) => {
            unfinished.disarm();
            Ok(PeerUpstream::new(connection, &initialized).started(initialized))
        }
        Err(error) => {
            let refusal = not_started(&plan.peer.server, error.into().refusal);
            connection.close(refusal.clone());
            Err(refusal)
        }
    }
}

/// Returns why a server did not start: one that refused or was late is as good as none.
pub fn not_started(server: &str, refusal: Refusal) -> Refusal {
    if refusal.code == Code::TimedOut {
        let reason = format!("`{server}` did not answer the handshake in time");
        return Refusal::new(Code::UpstreamUnavailable, reason);
    }
    let code = if refusal.code == Code::NotConfigured { refusal.code } else { Code::UpstreamUnavailable };
    Refusal { code, ..refusal }
}

impl Connection for HttpConnection {
    type Listen = ListenStream;
    type Error = Trouble;

    fn plan(&self) -> &PeerPlan {
        &self.plan
    }

    fn router(&self) -> &ServerMessageRouter {
        &self.router
    }

    fn state(&self) -> &ConnectionState {
        &self.state
    }

    async fn request<'a>(
        self: &'a Arc<Self>,
        request: UpstreamRequest<'a>,
    ) -> Result<UpstreamAnswer, Trouble> {
        exchange::run(self, &request).await
    }

    fn notify(&self, method: &str, params: &[u8]) {
        let body = message::notification(method, Params::raw(params));
        self.queue(self.headers(method, params, &[]), body.into());
    }

    fn answer_now(&self, id: &str, answer: &UpstreamAnswer) {
        // A modern server cannot ask, and takes requests only.
        if self.is_legacy() {
            self.queue(self.session_headers(), message::answer(id, answer).into());
        }
    }

    async fn answer(&self, id: &str, answer: &UpstreamAnswer) {
        self.send_aside(self.session_headers(), message::answer(id, answer).into()).await;
    }

    async fn confirm_initialized(&self, revision: &str) {
        self.agree(revision);
        let body = message::notification(method::INITIALIZED, Params::none());
        self.send_aside(self.session_headers(), body.into()).await;
    }

    async fn open_listen(self: &Arc<Self>, params: String) -> Result<(ListenStream, Honoured), ListenError> {
        listen::open(self, &params).await
    }

    async fn end_of_listen(self: &Arc<Self>, stream: &mut ListenStream) -> Result<(), ListenError> {
        listen::end(self, stream).await
    }

    /// Does nothing: here the end of the stream says it.
    fn cancel_listen(&self, _id: u64) {}

    fn listener_of_progress(&self, token: u64) -> Option<Arc<dyn Listener>> {
        self.in_flight.lock().of_progress(token)
    }

    fn listener_of_only_request(&self, one_client: bool) -> Option<Arc<dyn Listener>> {
        self.in_flight.lock().of_only_request(one_client)
    }

    fn close(&self, refusal: Refusal) {
        if self.state.set_reason(refusal) {
            self.state.closed.cancel();
        }
    }

    fn stop(&self, refusal: Refusal) -> impl Future<Output = Needed> + Send {
        let was_open = self.state.is_open();
        self.close(refusal);
        async move {
            if was_open {
                self.end_session(GOODBYE).await;
            }
            Needed::Nothing
        }
    }
}
