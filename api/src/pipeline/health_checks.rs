//! Background checks of servers: each remote server and each child that runs, at an interval with jitter. A
//! check is no use of a server and no call on record.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use protocol::{Refusal, ServerId};
use proxy::backoff::with_jitter;
use proxy::pool::{Pool, PoolKey};
use proxy::server::ServerSpec;
use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ops::metrics;
use crate::pipeline::directory::Directory;

/// Most checks at the same time.
const AT_ONCE: usize = 8;

/// Time after which a check lets the next one in: it waits for a server that hangs, and costs nothing.
const BUSY: Duration = Duration::from_secs(1);

/// Longest interval of checks of a server that fails, as a multiple of the usual one.
const SELDOM: u32 = 4;

/// Bounds of the interval of looks for checks that are due.
const LOOKS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Least time between two reads of the registry.
const READ: Duration = Duration::from_secs(1);

/// A server or child to be checked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Target {
    Remote(ServerId),
    Child(PoolKey),
}

struct Planned {
    /// The server, if it is remote.
    spec: Option<Arc<ServerSpec>>,
    due: Instant,
    is_running: bool,
    /// Failed checks in a row.
    failures: u32,
}

impl Planned {
    fn revision(&self) -> Option<i32> {
        self.spec.as_ref().map(|spec| spec.revision)
    }
}

pub struct HealthChecks {
    directory: Arc<Directory>,
    pool: Pool,
    /// Zero for no checks.
    interval: Duration,
    /// Time for the answer to one request.
    patience: Duration,
    plan: Mutex<HashMap<Target, Planned>>,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl HealthChecks {
    pub fn new(directory: Arc<Directory>, pool: Pool, interval: Duration, patience: Duration) -> Self {
        Self {
            directory,
            pool,
            interval,
            patience,
            plan: Mutex::default(),
            places: Arc::new(Semaphore::new(AT_ONCE)),
            tasks: TaskTracker::new(),
        }
    }

    /// Checks servers until the gateway stops.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        if self.interval.is_zero() {
            return;
        }
        let mut registry = self.directory.registry();
        registry.mark_changed();
        let mut looks = tokio::time::interval((self.interval / 10).clamp(LOOKS.0, LOOKS.1));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut read_at = None::<Instant>;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = looks.tick() => {}
            }
            let may_read = read_at.is_none_or(|at| at.elapsed() >= READ.min(self.interval));
            if may_read && registry.has_changed().unwrap_or(false) {
                registry.mark_unchanged();
                read_at = Some(Instant::now());
                if !self.plan_remotes().await {
                    registry.mark_changed();
                }
            }
            self.plan_children();
            for (target, spec) in self.take_due() {
                let checks = Arc::clone(&self);
                let stop = stop.clone();
                self.tasks.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = checks.check(target, spec) => {}
                    }
                });
            }
        }
    }

    /// Plans checks of the remote servers of the registry; returns false if they cannot be read now.
    async fn plan_remotes(&self) -> bool {
        let servers = match self.directory.db.operator().remote_servers().await {
            Ok(servers) => servers,
            Err(error) => {
                tracing::debug!(error = error.detail(), "the servers to be checked cannot be read");
                return false;
            }
        };
        let specs: HashMap<ServerId, Arc<ServerSpec>> =
            servers.iter().map(|server| (server.id, Arc::new(self.directory.spec(server)))).collect();
        let revision = |server: ServerId| specs.get(&server).map(|spec| spec.revision);
        self.pool.keep_checks_of(|server, checked| revision(server) == Some(checked));
        let mut plan = self.plan.lock();
        plan.retain(|target, planned| match target {
            Target::Remote(server) => revision(*server) == planned.revision(),
            Target::Child(_) => true,
        });
        for (server, spec) in specs {
            let planned = plan.entry(Target::Remote(server)).or_insert_with(|| self.planned());
            planned.spec = Some(spec);
        }
        true
    }

    fn plan_children(&self) {
        let running = self.pool.running_children();
        let mut plan = self.plan.lock();
        plan.retain(|target, _| match target {
            Target::Remote(_) => true,
            Target::Child(key) => running.contains(key),
        });
        for key in running {
            plan.entry(Target::Child(key)).or_insert_with(|| self.planned());
        }
    }

    /// Returns a first check, at a random time of the interval, so that those of many servers spread over it.
    fn planned(&self) -> Planned {
        Planned { spec: None, due: Instant::now() + part_of(self.interval), is_running: false, failures: 0 }
    }

    fn take_due(&self) -> Vec<(Target, Option<Arc<ServerSpec>>)> {
        let now = Instant::now();
        let mut plan = self.plan.lock();
        let due = plan.iter_mut().filter(|(_, planned)| planned.due <= now && !planned.is_running);
        due.map(|(target, planned)| {
            planned.is_running = true;
            (*target, planned.spec.clone())
        })
        .collect()
    }

    async fn check(&self, target: Target, spec: Option<Arc<ServerSpec>>) {
        let revision = spec.as_ref().map(|spec| spec.revision);
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let outcome = async {
            match (target, &spec) {
                (Target::Remote(_), Some(spec)) => self.pool.check_remote(spec, self.patience).await,
                (Target::Remote(_), None) => None,
                (Target::Child(key), _) => self.pool.check_running(&key, self.patience).await,
            }
        };
        let mut outcome = std::pin::pin!(outcome);
        let outcome = tokio::select! {
            outcome = &mut outcome => outcome,
            () = tokio::time::sleep(BUSY) => {
                drop(place);
                outcome.await
            }
        };
        self.note(target, revision, outcome);
    }

    /// Counts an outcome and plans the next check.
    fn note(&self, target: Target, revision: Option<i32>, outcome: Option<Result<(), Refusal>>) {
        metrics::checked(outcome.as_ref().map(Result::is_ok));
        let mut plan = self.plan.lock();
        let planned = plan.get_mut(&target);
        let Some(planned) = planned.filter(|planned| planned.revision() == revision) else {
            // The server was changed, disabled or deleted meanwhile.
            if let Target::Remote(server) = target {
                self.pool.keep_checks_of(|other, of| other != server || Some(of) != revision);
            }
            return;
        };
        planned.failures = match &outcome {
            Some(Err(refusal)) => {
                tracing::debug!(?target, %refusal, "a check failed");
                planned.failures.saturating_add(1)
            }
            Some(Ok(())) => 0,
            None => planned.failures,
        };
        let pause = self.interval * planned.failures.clamp(1, SELDOM);
        // A fifth less or more.
        planned.due = Instant::now() + pause.mul_f64(0.8) + part_of(pause).mul_f64(0.4);
        planned.is_running = false;
    }
}

/// Returns a random part of a time.
fn part_of(time: Duration) -> Duration {
    // Jitter adds up to a quarter.
    (with_jitter(time) - time) * 4
}
