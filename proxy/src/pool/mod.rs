//! The pool of upstreams: one per key, started when first needed, restarted when it died, stopped
//! when idle. It does not know what is asked of them, nor whether the caller may.

mod backoff;
mod clients;
mod ending;
mod entry;
mod eras;
mod events;
mod idle;
mod probe;
mod processes;
mod request;
mod seen;
mod settings;
mod shared;
mod start;
mod status;
mod subscriptions;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use protocol::mcp::Era;
use protocol::provider::ToolProvider;
use protocol::{Code, Refusal, ServerId, TenantId};

use crate::child::Needed;
use crate::server::ServerSpec;
use entry::{Entry, Unavailable};
use futures_util::future::join_all;
use shared::PoolShared;

use crate::upstream::{Initialized, UpstreamAnswer, UpstreamRequest};

pub use crate::peer::events::UpstreamEvent;
pub use events::PoolEvent;
pub use processes::Processes;
pub use settings::{PASSED_ON, PoolSettings};
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
    /// Hash of the one client that it serves; zero when all callers of the tenant share it.
    pub owner: u64,
    /// Hash of the capabilities that were declared to it; zero for none.
    pub declared: u64,
}

impl PoolKey {
    /// The key of what all callers of a tenant share. Each tenant has its own, also of a global server:
    /// a child may remember what it was told.
    pub fn shared(tenant: TenantId, spec: &ServerSpec, era: Era) -> Self {
        Self { tenant, server: spec.id, revision: spec.revision, variant: 0, era, owner: 0, declared: 0 }
    }
}

/// How many upstreams there are, by state, and what they do.
#[derive(Clone, Default, Debug)]
pub struct PoolFigures {
    pub states: Vec<(&'static str, usize)>,
    pub children: usize,
    pub in_flight: usize,
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

impl Delivered {
    pub fn map_answer(self, change: impl FnOnce(UpstreamAnswer) -> UpstreamAnswer) -> Self {
        Self { answer: change(self.answer), ..self }
    }

    pub fn map_result(self, change: impl FnOnce(bytes::Bytes) -> bytes::Bytes) -> Self {
        self.map_answer(|answer| match answer {
            UpstreamAnswer::Result(result) => UpstreamAnswer::Result(change(result)),
            error @ UpstreamAnswer::Error(_) => error,
        })
    }
}

/// How long a server that was deleted or changed may finish what is in flight.
const DRAIN: Duration = Duration::from_secs(10);

/// All upstreams of this process. Cheap to clone. It lives until `shutdown`.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<PoolShared>,
}

impl Pool {
    /// Needs a running tokio runtime.
    pub fn new(settings: PoolSettings, builtins: Vec<Arc<dyn ToolProvider>>) -> Pool {
        let shared = Arc::new(PoolShared::new(settings, builtins));
        shared.tasks.spawn(idle::watch(shared.clone()));
        Pool { shared }
    }

    /// Sends one request, and starts the upstream first when it does not run. Time spent on a start
    /// does not count towards the deadline; it has `start_timeout` of its own.
    pub async fn request(
        &self,
        key: &PoolKey,
        spec: &Arc<ServerSpec>,
        request: UpstreamRequest<'_>,
    ) -> Result<Delivered, Refusal> {
        let begun = Instant::now();
        loop {
            match self.entry(key, spec)?.request(&request, begun).await {
                Ok(delivered) => return Ok(delivered),
                Err(Unavailable::Refused(refusal)) => return Err(refusal),
                // It was changed between the look-up and the use.
                Err(Unavailable::Retired) => {}
            }
        }
    }

    /// What the handshake brought; starts the upstream when it does not run.
    pub async fn initialized(
        &self,
        key: &PoolKey,
        spec: &Arc<ServerSpec>,
        deadline: Instant,
    ) -> Result<Arc<Initialized>, Refusal> {
        loop {
            let entry = self.entry(key, spec)?;
            let running = match tokio::time::timeout_at(deadline.into(), entry.ensure()).await {
                Ok(Ok(running)) => running,
                Ok(Err(Unavailable::Refused(refusal))) => return Err(refusal),
                Ok(Err(Unavailable::Retired)) => continue,
                Err(_) => {
                    let reason = format!("`{}` is still starting", spec.slug);
                    return Err(Refusal::new(Code::TimedOut, reason).hint("ask again in a moment"));
                }
            };
            entry.touch();
            return Ok(running.initialized.clone());
        }
    }

    /// A number that grows with each `list_changed` notification and each start: what was listed
    /// under a lower one is stale.
    pub fn changes(&self, key: &PoolKey) -> u64 {
        self.shared.entries.get(key).map_or(0, |entry| entry.changes.load(Ordering::Relaxed))
    }

    pub fn status(&self, tenant: TenantId, server: ServerId) -> UpstreamStatus {
        status::of(&self.shared, tenant, server)
    }

    /// Counts over all upstreams, for the figures.
    pub fn figures(&self) -> PoolFigures {
        status::figures(&self.shared)
    }

    /// The newest lines, oldest first: the child's stderr and what the gateway noted about it.
    pub fn logs(&self, tenant: TenantId, server: ServerId, limit: usize) -> Vec<LogLine> {
        self.shared.known_logs(tenant, server).map_or_else(Vec::new, |logs| logs.newest(limit))
    }

    /// Allows it to run again after `stop`, and starts it now. Waits for the handshake.
    pub async fn start(&self, tenant: TenantId, spec: &Arc<ServerSpec>) -> Result<(), Refusal> {
        self.release(tenant, spec, false).await
    }

    /// Ends it and holds it down: requests are refused with `server_stopped` until `start`. Comes back
    /// when the last process is gone, and says what that took.
    pub async fn stop(&self, tenant: TenantId, spec: &Arc<ServerSpec>) -> Needed {
        self.shared.held.insert((tenant, spec.id), jiff::Timestamp::now());
        let (entries, processes) = (self.shared.of(tenant, spec.id), self.shared.processes(tenant, spec.id));
        let (held, others) =
            tokio::join!(join_all(entries.iter().map(|entry| entry.hold())), processes.end());
        held.into_iter().max().unwrap_or_default().max(others)
    }

    /// Ends it, forgets earlier crashes and starts it again. Waits for the handshake.
    pub async fn restart(&self, tenant: TenantId, spec: &Arc<ServerSpec>) -> Result<(), Refusal> {
        self.release(tenant, spec, true).await
    }

    async fn release(&self, tenant: TenantId, spec: &Arc<ServerSpec>, stop: bool) -> Result<(), Refusal> {
        self.shared.held.remove(&(tenant, spec.id));
        self.shared.processes(tenant, spec.id).allow();
        let era = self.era_to_start(tenant, spec).await?;
        let wanted = self.entry(&PoolKey::shared(tenant, spec, era), spec)?;
        let entries = self.shared.of(tenant, spec.id);
        join_all(entries.iter().map(|entry| entry.release(stop))).await;
        match wanted.ensure().await {
            Ok(_) => Ok(()),
            Err(Unavailable::Refused(refusal)) => Err(refusal),
            Err(Unavailable::Retired) => {
                let reason = format!("`{}` was changed meanwhile", spec.slug);
                Err(Refusal::new(Code::Conflict, reason))
            }
        }
    }

    /// The one in which it ran last; otherwise, where it speaks both, the one of most clients.
    async fn era_to_start(&self, tenant: TenantId, spec: &Arc<ServerSpec>) -> Result<Era, Refusal> {
        let entries = self.shared.of(tenant, spec.id).into_iter();
        let last = entries
            .filter(|entry| entry.key == PoolKey::shared(tenant, spec, entry.key.era) && entry.has_run())
            .max_by_key(|entry| entry.last_used.load(Ordering::Relaxed));
        let deadline = Instant::now() + spec.start_timeout * 3;
        let eras = self.eras(tenant, spec, deadline).await?;
        Ok(eras.nearest(last.map_or(Era::Legacy, |entry| entry.key.era)))
    }

    /// For a server that was deleted or changed: every upstream of it takes no new requests, finishes
    /// those in flight (at most 10 s) and ends. A later request starts a new one.
    pub async fn retire(&self, server: ServerId) {
        self.retire_where(|key| key.server == server).await;
    }

    async fn retire_where(&self, gone: impl Fn(&PoolKey) -> bool) {
        let mut retired = Vec::new();
        self.shared.entries.retain(|key, entry| {
            let gone = gone(key);
            if gone {
                retired.push(entry.clone());
            }
            !gone
        });
        join_all(retired.iter().map(|entry| entry.retire(DRAIN))).await;
    }

    /// Takes no new requests, waits up to `grace` for those in flight, then ends every child.
    pub async fn shutdown(&self, grace: Duration) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.shared.idle_sooner.notify_one();
        let entries = self.shared.all();
        self.shared.entries.clear();
        join_all(entries.iter().map(|entry| entry.retire(grace))).await;
    }

    /// The entry of the key, made if there is none. A new revision retires the older ones.
    fn entry(&self, key: &PoolKey, spec: &Arc<ServerSpec>) -> Result<Arc<Entry>, Refusal> {
        if let Some(entry) = self.shared.entries.get(key) {
            return Ok(entry.clone());
        }
        if self.shared.closing.load(Ordering::SeqCst) {
            return Err(Refusal::new(Code::ShuttingDown, "the gateway is shutting down"));
        }
        let held = self.shared.held.contains_key(&(key.tenant, key.server));
        let fresh = || Entry::new(*key, spec.clone(), self.shared.clone(), held);
        let entry = self.shared.entries.entry(*key).or_insert_with(fresh).clone();
        let older = |other: &PoolKey| {
            other.tenant == key.tenant && other.server == key.server && other.revision < key.revision
        };
        if self.shared.entries.iter().any(|other| older(other.key())) {
            let (pool, key) = (self.clone(), *key);
            self.shared.profiles.retain(|other, _| !older(other));
            self.shared.tasks.spawn(async move {
                let older = move |other: &PoolKey| {
                    other.tenant == key.tenant && other.server == key.server && other.revision < key.revision
                };
                pool.retire_where(older).await;
            });
        }
        Ok(entry)
    }
}
