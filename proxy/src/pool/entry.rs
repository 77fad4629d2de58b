//! One upstream of the pool through its lives: started once at a time, watched while it runs, left
//! alone for a while when it keeps ending, stopped by the operator.

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
    /// What runs now. Requests read only this.
    pub current: ArcSwapOption<Running>,
    pub(super) life: Mutex<Life>,
    pub breaker: Breaker,
    /// A place for each request at once; none without a bound.
    pub places: Option<Semaphore>,
    pub waiting: AtomicUsize,
    pub in_flight: AtomicUsize,
    /// Milliseconds since the pool began.
    pub last_used: AtomicU64,
    /// Microseconds since 1970; zero for never.
    pub(super) last_success: AtomicI64,
    pub changes: Arc<AtomicU64>,
    pub logs: Arc<LogRing>,
    pub subscriptions: Arc<Subscriptions>,
    pub(super) starts: AtomicU64,
}

/// An upstream that has shaken hands.
pub struct Running {
    pub upstream: Arc<dyn Upstream>,
    pub initialized: Arc<Initialized>,
    pub pid: Option<u32>,
    pub started: Instant,
    /// Whether it is one of the pool's children.
    pub is_child: bool,
}

pub(super) struct Life {
    pub phase: Phase,
    pub since: Timestamp,
    pub crashes: Crashes,
}

/// What a start came to, for all who wait for it.
pub(super) type StartOutcome = Option<Result<(), Refusal>>;

#[derive(Clone)]
pub(super) enum Phase {
    /// Never needed yet, or not needed for long.
    Idle {
        note: Option<&'static str>,
    },
    Starting(watch::Receiver<StartOutcome>),
    Running,
    /// It ended or could not be started. Nothing is tried before `until`.
    Crashed {
        until: Instant,
        last: Refusal,
    },
    Held,
    /// Out of the pool: whoever still has this entry asks the pool for another.
    Retired,
}

/// Why there is no upstream.
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

    /// What runs, started first if nothing does. Whoever comes during a start waits for the same one;
    /// it goes on even if all of them leave.
    pub async fn ensure(self: &Arc<Self>) -> Result<Arc<Running>, Unavailable> {
        // Twice: what was running may have died just now, and a start may be overtaken by a stop.
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

    /// Joins the start that is under way, or begins one if it may.
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
            // It runs: the waiter finds it when it looks again.
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

    /// Counts a start that failed, unless it was stopped meanwhile.
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

    /// Puts it to use, unless it was stopped or retired while it started.
    async fn install(self: &Arc<Self>, running: Arc<Running>) -> Result<(), Refusal> {
        let wanted = {
            let mut life = self.life.lock();
            let wanted = matches!(life.phase, Phase::Starting(_));
            if wanted {
                life.set(Phase::Running);
                self.current.store(Some(running.clone()));
            }
            wanted
        };
        if !wanted {
            running.upstream.stop().await;
            return Err(Refusal::new(Code::ServerStopped, format!("`{}` was stopped", self.spec.slug)));
        }
        self.starts.fetch_add(1, Ordering::Relaxed);
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.touch();
        self.pool.idle_sooner.notify_one();
        self.subscribe_again(&running);
        self.watch(running);
        Ok(())
    }

    /// Notices the death of what runs as soon as it comes, so that its state is true without a call.
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

    /// Takes away what has died and counts it. Does nothing if all is well or it was stopped.
    fn remove_dead(&self) {
        let Some(dead) = self.current.load_full().filter(|running| !running.upstream.is_alive()) else {
            return;
        };
        // It is dead, so the reason is there already.
        let gone = || Refusal::new(Code::UpstreamFailed, format!("`{}` is gone", self.spec.slug));
        let refusal = dead.upstream.closed().now_or_never().unwrap_or_else(gone);
        self.remove(&dead, refusal);
    }

    /// Takes it out of use as crashed, if it is what is in use.
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
