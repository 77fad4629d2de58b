//! Eras of a server: registered, found earlier, or found out now, on stdio by its first start.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use dashmap::{DashMap, Entry as Place};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use protocol::mcp::{Era, Eras};
use protocol::{Code, Refusal, ServerId, TenantId};
use tokio::sync::watch;

use super::{Pool, PoolKey, start};
use crate::server::{EraVerdict, Launch, ServerSpec};
use crate::{http, websocket};

/// Age after which a verdict is probed again: the server's program may have changed.
const STALE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Age below which a verdict stays although a start contradicts it, so that a server with contradictory
/// answers is not probed with every call.
const DOUBTED_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// Time between probes of a server without a verdict. Until then the server counts as legacy.
const AGAIN: Duration = Duration::from_secs(60);

/// The most verdicts that wait to be stored; the oldest are dropped.
const UNSTORED: usize = 4096;

/// A server at one revision, with the mark of its launch, for one tenant.
type Asked = (TenantId, ServerId, i32, u64);

/// Outcome of a probe: the eras or the failure to start; `None` before.
type Told = Option<Result<Eras, Refusal>>;

/// Era verdicts of this process, and the probes in progress.
#[derive(Default)]
pub struct Verdicts {
    /// Verdicts by server and revision, read with every request; `None` where the earlier one is in doubt.
    found: ArcSwap<HashMap<(ServerId, i32), Option<EraVerdict>>>,
    unstored: Mutex<Vec<(ServerId, i32, EraVerdict)>>,
    asking: DashMap<Asked, watch::Receiver<Told>>,
    /// Servers that a probe gave no verdict on, with its time.
    unlearned: DashMap<Asked, Instant>,
}

impl Verdicts {
    fn of(&self, spec: &ServerSpec) -> Option<EraVerdict> {
        self.found.load().get(&(spec.id, spec.revision)).copied().unwrap_or(spec.found)
    }

    fn set(&self, spec: &ServerSpec, verdict: Option<EraVerdict>) {
        self.found.rcu(|found| {
            let mut found = HashMap::clone(found);
            found.retain(|(server, revision), _| *server != spec.id || *revision > spec.revision);
            found.insert((spec.id, spec.revision), verdict);
            found
        });
    }

    /// Discards the verdict on a server that did not speak an era of it, unless the verdict is recent. The
    /// next request for the eras probes again.
    pub fn doubt(&self, spec: &ServerSpec) {
        if self.of(spec).is_some_and(|verdict| age(&verdict) > DOUBTED_AFTER) {
            self.set(spec, None);
        }
    }

    /// Takes a verdict, to be stored.
    pub fn learned(&self, spec: &ServerSpec, verdict: EraVerdict) {
        self.set(spec, Some(verdict));
        let mut unstored = self.unstored.lock();
        if unstored.len() == UNSTORED {
            unstored.remove(0);
        }
        unstored.push((spec.id, spec.revision, verdict));
    }
}

fn probe_of(tenant: TenantId, spec: &ServerSpec) -> Asked {
    (tenant, spec.id, spec.revision, spec.variant)
}

impl Pool {
    /// Returns the eras if they are known without a probe.
    pub fn known_eras(&self, spec: &ServerSpec) -> Option<Eras> {
        if let Launch::Builtin { .. } = spec.launch {
            return Some(Eras::DUAL);
        }
        spec.era.or_else(|| {
            let found = self.found(spec)?;
            (age(&found) < STALE).then_some(found.eras)
        })
    }

    /// Returns the eras, found out if unknown. Concurrent callers share one probe. The probe of a stdio server
    /// is its start: the upstream runs afterwards, under the key `legacy` if the server proves to be legacy,
    /// else under the shared key of the modern era.
    ///
    /// # Errors
    /// The reason why the server did not start.
    pub async fn eras(
        &self,
        spec: &Arc<ServerSpec>,
        legacy: PoolKey,
        deadline: Instant,
    ) -> Result<Eras, Refusal> {
        if let Some(known) = self.known_eras(spec) {
            return Ok(known);
        }
        match &spec.launch {
            Launch::Builtin { .. } => Ok(Eras::DUAL),
            Launch::Stdio(_) | Launch::Http(_) | Launch::Websocket(_) => {
                self.ask_server(spec, legacy, deadline).await
            }
            Launch::Unsupported { .. } | Launch::Withheld { .. } => Ok(Eras::LEGACY),
        }
    }

    /// Returns the verdict on a server, found here or earlier.
    pub fn found(&self, spec: &ServerSpec) -> Option<EraVerdict> {
        self.shared.verdicts.of(spec)
    }

    /// Takes the verdicts that are not stored yet: server, revision, verdict.
    pub fn take_found(&self) -> Vec<(ServerId, i32, EraVerdict)> {
        std::mem::take(&mut self.shared.verdicts.unstored.lock())
    }

    async fn ask_server(
        &self,
        spec: &Arc<ServerSpec>,
        legacy: PoolKey,
        deadline: Instant,
    ) -> Result<Eras, Refusal> {
        if self.is_left_alone(spec, legacy.tenant) {
            return Ok(Eras::LEGACY);
        }
        let asked = probe_of(legacy.tenant, spec);
        let mut told = match self.shared.verdicts.asking.entry(asked) {
            Place::Occupied(asking) => asking.get().clone(),
            Place::Vacant(place) => {
                if let Some(known) = self.known_eras(spec) {
                    return Ok(known);
                }
                let (tell, told) = watch::channel(None);
                place.insert(told.clone());
                let (pool, spec) = (self.clone(), spec.clone());
                self.shared.tasks.spawn(async move { pool.probe(&spec, legacy, tell).await });
                told
            }
        };
        match tokio::time::timeout_at(deadline.into(), told.wait_for(Option::is_some)).await {
            Ok(told) => told.ok().and_then(|told| told.clone()).unwrap_or(Ok(Eras::LEGACY)),
            Err(_) => {
                let reason = format!(
                    "`{}` has not started, so that it is not known which era it speaks: it is slow, or others start first",
                    spec.slug
                );
                Err(Refusal::new(Code::TimedOut, reason).hint("ask again in a moment"))
            }
        }
    }

    async fn probe(&self, spec: &Arc<ServerSpec>, legacy: PoolKey, tell: watch::Sender<Told>) {
        let eras = match &spec.launch {
            Launch::Stdio(launch) => self.first_start(spec, launch, legacy).await,
            Launch::Http(_)
            | Launch::Websocket(_)
            | Launch::Builtin { .. }
            | Launch::Unsupported { .. }
            | Launch::Withheld { .. } => Ok(self.ask_remote(spec, legacy.tenant).await),
        };
        if let Ok(Some(eras)) = eras {
            tracing::info!(server = %spec.slug, eras = eras.as_str(), "a server's eras were found out");
            self.shared.verdicts.learned(spec, EraVerdict { eras, found_at: Timestamp::now() });
        }
        self.shared.verdicts.asking.remove(&probe_of(legacy.tenant, spec));
        tell.send_replace(Some(eras.map(|eras| eras.unwrap_or(Eras::LEGACY))));
    }

    /// Returns the verdict on a remote server, or `None`: a refusal, fault or delay says nothing about the
    /// era.
    async fn ask_remote(&self, spec: &ServerSpec, tenant: TenantId) -> Option<Eras> {
        let logs = self.shared.logs(tenant, spec.id);
        let deadline = Instant::now() + spec.start_timeout.value;
        let peer = start::silent_plan(&self.shared, spec, Era::Legacy, logs.clone());
        let plan = start::remote_plan(&self.shared, spec, peer);
        let asked = match &spec.launch {
            Launch::Http(launch) => http::eras(&plan, launch, deadline).await,
            Launch::Websocket(launch) => websocket::eras(&plan, launch, deadline).await,
            Launch::Stdio(_)
            | Launch::Builtin { .. }
            | Launch::Unsupported { .. }
            | Launch::Withheld { .. } => Ok(None),
        };
        let eras = asked.unwrap_or_else(|refusal| {
            logs.note(format!("it could not be found out which era it speaks: {}", refusal.reason));
            None
        });
        if eras.is_none() {
            let unlearned = &self.shared.verdicts.unlearned;
            unlearned.retain(|_, at| at.elapsed() < AGAIN);
            unlearned.insert(probe_of(tenant, spec), Instant::now());
        }
        eras
    }

    /// Returns true if the server may not be started now: stopped, in backoff, or probed without a verdict.
    fn is_left_alone(&self, spec: &ServerSpec, tenant: TenantId) -> bool {
        let verdicts = &self.shared.verdicts;
        let is_same = |key: &PoolKey| (key.revision, key.variant) == (spec.revision, spec.variant);
        let probed = verdicts.unlearned.get(&probe_of(tenant, spec));
        self.shared.is_closing()
            || self.shared.stopped_by_operator.contains_key(&(tenant, spec.id))
            || probed.is_some_and(|at| at.elapsed() < AGAIN)
            || self
                .shared
                .of(tenant, spec.id)
                .iter()
                .any(|entry| is_same(&entry.key) && entry.is_left_alone())
    }
}

fn age(verdict: &EraVerdict) -> SignedDuration {
    Timestamp::now().duration_since(verdict.found_at)
}
