//! Checks of servers by the gateway itself: the cheapest request of the era, over the connection that is there,
//! else a handshake over one that is closed afterwards. A check starts no child, is no use of an upstream, and
//! leaves alone an upstream that is in use, stopped or in a pause after failures.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use protocol::mcp::{Era, method};
use protocol::{Code, Refusal, ServerId};
use serde_json::Map;

use super::entry::Entry;
use super::{Pool, PoolKey, start};
use crate::breaker::{Admission, Breaker};
use crate::http::{self, RemotePlan};
use crate::logs::LogRing;
use crate::message;
use crate::peer::gateway_client;
use crate::server::{EraVerdict, Launch, ServerSpec};
use crate::upstream::{Failure, Params, UpstreamAnswer, UpstreamRequest};
use crate::websocket;

/// Log of a check of a server that no tenant owns.
const UNOWNED_LOG: (usize, usize) = (8, 4096);

impl Pool {
    /// Returns the keys of the children that run.
    pub fn running_children(&self) -> Vec<PoolKey> {
        self.shared.all().iter().filter(|entry| entry.runs_child()).map(|entry| entry.key).collect()
    }

    /// Checks an upstream that runs. Returns `None` if it does not run, or is left alone.
    ///
    /// # Errors
    /// The failure, which also counts for the state and the circuit breaker.
    pub async fn check_running(&self, key: &PoolKey, patience: Duration) -> Option<Result<(), Refusal>> {
        let entry = self.shared.entries.get(key).map(|entry| entry.clone())?;
        entry.probe(patience).await
    }

    /// Checks a remote server: over its owner's connection, which has `patience` for the answer, else by a
    /// handshake, which has the server's `start_timeout`. Returns `None` if the server is left alone.
    ///
    /// # Errors
    /// The failure, which also counts for the state.
    pub async fn check_remote(
        &self,
        spec: &Arc<ServerSpec>,
        patience: Duration,
    ) -> Option<Result<(), Refusal>> {
        let mut entries = spec.owner.map_or_else(Vec::new, |owner| self.shared.of(owner, spec.id));
        entries.retain(|entry| (entry.key.revision, entry.key.variant) == (spec.revision, spec.variant));
        entries.iter().for_each(|entry| entry.remove_dead());
        let is_stopped = |owner| {
            self.shared.stopped_by_operator.contains_key(&(owner, spec.id)) || self.shared.is_closing()
        };
        if spec.owner.is_some_and(is_stopped) || entries.iter().any(|entry| entry.is_left_alone()) {
            return None;
        }
        if let Some(running) = entries.iter().find(|entry| entry.key.owner == 0 && entry.alive().is_some()) {
            let outcome = running.probe(patience).await;
            running.remove_dead();
            // A connection that ended, as with a session of a server that was restarted, says nothing about
            // a new one.
            if running.alive().is_some() || running.is_held() {
                return outcome;
            }
        }
        let outcome = self.shake_once(spec).await;
        self.shared.checks.note(spec, outcome.as_ref().copied());
        if outcome.is_ok() {
            self.shared
                .entries
                .iter()
                .filter(|entry| entry.key.server == spec.id)
                .for_each(|entry| entry.forgive());
        }
        Some(outcome)
    }

    /// Forgets the checks of servers other than these.
    pub fn keep_checks_of(&self, is_kept: impl Fn(ServerId, i32) -> bool) {
        self.shared.checks.retain(is_kept);
    }

    /// Shakes hands with a remote server, and ends the connection.
    async fn shake_once(&self, spec: &Arc<ServerSpec>) -> Result<(), Refusal> {
        let deadline = Instant::now() + spec.start_timeout.value;
        let logs = match spec.owner {
            Some(owner) => self.shared.logs(owner, spec.id),
            None => Arc::new(LogRing::new(UNOWNED_LOG.0, UNOWNED_LOG.1)),
        };
        let plan = |era| {
            let peer = start::silent_plan(&self.shared, spec, era, logs.clone());
            start::remote_plan(&self.shared, spec, peer)
        };
        match self.known_eras(spec) {
            Some(eras) => self.shake_in_era(spec, &plan(eras.nearest(Era::Legacy)), deadline).await,
            None => self.shake_in_any_era(spec, &plan(Era::Legacy), deadline).await,
        }
    }

    async fn shake_in_era(
        &self,
        spec: &ServerSpec,
        plan: &RemotePlan,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        let generation = self.shared.next_generation();
        let (upstream, _) = match &spec.launch {
            Launch::Http(launch) => http::start(plan, launch, generation, deadline).await?,
            Launch::Websocket(launch) => websocket::start(plan, launch, generation, deadline).await?,
            Launch::Builtin(_) | Launch::Stdio(_) | Launch::Unsupported { .. } | Launch::Withheld { .. } => {
                return Err(not_remote(spec));
            }
        };
        upstream.stop().await;
        Ok(())
    }

    /// Finds out the eras, which takes the handshake of each.
    async fn shake_in_any_era(
        &self,
        spec: &ServerSpec,
        plan: &RemotePlan,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        let eras = match &spec.launch {
            Launch::Http(launch) => http::eras(plan, launch, deadline).await?,
            Launch::Websocket(launch) => websocket::eras(plan, launch, deadline).await?,
            Launch::Builtin(_) | Launch::Stdio(_) | Launch::Unsupported { .. } | Launch::Withheld { .. } => {
                return Err(not_remote(spec));
            }
        };
        let Some(eras) = eras else {
            let reason = format!("`{}` answers, but with no MCP handshake of any revision", spec.slug);
            return Err(Refusal::new(Code::UpstreamUnavailable, reason));
        };
        self.shared.verdicts.learned(spec, EraVerdict { eras, found_at: jiff::Timestamp::now() });
        Ok(())
    }
}

impl Entry {
    /// Sends the cheapest request, unless the upstream is in use or its breaker open.
    pub async fn probe(self: &Arc<Self>, patience: Duration) -> Option<Result<(), Refusal>> {
        let running = self.alive()?;
        if self.in_flight.load(Ordering::SeqCst) > 0 {
            return None;
        }
        let _probe = Probe { breaker: &self.breaker, admission: self.breaker.admit().ok()? };
        let (asked, params) = self.cheapest_request();
        let request = UpstreamRequest {
            is_use: false,
            ..UpstreamRequest::new(asked, Params::raw(params.as_bytes()), Instant::now() + patience)
        };
        let sent = Instant::now();
        let answered = running.upstream.request(request).await.and_then(|answer| self.accept(asked, answer));
        match answered {
            Ok(()) => {
                self.went_well();
                Some(Ok(()))
            }
            Err(failure) if failure.refusal.code == Code::ServerStopped => None,
            Err(failure) => Some(Err(self.went_wrong(failure, sent.elapsed(), running))),
        }
    }

    /// Returns method and parameters of the request that asks the least.
    pub(super) fn cheapest_request(&self) -> (&'static str, String) {
        let asked = match self.key.era {
            Era::Legacy => method::PING,
            Era::Modern => method::DISCOVER,
        };
        (asked, gateway_client::params(self.key.era, &self.pool.settings.client(), Map::new()))
    }

    /// Takes any answer to `ping`, since a server need not know it; of `server/discover` only a result.
    fn accept(&self, asked: &str, answer: UpstreamAnswer) -> Result<(), Failure> {
        match answer {
            UpstreamAnswer::Error(error) if asked == method::DISCOVER => {
                let reason = format!("`{}` refuses `{asked}`: {}", self.spec.slug, message::excerpt(&error));
                Err(Failure { refusal: Refusal::new(Code::UpstreamFailed, reason), sent: true })
            }
            UpstreamAnswer::Error(_) | UpstreamAnswer::Result(_) => Ok(()),
        }
    }
}

/// Guard of an admission of the breaker, without effect after an outcome.
struct Probe<'a> {
    breaker: &'a Breaker,
    admission: Admission,
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        if self.admission == Admission::Probe {
            self.breaker.undecided();
        }
    }
}

fn not_remote(spec: &ServerSpec) -> Refusal {
    match &spec.launch {
        Launch::Unsupported { transport } => {
            let reason = format!("the transport `{transport}` is not supported by this gateway");
            Refusal::new(Code::NotConfigured, reason)
        }
        _ => Refusal::new(Code::NotConfigured, format!("`{}` is no remote server", spec.slug)),
    }
}
