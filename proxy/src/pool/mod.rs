//! Pool of upstreams: one per key, started on demand, restarted after a crash, stopped when idle. The pool
//! knows neither the meaning of requests nor permissions.

mod backoff;
mod check;
mod checks;
mod dedicated;
mod ending;
mod entry;
mod entry_status;
mod eras;
mod events;
mod first_start;
mod idle;
mod outcomes;
mod processes;
mod request;
mod settings;
mod start;
mod starting;
mod state;
mod status;
mod subscriptions;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use protocol::mcp::Era;
use protocol::provider::ToolProvider;
use protocol::{Code, Refusal, ServerId, TenantId};

use crate::child::Needed;
use crate::selected::Selected;
use crate::server::ServerSpec;
use entry::{Entry, Unavailable};
use futures_util::future::join_all;
use state::PoolState;

use crate::upstream::{Initialized, UpstreamAnswer, UpstreamRequest};

pub use crate::peer::events::UpstreamEvent;
pub use events::PoolEvent;
pub use processes::Processes;
pub use settings::{PASSED_ON, PoolSettings};
pub use status::{LogLine, State, UpstreamStatus};
pub use subscriptions::Subscribed;

/// Key of an upstream: requests with the same key share it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PoolKey {
    pub tenant: TenantId,
    pub server: ServerId,
    pub revision: i32,
    pub era: Era,
    /// Hash of the one client that the upstream serves; zero when all callers of the tenant share it.
    pub owner: u64,
    /// Client capabilities that the handshake declares, as bits; zero for none.
    pub declared: u64,
    /// Mark of values that configs add to the server's launch; zero for none.
    pub variant: u64,
}

impl PoolKey {
    /// Returns the key of the upstream that all callers of a tenant share. Global servers too run once per
    /// tenant: a child may remember earlier requests.
    pub fn shared(tenant: TenantId, spec: &ServerSpec, era: Era) -> Self {
        let (revision, variant) = (spec.revision, spec.variant);
        Self { tenant, server: spec.id, revision, era, owner: 0, declared: 0, variant }
    }
}

/// The numbers of upstreams (by state), children and requests.
#[derive(Clone, Default, Debug)]
pub struct PoolFigures {
    pub states: Vec<(&'static str, usize)>,
    pub children: usize,
    pub in_flight: usize,
}

/// An answer with its timing.
#[derive(Clone, Debug)]
pub struct Delivered {
    pub answer: UpstreamAnswer,
    /// Time in the queue and for a start.
    pub queue: Duration,
    /// Time until the upstream answered.
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

/// Most servers that are remembered as gone.
const MANY_GONE: usize = 4096;

/// Time for requests in flight when a server was deleted or changed.
const DRAIN: Duration = Duration::from_secs(10);

/// All upstreams of this process, until `shutdown`. Cheap to clone.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<PoolState>,
}

impl Pool {
    /// Needs a running tokio runtime.
    pub fn new(settings: PoolSettings, builtins: Vec<Arc<dyn ToolProvider>>) -> Pool {
        let shared = Arc::new(PoolState::new(settings, builtins));
        shared.tasks.spawn(idle::watch(shared.clone()));
        Pool { shared }
    }

    /// Sends one request, and starts the upstream first if necessary. A start does not count towards the
    /// deadline; it has its own `start_timeout`.
    pub async fn request(
        &self,
        selected: &Selected,
        request: UpstreamRequest<'_>,
    ) -> Result<Delivered, Refusal> {
        self.send(&selected.key, &selected.spec, request).await
    }

    pub(crate) async fn send(
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
                // The server was changed between look-up and use.
                Err(Unavailable::Retired) => {}
            }
        }
    }

    /// Returns the handshake of an upstream, started first if necessary.
    pub async fn initialized(
        &self,
        selected: &Selected,
        deadline: Instant,
    ) -> Result<Arc<Initialized>, Refusal> {
        let Selected { list_key: key, spec, is_use, .. } = selected;
        loop {
            let entry = self.entry(key, spec)?;
            let running = match tokio::time::timeout_at(deadline.into(), entry.ensure(deadline)).await {
                Ok(Ok(running)) => running,
                Ok(Err(Unavailable::Refused(refusal))) => return Err(refusal),
                Ok(Err(Unavailable::Retired)) => continue,
                Err(_) => {
                    let reason = format!("`{}` is still starting", spec.slug);
                    return Err(Refusal::new(Code::TimedOut, reason).hint("ask again in a moment"));
                }
            };
            if *is_use {
                entry.touch();
            }
            return Ok(running.initialized.clone());
        }
    }

    /// Returns a number that grows with each `list_changed` notification and each start; lists fetched under
    /// a lower number are stale.
    pub fn changes(&self, key: &PoolKey) -> u64 {
        self.shared.entries.get(key).map_or(0, |entry| entry.changes.load(Ordering::Relaxed))
    }

    /// Returns the number of `changes` of an upstream that runs.
    pub fn changes_of_running(&self, key: &PoolKey) -> Option<u64> {
        let entry = self.shared.entries.get(key)?;
        entry.alive().map(|_| entry.changes.load(Ordering::Relaxed))
    }

    /// Returns true if the upstream runs and has sent a `list_changed` notification since its start.
    pub fn has_changed(&self, key: &PoolKey) -> bool {
        self.shared.entries.get(key).is_some_and(|entry| {
            entry.changes.load(Ordering::Relaxed) & u64::from(u32::MAX) != 0 && entry.alive().is_some()
        })
    }

    /// Returns true while requests are in flight to an upstream.
    pub fn is_busy(&self, key: &PoolKey) -> bool {
        self.shared.entries.get(key).is_some_and(|entry| entry.in_flight.load(Ordering::Relaxed) > 0)
    }

    /// Returns true if the upstream runs and was found to have other lists than the shared one.
    pub fn has_own_lists(&self, key: &PoolKey) -> bool {
        self.shared
            .entries
            .get(key)
            .is_some_and(|entry| entry.own_lists.load(Ordering::Relaxed) && entry.alive().is_some())
    }

    pub(crate) fn set_own_lists(&self, key: &PoolKey) {
        if let Some(entry) = self.shared.entries.get(key) {
            entry.own_lists.store(true, Ordering::Relaxed);
        }
    }

    /// Returns the names of the providers that built-in servers can have.
    pub fn providers(&self) -> Vec<&'static str> {
        self.shared.builtins.iter().map(|provider| provider.info().name).collect()
    }

    /// Notes a defect of the lists of an upstream that answers, or that there is none.
    pub(crate) fn note_lists(&self, key: &PoolKey, defect: Option<&'static str>) {
        if let Some(entry) = self.shared.entries.get(key) {
            entry.outcomes.note_lists(defect);
        }
    }

    /// Returns the setting that a built-in server misses.
    pub fn missing_setting(&self, provider: &str) -> Option<Refusal> {
        let known = self.shared.builtins.iter().find(|known| known.info().name == provider);
        known.and_then(|provider| provider.not_configured())
    }

    /// Returns the state of a server for a tenant: that of its upstream, and of the last check of the server. A
    /// built-in server whose provider misses a setting is not configured, used or not.
    pub fn status(&self, tenant: TenantId, server: ServerId, provider: Option<&str>) -> UpstreamStatus {
        let status = status::of(&self.shared, tenant, server);
        match provider.and_then(|provider| self.missing_setting(provider)) {
            Some(missing) => UpstreamStatus {
                state: State::NotConfigured,
                reason: Some(format!("{}: {}", missing.reason, missing.remedy())),
                ..status
            },
            None => status,
        }
    }

    /// Returns counts over all upstreams, for the metrics.
    pub fn figures(&self) -> PoolFigures {
        status::figures(&self.shared)
    }

    /// Returns the time of the last good answer of each server to its tenant.
    pub fn last_successes(&self) -> HashMap<(TenantId, ServerId), Timestamp> {
        status::last_successes(&self.shared)
    }

    /// Returns the newest lines, oldest first: the child's stderr and notes of the gateway.
    pub fn logs(&self, tenant: TenantId, server: ServerId, limit: usize) -> Vec<LogLine> {
        self.shared.known_logs(tenant, server).map_or_else(Vec::new, |logs| logs.newest(limit))
    }

    /// Starts a server now, also after `stop`. Waits for the handshake.
    pub async fn start(&self, tenant: TenantId, spec: &Arc<ServerSpec>) -> Result<(), Refusal> {
        self.release(tenant, spec, false).await
    }

    /// Stops a server: requests are refused with `server_stopped` until `start`. Waits for the last process
    /// to end, and returns the measures that were needed.
    pub async fn stop(&self, tenant: TenantId, spec: &Arc<ServerSpec>) -> Needed {
        self.shared.stopped_by_operator.insert((tenant, spec.id), Timestamp::now());
        let (entries, processes) = (self.shared.of(tenant, spec.id), self.shared.processes(tenant, spec.id));
        let (stopped_by_operator, others) =
            tokio::join!(join_all(entries.iter().map(|entry| entry.stop_by_operator())), processes.end());
        stopped_by_operator.into_iter().max().unwrap_or_default().max(others)
    }

    /// Stops a server, clears its crashes and starts it again. Waits for the handshake.
    pub async fn restart(&self, tenant: TenantId, spec: &Arc<ServerSpec>) -> Result<(), Refusal> {
        self.release(tenant, spec, true).await
    }

    async fn release(&self, tenant: TenantId, spec: &Arc<ServerSpec>, stop: bool) -> Result<(), Refusal> {
        self.shared.stopped_by_operator.remove(&(tenant, spec.id));
        self.shared.processes(tenant, spec.id).allow();
        let entries = self.shared.of(tenant, spec.id);
        join_all(entries.iter().map(|entry| entry.release(stop))).await;
        let deadline = Instant::now() + spec.start_timeout.value * 3;
        let era = self.era_to_start(tenant, spec, deadline).await?;
        let wanted = self.entry(&PoolKey::shared(tenant, spec, era), spec)?;
        match wanted.ensure(deadline).await {
            Ok(_) => Ok(()),
            Err(Unavailable::Refused(refusal)) => Err(refusal),
            Err(Unavailable::Retired) => {
                let reason = format!("`{}` was changed meanwhile", spec.slug);
                Err(Refusal::new(Code::Conflict, reason))
            }
        }
    }

    /// Returns the era in which the server ran last, else the legacy era if the server speaks it.
    async fn era_to_start(
        &self,
        tenant: TenantId,
        spec: &Arc<ServerSpec>,
        deadline: Instant,
    ) -> Result<Era, Refusal> {
        let entries = self.shared.of(tenant, spec.id).into_iter();
        let last = entries
            .filter(|entry| entry.key == PoolKey::shared(tenant, spec, entry.key.era) && entry.has_run())
            .max_by_key(|entry| entry.last_used.load(Ordering::Relaxed));
        let legacy = PoolKey::shared(tenant, spec, Era::Legacy);
        let eras = self.eras(spec, legacy, deadline).await?;
        Ok(eras.nearest(last.map_or(Era::Legacy, |entry| entry.key.era)))
    }

    /// Refuses starts of this revision of a server and of earlier ones, for those who looked it up before it was
    /// changed, disabled or deleted.
    pub fn refuse(&self, tenant: TenantId, spec: &ServerSpec) {
        let gone = &self.shared.gone;
        if gone.len() >= MANY_GONE {
            // Who looked one of them up has long had an answer.
            gone.clear();
        }
        gone.insert((tenant, spec.id), spec.revision);
    }

    /// Takes a refusal back that concerns this revision.
    pub fn admit(&self, tenant: TenantId, spec: &ServerSpec) {
        self.shared.gone.remove_if(&(tenant, spec.id), |_, gone| *gone >= spec.revision);
    }

    /// Retires all upstreams of a server that was deleted or changed: requests in flight have 10 s to finish.
    /// A later request starts a new upstream.
    pub async fn retire(&self, tenant: TenantId, server: ServerId) {
        self.shared.checks.forget(server);
        self.retire_where(|key| key.tenant == tenant && key.server == server).await;
    }

    /// Retires the upstreams of a server whose configs changed, but for those with these marks.
    pub async fn retire_variants(&self, tenant: TenantId, server: ServerId, kept: HashSet<u64>) {
        let gone =
            |key: &PoolKey| key.tenant == tenant && key.server == server && !kept.contains(&key.variant);
        self.retire_where(gone).await;
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

    /// Refuses new requests, waits up to `grace` for those in flight, then ends every child.
    pub async fn shutdown(&self, grace: Duration) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.shared.idle_sooner.notify_one();
        let entries = self.shared.all();
        self.shared.entries.clear();
        join_all(entries.iter().map(|entry| entry.retire(grace))).await;
    }

    /// Returns the entry of a key, created if missing. A new revision retires the older ones.
    fn entry(&self, key: &PoolKey, spec: &Arc<ServerSpec>) -> Result<Arc<Entry>, Refusal> {
        if let Some(entry) = self.shared.entries.get(key) {
            return Ok(entry.clone());
        }
        if self.shared.closing.load(Ordering::SeqCst) {
            return Err(Refusal::new(Code::ShuttingDown, "the gateway is shutting down"));
        }
        let gone = self.shared.gone.get(&(key.tenant, key.server)).is_some_and(|gone| key.revision <= *gone);
        if gone {
            let reason = format!("`{}` was changed, disabled or deleted meanwhile", spec.slug);
            return Err(Refusal::new(Code::Conflict, reason).hint("try again"));
        }
        let stopped_by_operator = self.shared.stopped_by_operator.contains_key(&(key.tenant, key.server));
        let fresh = || Entry::new(*key, spec.clone(), self.shared.clone(), stopped_by_operator);
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
