//! Background work: other programs' rows, notices to and from other replicas, copies in Redis, heartbeats.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use entity::collab::Member;
use futures_util::StreamExt;
use protocol::{Code, TenantId};
use proxy::state::{Notice as Message, StateKey};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Collab;
use super::hub::{About, Notice, TaskKey};
use super::steps::StepCounts;

/// Time for which notices of one task are gathered.
const MOMENT: Duration = Duration::from_millis(10);

/// Pause before another look, when rows were left.
const LEFT: Duration = Duration::from_millis(50);

/// Pause after a lost connection.
const AGAIN: Duration = Duration::from_secs(1);

/// Channel of all replicas.
const CHANNEL: &str = "task-changes";

/// Figures since the start, for the metrics.
#[derive(Default)]
pub struct Figures {
    /// Longest time from another program's row to its number, of the last rows, microseconds.
    sync_lag_us: AtomicU64,
    ingested: AtomicU64,
    outbox: AtomicU64,
    refused: [AtomicU64; 3],
}

/// Refusals of writes that are counted.
const REFUSED: [Code; 3] = [Code::StaleToken, Code::LeaseHeld, Code::VersionConflict];

impl Figures {
    /// Counts a refused write.
    pub fn refused(&self, code: Code) {
        if let Some(place) = REFUSED.iter().position(|counted| *counted == code) {
            self.refused[place].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Figures of collaboration.
#[derive(Clone, Copy, Debug)]
pub struct CollabFigures {
    pub steps: StepCounts,
    pub sync_lag: Duration,
    pub ingested: u64,
    pub outbox: u64,
    /// Live leases and claims that wait, of all replicas; none while the database is away.
    pub leases: Option<(u64, u64)>,
    /// Refused writes by the code.
    pub refused: [(&'static str, u64); 3],
    pub followers: usize,
    pub cache_hits: u64,
    pub cache_misses: u64,
}

/// A notice as replicas send it to each other.
#[derive(Serialize, Deserialize)]
struct Sent {
    from: Uuid,
    tenant: TenantId,
    task: Arc<str>,
    seq: Option<i64>,
    about: About,
    path: Option<Arc<str>>,
}

impl Collab {
    /// Returns the present figures; those of the database within this time, or not.
    pub async fn figures(&self, within: Duration) -> CollabFigures {
        let figures = &self.figures;
        let of = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        let (cache_hits, cache_misses) = self.blobs.cache_counts();
        CollabFigures {
            steps: self.steps.counts(),
            sync_lag: Duration::from_micros(of(&figures.sync_lag_us)),
            ingested: of(&figures.ingested),
            outbox: of(&figures.outbox),
            leases: tokio::time::timeout(within, self.db.operator().lease_counts())
                .await
                .ok()
                .and_then(Result::ok),
            refused: [0, 1, 2].map(|place| (REFUSED[place].as_str(), of(&figures.refused[place]))),
            followers: self.hub.followers(),
            cache_hits,
            cache_misses,
        }
    }

    /// Runs until the gateway stops.
    pub async fn run(self, stop: CancellationToken) {
        let replica = Uuid::new_v4();
        let outbound = self.outbound.lock().take();
        let work = async {
            let send = async {
                match outbound {
                    Some(notices) => self.send(replica, notices).await,
                    None => std::future::pending().await,
                }
            };
            let (copies, changes) = unbounded_channel();
            tokio::join!(send, self.receive(replica, &copies), self.mirror(changes), self.look(), self.beat())
        };
        tokio::select! {
            () = stop.cancelled() => self.stopping.cancel(),
            _ = work => {}
        }
    }

    /// Looks for other programs' rows, and for events without a notice.
    async fn look(&self) {
        let mut ticks = tokio::time::interval(self.settings.sync_from);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut soon = false;
        loop {
            ticks.tick().await;
            match self.look_once().await {
                // Rows of a task that another transaction holds, if only for a moment.
                Ok(left) if left > 0 && !soon => {
                    soon = true;
                    ticks.reset_after(LEFT.min(self.settings.sync_from));
                }
                Ok(_) => soon = false,
                Err(error) => {
                    tracing::warn!(error = error.detail(), "the tables of tasks cannot be read now");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// Returns the number of rows that are left for the next time.
    async fn look_once(&self) -> Result<u64, entity::DbError> {
        let operator = self.db.operator();
        loop {
            let ingested = operator.ingest_outbox().await?;
            if ingested.is_empty() {
                break;
            }
            let lag = ingested.iter().map(|task| task.lag).max().unwrap_or_default();
            self.figures.sync_lag_us.store(lag.as_micros() as u64, Ordering::Relaxed);
            for task in ingested {
                self.figures.ingested.fetch_add(task.rows as u64, Ordering::Relaxed);
                let key = (task.tenant, task.task.as_str().into());
                self.hub.changed(Notice { key, seq: Some(task.seq), about: About::ALL, path: None });
            }
        }
        let left = operator.outbox_depth().await?;
        self.figures.outbox.store(left, Ordering::Relaxed);
        let followed = self.hub.followed();
        let keys: Vec<(TenantId, String)> =
            followed.iter().map(|((tenant, task), _)| (*tenant, task.to_string())).collect();
        let newest: HashMap<_, _> = operator.newest_events(&keys).await?.into_iter().collect();
        for (named, (key, known)) in keys.iter().zip(followed) {
            let told = |seq| self.hub.told(&Notice { key: key.clone(), seq, about: About::ALL, path: None });
            match newest.get(named) {
                // Just followed: the first look is the beginning, and no change.
                Some(newest) if known == 0 => self.hub.wake(&key, *newest),
                Some(newest) if *newest > known => told(Some(*newest)),
                // Deleted, and maybe made again, without a notice.
                found if known > 0 && found.is_none_or(|newest| *newest < known) => told(None),
                _ => {}
            }
        }
        Ok(left)
    }

    /// Writes heartbeats of agents.
    async fn beat(&self) {
        let mut ticks = tokio::time::interval(self.settings.sync_to);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let seen: Vec<_> = self.seen.take().into_iter().collect();
            for seen in seen.chunks(200) {
                if let Err(error) = self.db.operator().touch_participants(seen.iter().cloned()).await {
                    tracing::debug!(error = error.detail(), "heartbeats were not written");
                }
            }
        }
    }

    /// Sends notices of this process to other replicas and programs, and copies of tasks.
    async fn send(&self, replica: Uuid, mut notices: UnboundedReceiver<Notice>) {
        while let Some(first) = notices.recv().await {
            if !self.state.is_shared() {
                continue;
            }
            tokio::time::sleep(MOMENT).await;
            let mut gathered = vec![first];
            while let Ok(next) = notices.try_recv() {
                gathered.push(next);
            }
            let mut newest: HashMap<TaskKey, Option<i64>> = HashMap::new();
            for notice in gathered {
                newest.insert(notice.key.clone(), notice.seq);
                let (tenant, task) = notice.key;
                let sent = Sent {
                    from: replica,
                    tenant,
                    task,
                    seq: notice.seq,
                    about: notice.about,
                    path: notice.path,
                };
                self.publish(&StateKey::global(CHANNEL), &json!(sent)).await;
            }
            for ((tenant, task), seq) in newest {
                self.copy(tenant, &task, seq).await;
            }
        }
    }

    /// Writes the copy of a task, and tells the task's own channel.
    async fn copy(&self, tenant: TenantId, task: &str, seq: Option<i64>) {
        let everyone = Member { agent: String::new(), sees_all: true };
        let found = match seq {
            // A copy that cannot be renewed is deleted, like that of a deleted task.
            Some(_) => self.db.tenant(tenant).find_task(&everyone, task).await.ok(),
            None => None,
        };
        let names = [StateKey::tenant(tenant, &format!("task:{task}"))].into_iter().chain(
            (self.settings.compat_keys == Some(tenant)).then(|| StateKey::bare(&format!("task:{task}"))),
        );
        for key in names {
            let written = match &found {
                Some(found) => {
                    let copy = Bytes::from(json!(found).to_string());
                    self.state.put_copy(&key, copy, self.settings.cache_ttl).await
                }
                None => self.state.delete(&key).await.map(drop),
            };
            if let Err(error) = written {
                tracing::debug!(%error, "a copy of a task was not written");
            }
            let topic = format!("task:{task}");
            self.publish(&key.updates(), &json!({ "topic": topic, "seq": seq })).await;
        }
    }

    async fn publish(&self, channel: &StateKey, message: &serde_json::Value) {
        // Whoever misses it finds the event at the next look.
        if let Err(error) = self.state.publish(channel, message.to_string().into()).await {
            tracing::debug!(%error, "a change of a task was not published");
        }
    }

    /// Takes notices of other replicas.
    async fn receive(&self, replica: Uuid, copies: &UnboundedSender<Option<Notice>>) {
        loop {
            match self.state.subscribe(&StateKey::global(CHANNEL)).await {
                Ok(mut messages) => {
                    // Also what was missed before this connection.
                    self.mirrored(copies, None);
                    while let Some(message) = messages.next().await {
                        let Message::Message(message) = message else {
                            // The next look finds what followers missed.
                            self.mirrored(copies, None);
                            continue;
                        };
                        match serde_json::from_slice::<Sent>(&message) {
                            Ok(sent) if sent.from == replica => {}
                            Ok(Sent { tenant, task, seq, about, path, .. }) => {
                                let notice = Notice { key: (tenant, task), seq, about, path };
                                self.hub.told(&notice);
                                self.mirrored(copies, Some(notice));
                            }
                            Err(error) => tracing::debug!(%error, "a notice cannot be read"),
                        }
                    }
                }
                Err(error) => tracing::debug!(%error, "other replicas' notices cannot be received yet"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}
