//! The pool of upstreams: one per key, started when first needed, restarted when it died, stopped
//! when idle. It does not know what is asked of them, nor whether the caller may.

mod settings;
mod status;

use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::mcp::Era;
use protocol::provider::ToolProvider;
use protocol::{Refusal, ServerId, TenantId};

use crate::server::ServerSpec;
use crate::upstream::{Initialized, UpstreamAnswer, UpstreamRequest};

pub use settings::PoolSettings;
pub use status::{LogLine, State, UpstreamStatus};

/// What decides whether two requests share one upstream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PoolKey {
    pub tenant: TenantId,
    pub server: ServerId,
    pub revision: i32,
    /// Hash of what a configuration changes for the child; zero when nothing.
    pub variant: u64,
    pub era: Era,
}

/// An answer and what it took.
#[derive(Clone, Debug)]
pub struct Delivered {
    pub answer: UpstreamAnswer,
    /// Waited for a place or for the start.
    pub queue: Duration,
    /// Waited for the upstream itself.
    pub upstream: Duration,
    pub attempts: u8,
}

/// All upstreams of this process. Cheap to clone.
#[derive(Clone)]
pub struct Pool {}

impl Pool {
    /// Needs a running tokio runtime.
    pub fn new(settings: PoolSettings, builtins: Vec<Arc<dyn ToolProvider>>) -> Pool {
        todo!("{settings:?} {}", builtins.len())
    }

    /// Sends one request, and starts the upstream first when it does not run. Time spent on a start
    /// does not count towards the deadline; it has `start_timeout` of its own.
    pub async fn request(
        &self,
        key: &PoolKey,
        spec: &Arc<ServerSpec>,
        request: UpstreamRequest<'_>,
    ) -> Result<Delivered, Refusal> {
        todo!("{key:?} {spec:?} {request:?}")
    }

    /// What the handshake brought; starts the upstream when it does not run.
    pub async fn initialized(
        &self,
        key: &PoolKey,
        spec: &Arc<ServerSpec>,
        deadline: Instant,
    ) -> Result<Arc<Initialized>, Refusal> {
        todo!("{key:?} {spec:?} {deadline:?}")
    }

    /// A number that grows with each `list_changed` notification and each start: what was listed
    /// under a lower one is stale.
    pub fn changes(&self, key: &PoolKey) -> u64 {
        todo!("{key:?}")
    }

    pub fn status(&self, tenant: TenantId, server: ServerId) -> UpstreamStatus {
        todo!("{tenant} {server}")
    }

    /// The newest lines, oldest first: the child's stderr and what the gateway noted about it.
    pub fn logs(&self, tenant: TenantId, server: ServerId, limit: usize) -> Vec<LogLine> {
        todo!("{tenant} {server} {limit}")
    }

    /// Allows it to run again after `stop`, and starts it now. Waits for the handshake.
    pub async fn start(&self, tenant: TenantId, spec: &Arc<ServerSpec>) -> Result<(), Refusal> {
        todo!("{tenant} {spec:?}")
    }

    /// Ends it and holds it down: requests are refused with `server_stopped` until `start`.
    pub async fn stop(&self, tenant: TenantId, spec: &Arc<ServerSpec>) {
        todo!("{tenant} {spec:?}")
    }

    /// Ends it, forgets earlier crashes and starts it again. Waits for the handshake.
    pub async fn restart(&self, tenant: TenantId, spec: &Arc<ServerSpec>) -> Result<(), Refusal> {
        todo!("{tenant} {spec:?}")
    }

    /// For a server that was deleted or changed: every upstream of it takes no new requests, finishes
    /// those in flight (at most 10 s) and ends. A later request starts a new one.
    pub async fn retire(&self, server: ServerId) {
        todo!("{server}")
    }

    /// Takes no new requests, waits up to `grace` for those in flight, then ends every child.
    pub async fn shutdown(&self, grace: Duration) {
        todo!("{grace:?}")
    }
}
