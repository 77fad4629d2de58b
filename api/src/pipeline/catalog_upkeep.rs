//! Upkeep of the catalog: lists are requested again when their server starts or reports a change, and when
//! they are old; new lists are stored, and other replicas are notified.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashSet;
use jiff::{SignedDuration, Timestamp};
use proxy::catalog::Catalog;
use proxy::pool::{Pool, PoolKey, UpstreamEvent};
use proxy::selected::Selected;
use proxy::server::Launch;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::pipeline::directory::Directory;
use crate::subscriptions::replica_bus::{Message, ReplicaBus};

/// Least time between two requests for the lists of one server.
const PAUSE: Duration = Duration::from_secs(1);

/// Time for the requests that caused a start to be sent before those of the upkeep.
const BEHIND: Duration = Duration::from_millis(100);

/// Interval of repeated writes, for parts that could not be stored.
const AGAIN: Duration = Duration::from_secs(10);

/// Longest interval of the search for old lists. Each finds at most one server, so that few start at a time.
const CHECK: Duration = Duration::from_secs(60);

pub struct CatalogUpkeep {
    pub directory: Arc<Directory>,
    pub catalog: Arc<Catalog>,
    pub pool: Pool,
    pub bus: Arc<ReplicaBus>,
    pub list_timeout: Duration,
    /// Age after which the lists of a server that does not run are checked; zero for never.
    pub check_after: Duration,
    pub refreshing: DashSet<PoolKey>,
    pub tasks: TaskTracker,
}

impl CatalogUpkeep {
    /// Keeps the catalog until the gateway stops.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let (mut starts, mut events) = (self.pool.starts(), self.pool.events());
        let pause = CHECK.min(self.check_after.max(Duration::from_millis(1)));
        let mut checks = tokio::time::interval_at(tokio::time::Instant::now() + pause, pause);
        checks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut writes = tokio::time::interval(AGAIN);
        let mut checked = HashMap::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                started = starts.recv() => match started {
                    Ok(key) => self.refresh_started(key),
                    Err(RecvError::Lagged(_)) => self.refresh_all(),
                    Err(RecvError::Closed) => break,
                },
                event = events.recv() => match event {
                    Ok(event) if !matches!(event.event, UpstreamEvent::ResourceUpdated { .. }) => {
                        self.refresh_running(&event.key);
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => self.refresh_all(),
                    Err(RecvError::Closed) => break,
                },
                () = self.catalog.unstored() => self.store().await,
                _ = writes.tick() => self.store().await,
                () = self.catalog.wanted() => {
                    self.catalog.take_wanted().into_iter().for_each(|selected| self.refresh(selected));
                }
                _ = checks.tick(), if !self.check_after.is_zero() => self.check_oldest(&mut checked).await,
            }
        }
        self.store().await;
    }

    async fn store(&self) {
        for (tenant, server) in self.directory.store_catalogs().await {
            self.bus.publish(Message::Listed { tenant, server }).await;
        }
    }

    fn refresh_all(self: &Arc<Self>) {
        for selected in self.pool.select_running() {
            self.refresh(selected);
        }
    }

    /// Requests the lists of an upstream after the call that started it.
    fn refresh_started(self: &Arc<Self>, key: PoolKey) {
        let upkeep = Arc::clone(self);
        self.tasks.spawn(async move {
            let begun = Instant::now();
            tokio::time::sleep(BEHIND).await;
            while upkeep.pool.is_busy(&key) && begun.elapsed() < PAUSE {
                tokio::time::sleep(BEHIND).await;
            }
            upkeep.refresh_running(&key);
        });
    }

    fn refresh_running(self: &Arc<Self>, key: &PoolKey) {
        if let Some(selected) = self.pool.select_running_key(key) {
            self.refresh(selected);
        }
    }

    /// Requests the lists of an upstream that are outdated or not known, once at a time. Only the first request may
    /// start the server.
    fn refresh(self: &Arc<Self>, selected: Selected) {
        let key = selected.list_key();
        if !self.refreshing.insert(key) {
            return;
        }
        let upkeep = Arc::clone(self);
        self.tasks.spawn(async move {
            let mut first = Some(selected);
            loop {
                let done = upkeep.request(&key, first.take()).await;
                tokio::time::sleep(PAUSE).await;
                upkeep.refreshing.remove(&key);
                // A change that came meanwhile was not taken up.
                if !done || !upkeep.catalog.is_outdated(&key) || !upkeep.refreshing.insert(key) {
                    return;
                }
            }
        });
    }

    /// Requests the lists; returns false if that failed, or the server does not run any more.
    async fn request(&self, key: &PoolKey, mut first: Option<Selected>) -> bool {
        let mut done = true;
        for kind in self.catalog.kinds_to_request(key) {
            // Selected anew for each: the server may be changed, disabled or deleted meanwhile.
            let Some(selected) = first.take().or_else(|| self.pool.select_running_key(key)) else {
                return false;
            };
            if let Launch::Builtin(_) = selected.spec().launch {
                return true;
            }
            let deadline = Instant::now() + selected.spec().start_timeout.value + self.list_timeout;
            if let Err(refusal) = self.catalog.current(&selected, kind, deadline).await {
                let kind = kind.member();
                tracing::debug!(server = %selected.spec().slug, kind, %refusal, "a list cannot be refreshed");
                done = false;
            }
        }
        done
    }

    /// Starts the server whose lists are oldest, if they are due, and requests them.
    async fn check_oldest(self: &Arc<Self>, checked: &mut HashMap<PoolKey, Instant>) {
        let age = SignedDuration::try_from(self.check_after).unwrap_or(SignedDuration::MAX);
        checked.retain(|_, at| at.elapsed() < self.check_after);
        let due = |catalog: &Catalog| {
            let older_than = Timestamp::now().checked_sub(age).unwrap_or(Timestamp::MIN);
            catalog.idle_since(older_than)
        };
        for key in due(&self.catalog) {
            if checked.contains_key(&key) {
                continue;
            }
            let Ok(view) = self.directory.view(key.tenant).await else { continue };
            let member = view.members().iter().find(|member| member.spec.id == key.server);
            let Some(policy) = member.map(|member| member.policy(None)) else { continue };
            if policy.spec.revision != key.revision || policy.server().is_err() {
                continue;
            }
            checked.insert(key, Instant::now());
            // Another replica may have listed the server since.
            self.directory.restore_again(key.tenant, Some(key.server)).await;
            if due(&self.catalog).contains(&key) {
                self.refresh(Selected::for_gateway(Arc::clone(&policy.spec), key));
                return;
            }
        }
    }
}
