//! Lifecycle of one upstream in the pool: single start, supervision, backoff after crashes, stop by the
//! operator.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use futures_util::FutureExt;
use jiff::Timestamp;
use parking_lot::Mutex;
use protocol::{Code, Refusal};
use tokio::sync::{Semaphore, watch};

use super::PoolKey;
use super::backoff::Crashes;
use super::start;
use super::state::PoolState;
use super::subscriptions::Subscriptions;
use crate::breaker::Breaker;
use crate::logs::LogRing;
use crate::server::ServerSpec;
use crate::stdio::NotStarted;
use crate::upstream::{Initialized, Upstream};

pub struct Entry {
    pub key: PoolKey,
    pub spec: Arc<ServerSpec>,
    pub pool: Arc<PoolState>,
    /// The running upstream, all that requests read.
    pub current: ArcSwapOption<Running>,
    pub(super) life: Mutex<Life>,
    pub breaker: Breaker,
    /// Permits for concurrent requests; `None` without a limit.
    pub places: Option<Semaphore>,
    pub waiting: AtomicUsize,
    pub in_flight: AtomicUsize,
    /// Milliseconds since the pool began.
    pub last_used: AtomicU64,
    /// Microseconds since 1970; zero for never.
    pub(super) last_success: AtomicI64,
    /// Number of the last start in the upper half, and of the changes of lists since then in the lower.
    pub changes: Arc<AtomicU64>,
    pub logs: Arc<LogRing>,
    pub subscriptions: Arc<Subscriptions>,
    pub(super) starts: AtomicU64,
}

/// An upstream after its handshake.
pub struct Running {
    pub upstream: Arc<dyn Upstream>,
    pub initialized: Arc<Initialized>,
    pub pid: Option<u32>,
    pub started: Instant,
    /// True for a child process of the pool.
    pub is_child: bool,
}

pub(super) struct Life {
    pub phase: Phase,
    pub since: Timestamp,
    pub crashes: Crashes,
}

/// Outcome of a start, for all who wait; `None` before.
pub(super) type StartOutcome = Option<Result<(), Refusal>>;

#[derive(Clone)]
pub(super) enum Phase {
    /// Not started yet, or stopped when idle.
    Idle {
        note: Option<&'static str>,
    },
    Starting(watch::Receiver<StartOutcome>),
    Running,
    /// Crashed or failed to start. No start happens before `until`.
    Crashed {
        until: Instant,
        last: Refusal,
    },
    Held,
    /// Removed from the pool: holders of this entry ask the pool for another.
    Retired,
}

/// Reason why there is no upstream.
pub enum Unavailable {
    Refused(Refusal),
    Retired,
}

impl Entry {
    pub fn new(
        key: PoolKey,
        spec: Arc<ServerSpec>,
        pool: Arc<PoolState>,
        stopped_by_operator: bool,
    ) -> Arc<Entry> {
        let settings = &pool.settings;
        let breaker = Breaker::new(settings.breaker_failures, settings.breaker_pause);
        let crashes = Crashes::new(settings.backoff_base, settings.backoff_cap);
        let phase = if stopped_by_operator { Phase::Held } else { Phase::Idle { note: None } };
        let first_change = pool.next_generation() << 32;
        Arc::new(Entry {
            key,
            current: ArcSwapOption::empty(),
            life: Mutex::new(Life { phase, since: Timestamp::now(), crashes }),
            breaker,
            places: (spec.max_concurrency.value > 0)
                .then(|| Semaphore::new(spec.max_concurrency.value as usize)),
            waiting: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            last_used: AtomicU64::new(pool.millis()),
            last_success: AtomicI64::new(0),
            changes: Arc::new(AtomicU64::new(first_change)),
            logs: pool.logs(key.tenant, key.server),
            subscriptions: Arc::default(),
            starts: AtomicU64::new(0),
            spec,
            pool,
        })
    }

    /// Returns the running upstream, started first if necessary. Concurrent callers share one start, which
    /// continues even if all of them leave.
    pub async fn ensure(self: &Arc<Self>) -> Result<Arc<Running>, Unavailable> {
        // The upstream may have died just now, and a stop may overtake a start.
        for _ in 0..3 {
            if let Some(running) = self.alive() {
                return Ok(running);
            }
            let mut outcome = self.begin_start()?;
            let patience = self.spec.start_timeout.value + Duration::from_secs(1);
            match tokio::time::timeout(patience, outcome.wait_for(Option::is_some)).await {
                Ok(Ok(outcome)) => {
                    if let Some(Err(refusal)) = outcome.as_ref() {
                        return Err(Unavailable::Refused(refusal.clone()));
                    }
                }
                // The starting task is gone, which only happens when the runtime ends.
                Ok(Err(_)) | Err(_) => break,
            }
        }
        let reason = format!("`{}` does not stay up", self.spec.slug);
        Err(Unavailable::Refused(Refusal::new(Code::UpstreamUnavailable, reason)))
    }

    pub fn alive(&self) -> Option<Arc<Running>> {
        self.current.load_full().filter(|running| running.upstream.is_alive())
    }

    /// Joins the current start, or begins one if allowed.
    fn begin_start(self: &Arc<Self>) -> Result<watch::Receiver<StartOutcome>, Unavailable> {
        self.remove_dead();
        let mut life = self.life.lock();
        match &life.phase {
            Phase::Starting(outcome) => return Ok(outcome.clone()),
            Phase::Held => return Err(Unavailable::Refused(self.held_down(life.since))),
            Phase::Retired => return Err(Unavailable::Retired),
            Phase::Crashed { until, last } if *until > Instant::now() => {
                return Err(Unavailable::Refused(life.crashes.refusal(last, *until)));
            }
            // The upstream runs: the waiter finds it on its next look.
            Phase::Running => return Ok(watch::channel(Some(Ok(()))).1),
            Phase::Idle { .. } | Phase::Crashed { .. } => {}
        }
        let (tell, outcome) = watch::channel(None);
        life.set(Phase::Starting(outcome.clone()));
        drop(life);
        let entry = self.clone();
        self.pool.tasks.spawn(async move {
            let result = entry.run_start().await;
            tell.send_replace(Some(result));
        });
        Ok(outcome)
    }

    async fn run_start(self: &Arc<Self>) -> Result<(), Refusal> {
        let generation = self.pool.next_generation();
        let begun = Instant::now();
        match start::start(self, generation).await {
            Ok(running) => self.install(Arc::new(running)).await,
            Err(NotStarted { refusal, wrong_era }) => {
                if wrong_era {
                    self.pool.verdicts.doubt(&self.spec);
                }
                self.did_not_start(begun.elapsed(), &refusal);
                Err(refusal)
            }
        }
    }

    /// Counts a failed start, unless a stop caused it.
    pub fn did_not_start(&self, took: Duration, refusal: &Refusal) {
        if refusal.code == Code::ServerStopped {
            let mut life = self.life.lock();
            if matches!(life.phase, Phase::Starting(_)) {
                life.set(Phase::Idle { note: None });
            }
            return;
        }
        tracing::warn!(server = %self.spec.slug, reason = %refusal.reason, "a server did not start");
        self.logs.note(format!("it did not start: {}", refusal.reason));
        let mut life = self.life.lock();
        if matches!(life.phase, Phase::Starting(_) | Phase::Idle { .. } | Phase::Crashed { .. }) {
            life.crash(took, refusal.clone());
        }
    }

    /// Puts an upstream to use, unless a stop or retirement came during the start.
    async fn install(self: &Arc<Self>, running: Arc<Running>) -> Result<(), Refusal> {
        let wanted = {
            let mut life = self.life.lock();
            let wanted = matches!(life.phase, Phase::Starting(_));
            if wanted {
                life.set(Phase::Running);
                // Before the upstream can be used: a list from before its start is outdated.
                self.changes.store(self.pool.next_generation() << 32, Ordering::Relaxed);
                self.current.store(Some(running.clone()));
            }
            wanted
        };
        if !wanted {
            running.upstream.stop().await;
            return Err(Refusal::new(Code::ServerStopped, format!("`{}` was stopped", self.spec.slug)));
        }
        self.starts.fetch_add(1, Ordering::Relaxed);
        // Starts need no receiver.
        self.pool.started.send(self.key).ok();
        self.touch();
        self.pool.idle_sooner.notify_one();
        self.subscribe_again(&running);
        self.watch(running);
        Ok(())
    }

    /// Watches for the death of a child, so that its status is right without a call.
    fn watch(self: &Arc<Self>, running: Arc<Running>) {
        if !running.is_child {
            return;
        }
        let entry = Arc::downgrade(self);
        self.pool.tasks.spawn(async move {
            let upstream = running.upstream.clone();
            drop(running);
            upstream.closed().await;
            if let Some(entry) = entry.upgrade() {
                entry.remove_dead();
                entry.keep_up().await;
            }
        });
    }

    /// Removes a dead upstream and counts the crash. Does nothing if it is alive or stopped.
    fn remove_dead(&self) {
        let Some(dead) = self.current.load_full().filter(|running| !running.upstream.is_alive()) else {
            return;
        };
        // A dead upstream has its reason at once.
        let gone = || Refusal::new(Code::UpstreamFailed, format!("`{}` is gone", self.spec.slug));
        let refusal = dead.upstream.closed().now_or_never().unwrap_or_else(gone);
        self.remove(&dead, refusal);
    }

    /// Removes an upstream as crashed, if it is the current one.
    pub(super) fn remove(&self, running: &Arc<Running>, refusal: Refusal) -> bool {
        let mut life = self.life.lock();
        let in_use = self.current.load_full().is_some_and(|current| Arc::ptr_eq(&current, running));
        if in_use {
            tracing::warn!(server = %self.spec.slug, reason = %refusal.reason, "a server ended");
            self.current.store(None);
            life.crash(running.started.elapsed(), refusal);
        }
        in_use
    }

    fn held_down(&self, since: Timestamp) -> Refusal {
        Refusal::new(Code::ServerStopped, format!("`{}` is stopped", self.spec.slug))
            .since(since)
            .hint("`POST /v1/mcp/servers/{id}/start` starts it again")
    }
}

impl Life {
    pub fn set(&mut self, phase: Phase) {
        self.phase = phase;
        self.since = Timestamp::now();
    }

    fn crash(&mut self, ran: Duration, last: Refusal) {
        let until = self.crashes.count(ran);
        self.set(Phase::Crashed { until, last });
    }
}
