//! State that all entries of a pool share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use jiff::Timestamp;
use protocol::provider::ToolProvider;
use protocol::{Code, Refusal, ServerId, TenantId};
use tokio::sync::{Notify, Semaphore, broadcast};
use tokio_util::task::TaskTracker;

use super::PoolKey;
use super::checks::Checks;
use super::entry::Entry;
use super::eras::Verdicts;
use super::events::PoolEvent;
use super::processes::Processes;
use super::settings::PoolSettings;
use crate::logs::LogRing;
use crate::upstream::ClientProfile;

/// The number of stderr bytes kept per server.
const LOG_BYTES: usize = 256 << 10;

pub struct PoolState {
    pub settings: PoolSettings,
    pub builtins: Vec<Arc<dyn ToolProvider>>,
    pub entries: DashMap<PoolKey, Arc<Entry>>,
    /// Servers that the operator stopped, with the time.
    pub stopped_by_operator: DashMap<(TenantId, ServerId), Timestamp>,
    /// Revisions of servers, up to which nothing is started any more.
    pub gone: DashMap<(TenantId, ServerId), i32>,
    /// Logs, which outlive entries, so that a changed server keeps its log.
    logs: DashMap<(TenantId, ServerId), Arc<LogRing>>,
    /// Profiles of the clients that some keys belong to.
    pub profiles: DashMap<PoolKey, Arc<ClientProfile>>,
    pub verdicts: Verdicts,
    pub checks: Checks,
    processes: DashMap<(TenantId, ServerId), Arc<Processes>>,
    pub events: broadcast::Sender<PoolEvent>,
    /// Keys of upstreams, each time they have started.
    pub started: broadcast::Sender<PoolKey>,
    pub tasks: TaskTracker,
    pub closing: AtomicBool,
    /// Wakes the idle watch after a start, which may bring an earlier timeout, and at shutdown.
    pub idle_sooner: Notify,
    pub began: Timestamp,
    clock: Instant,
    generation: AtomicU64,
    /// The number of children that are starting.
    starting: AtomicUsize,
    /// Permits for concurrent starts of children.
    pub start_permits: Arc<Semaphore>,
}

/// Guard that counts a child as starting.
pub struct Starting<'a>(&'a AtomicUsize);

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The number of events that a slow reader may lag behind.
const EVENTS_KEPT: usize = 1024;

/// The number of logs above which those of servers without an entry are dropped.
const MANY_LOGS: usize = 1024;

impl PoolState {
    /// Returns the processes of a server for a tenant.
    pub fn processes(&self, tenant: TenantId, server: ServerId) -> Arc<Processes> {
        Arc::clone(&self.processes.entry((tenant, server)).or_default())
    }

    pub fn new(settings: PoolSettings, builtins: Vec<Arc<dyn ToolProvider>>) -> Self {
        Self {
            start_permits: Arc::new(Semaphore::new(
                settings.start_concurrency.clamp(1, Semaphore::MAX_PERMITS),
            )),
            settings,
            builtins,
            entries: DashMap::new(),
            stopped_by_operator: DashMap::new(),
            gone: DashMap::new(),
            logs: DashMap::new(),
            profiles: DashMap::new(),
            verdicts: Verdicts::default(),
            checks: Checks::default(),
            processes: DashMap::new(),
            events: broadcast::channel(EVENTS_KEPT).0,
            started: broadcast::channel(EVENTS_KEPT).0,
            tasks: TaskTracker::new(),
            closing: AtomicBool::new(false),
            idle_sooner: Notify::new(),
            began: Timestamp::now(),
            clock: Instant::now(),
            generation: AtomicU64::new(0),
            starting: AtomicUsize::new(0),
        }
    }

    pub fn next_generation(&self) -> u64 {
        self.generation.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Returns true once the pool shuts down.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Returns the milliseconds since the pool began.
    pub fn millis(&self) -> u64 {
        self.clock.elapsed().as_millis() as u64
    }

    pub fn logs(&self, tenant: TenantId, server: ServerId) -> Arc<LogRing> {
        if self.logs.len() > MANY_LOGS {
            let used = self.all();
            self.logs.retain(|key, _| used.iter().any(|entry| (entry.key.tenant, entry.key.server) == *key));
        }
        let fresh = || Arc::new(LogRing::new(self.settings.log_lines, LOG_BYTES));
        self.logs.entry((tenant, server)).or_insert_with(fresh).clone()
    }

    pub fn known_logs(&self, tenant: TenantId, server: ServerId) -> Option<Arc<LogRing>> {
        self.logs.get(&(tenant, server)).map(|logs| logs.clone())
    }

    pub fn all(&self) -> Vec<Arc<Entry>> {
        self.entries.iter().map(|entry| entry.value().clone()).collect()
    }

    pub fn of(&self, tenant: TenantId, server: ServerId) -> Vec<Arc<Entry>> {
        let mut found = self.all();
        found.retain(|entry| entry.key.tenant == tenant && entry.key.server == server);
        found
    }

    /// Returns the running children, without those that are starting.
    fn children(&self) -> Vec<Arc<Entry>> {
        let mut all = self.all();
        all.retain(|entry| entry.runs_child());
        all
    }

    /// Returns a place for a new child; at the limit of running and starting children, stops the one that was
    /// idle longest.
    pub async fn make_room(&self, tenant: TenantId) -> Result<Starting<'_>, Refusal> {
        let starting = Starting(&self.starting);
        let others = starting.0.fetch_add(1, Ordering::SeqCst);
        let mut children = self.children();
        children.sort_by_key(|entry| entry.last_used.load(Ordering::Relaxed));
        let max = self.settings.max_children;
        // One tenant gets at most three quarters of the places.
        let share = max - max / 4;
        let (own, foreign): (Vec<_>, Vec<_>) = children.iter().partition(|entry| entry.key.tenant == tenant);
        let crowded = own.len() >= share;
        if !crowded && children.len() + others < max {
            return Ok(starting);
        }
        let foreign = if crowded { Vec::new() } else { foreign };
        for entry in own.iter().chain(&foreign) {
            if entry.rest("ended to make room for another server").await {
                return Ok(starting);
            }
        }
        let (running, whose) = match crowded {
            true => (own.len(), "this tenant's share of max_children"),
            false => (children.len(), "max_children"),
        };
        let reason = format!("{running} servers run already, and all are in use");
        Err(Refusal::new(Code::UpstreamUnavailable, reason).rule(whose).retry_after(Duration::from_secs(1)))
    }
}
