//! Lifecycle of one upstream in the pool: single start, supervision, backoff after crashes, stop by the
//! operator.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use futures_util::FutureExt;
use jiff::Timestamp;
use parking_lot::Mutex;
use protocol::{Code, Refusal};
use tokio::sync::{Semaphore, watch};

use super::PoolKey;
use super::backoff::Crashes;
use super::outcomes::Outcomes;
use super::start;
use super::starting::{Claim, Progress};
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
    pub outcomes: Outcomes,
    /// Permits for concurrent requests; `None` without a limit.
    pub places: Option<Semaphore>,
    pub waiting: AtomicUsize,
    pub in_flight: AtomicUsize,
    /// Milliseconds since the pool began.
    pub last_used: AtomicU64,
    /// Microseconds since 1970; zero for never.
    pub(super) last_success: AtomicI64,
    /// Number of the last start in the upper half; in the lower, a bit for each list that changed since then,
    /// and the number of changes.
    pub changes: Arc<AtomicU64>,
    /// True if the upstream serves one client and has other lists than the shared one.
    pub own_lists: AtomicBool,
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

#[derive(Clone)]
pub(super) enum Phase {
    /// Not started yet, or stopped when idle.
    Idle {
        note: Option<&'static str>,
    },
    Starting(watch::Receiver<Progress>),
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
            outcomes: Outcomes::default(),
            places: (spec.max_concurrency.value > 0)
                .then(|| Semaphore::new(spec.max_concurrency.value as usize)),
            waiting: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            last_used: AtomicU64::new(pool.millis()),
            last_success: AtomicI64::new(0),
            changes: Arc::new(AtomicU64::new(first_change)),
            own_lists: AtomicBool::new(false),
            logs: pool.logs(key.tenant, key.server),
            subscriptions: Arc::default(),
            starts: AtomicU64::new(0),
            spec,
            pool,
        })
    }

    /// Returns the running upstream, started first if necessary. Concurrent callers share one start, which
    /// continues even if all of them leave. The deadline bounds the wait for its turn, `start_timeout` the
    /// start.
    pub async fn ensure(self: &Arc<Self>, deadline: Instant) -> Result<Arc<Running>, Unavailable> {
        // The upstream may have died just now, and a stop may overtake a start.
        for _ in 0..3 {
            if let Some(running) = self.alive() {
                return Ok(running);
            }
            let mut progress = self.begin_start()?;
            self.outcome(&mut progress, deadline).await.map_err(Unavailable::Refused)?;
        }
        let reason = format!("`{}` does not stay up", self.spec.slug);
        Err(Unavailable::Refused(Refusal::new(Code::UpstreamUnavailable, reason)))
    }

    pub fn alive(&self) -> Option<Arc<Running>> {
        self.current.load_full().filter(|running| running.upstream.is_alive())
    }

    /// Joins the current start, or begins one if allowed.
    fn begin_start(self: &Arc<Self>) -> Result<watch::Receiver<Progress>, Unavailable> {
        self.remove_dead();
        let mut life = self.life.lock();
        match &life.phase {
            Phase::Starting(progress) => return Ok(progress.clone()),
            Phase::Held => return Err(Unavailable::Refused(self.held_down(life.since))),
            Phase::Retired => return Err(Unavailable::Retired),
            Phase::Crashed { until, last } if *until > Instant::now() => {
                return Err(Unavailable::Refused(life.crashes.refusal(last, *until)));
            }
            // The upstream runs: the waiter finds it on its next look.
            Phase::Running => return Ok(watch::channel(Progress::Over(Ok(()))).1),
            Phase::Idle { .. } | Phase::Crashed { .. } => {}
        }
        let claim = life.claim();
        drop(life);
        let (progress, entry) = (claim.progress(), self.clone());
        self.pool.tasks.spawn(async move {
            let outcome = entry.run_start(&claim).await;
            claim.finish(outcome);
        });
        Ok(progress)
    }

    /// Returns the right to start the upstream; `None` if it runs or starts already, or may not start now.
    pub fn claim(&self) -> Option<Claim> {
        self.remove_dead();
        let mut life = self.life.lock();
        let may_start = match &life.phase {
            Phase::Idle { .. } => true,
            Phase::Crashed { until, .. } => *until <= Instant::now(),
            Phase::Starting(_) | Phase::Running | Phase::Held | Phase::Retired => false,
        };
        may_start.then(|| life.claim())
    }

    async fn run_start(self: &Arc<Self>, claim: &Claim) -> Result<(), Refusal> {
        let generation = self.pool.next_generation();
        let started = match self.turn(claim).await {
            Ok(_permit) => start::start(self, generation).await,
            Err(refusal) => Err(refusal.into()),
        };
        match started {
            Ok(running) => {
                self.install(running, claim).await;
                Ok(())
            }
            // Who waits looks again, and finds what overtook the start.
            Err(_) if self.is_overtaken(claim) => Ok(()),
            Err(NotStarted { refusal, wrong_era }) => {
                if wrong_era {
                    self.pool.verdicts.doubt(&self.spec);
                }
                self.did_not_start(claim, &refusal);
                Err(refusal)
            }
        }
    }

    /// Returns true if a stop, a retirement or a later start came during the start.
    pub fn is_overtaken(&self, claim: &Claim) -> bool {
        !claim.is_current(&self.life.lock())
    }

    /// Counts a failed start, unless a stop caused it.
    pub fn did_not_start(&self, claim: &Claim, refusal: &Refusal) {
        if refusal.code == Code::ServerStopped {
            return self.give_back(claim);
        }
        tracing::warn!(server = %self.spec.slug, reason = %refusal.reason, "a server did not start");
        self.logs.note(format!("it did not start: {}", refusal.reason));
        let mut life = self.life.lock();
        if claim.is_current(&life) {
            self.outcomes.reset();
            life.crash(claim.took(), refusal.clone());
        }
    }

    /// Ends a start without an upstream and without a failure.
    pub fn give_back(&self, claim: &Claim) {
        let mut life = self.life.lock();
        if claim.is_current(&life) {
            life.set(Phase::Idle { note: None });
        }
    }

    /// Puts an upstream to use, unless a stop or retirement came during the start.
    pub async fn install(self: &Arc<Self>, running: Running, claim: &Claim) {
        let running = Arc::new(running);
        let wanted = {
            let mut life = self.life.lock();
            let wanted = claim.is_current(&life);
            if wanted {
                life.set(Phase::Running);
                // Before the upstream can be used: a list from before its start is outdated.
                self.changes.store(self.pool.next_generation() << 32, Ordering::Relaxed);
                self.own_lists.store(false, Ordering::Relaxed);
                self.current.store(Some(running.clone()));
            }
            wanted
        };
        if !wanted {
            running.upstream.stop().await;
            return;
        }
        self.starts.fetch_add(1, Ordering::Relaxed);
        self.outcomes.succeeded();
        self.succeeded_now();
        // Starts need no receiver.
        self.pool.started.send(self.key).ok();
        self.touch();
        self.pool.idle_sooner.notify_one();
        self.subscribe_again(&running);
        self.watch(running);
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
    pub fn remove_dead(&self) {
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
            self.outcomes.reset();
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
