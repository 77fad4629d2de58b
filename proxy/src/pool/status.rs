//! Status of an upstream, for status pages.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use protocol::{Code, ServerId, TenantId};
use serde::Serialize;

use super::PoolFigures;
use super::entry::Entry;
use super::entry_status::PhaseView;
use super::outcomes::Outcome;
use super::state::PoolState;

pub use crate::breaker::BreakerState;
pub use crate::logs::LogLine;

#[derive(Clone, Debug)]
pub struct UpstreamStatus {
    pub state: State,
    /// Details of the state, such as the exit status and stderr of a child.
    pub reason: Option<String>,
    pub since: Timestamp,
    pub last_success: Option<Timestamp>,
    /// The child's process id.
    pub pid: Option<u32>,
    pub in_flight: usize,
    /// Starts after the first one.
    pub restarts: u64,
    pub breaker: BreakerState,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The last handshake, request or check succeeded.
    Healthy,
    /// The server answers, but the last request failed, or its lists are empty.
    Degraded,
    /// The server cannot be used now.
    Unhealthy,
    /// No request needed the server yet.
    Unknown,
    /// The operator stopped the server.
    Stopped,
    /// A setting is missing.
    NotConfigured,
}

impl State {
    pub const ALL: [State; 6] = [
        State::Healthy,
        State::Degraded,
        State::Unhealthy,
        State::Unknown,
        State::Stopped,
        State::NotConfigured,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            State::Healthy => "healthy",
            State::Degraded => "degraded",
            State::Unhealthy => "unhealthy",
            State::Unknown => "unknown",
            State::Stopped => "stopped",
            State::NotConfigured => "not_configured",
        }
    }
}

/// Returns the status of a server for a tenant: of the newest revision, and by preference of a running,
/// shared, recently used upstream; a later check of the server takes precedence.
pub fn of(pool: &PoolState, tenant: TenantId, server: ServerId) -> UpstreamStatus {
    let entries = pool.of(tenant, server);
    // Checks are made without the values of configs, and say nothing of upstreams that have some.
    let has_values = entries.iter().any(|entry| entry.key.variant != 0);
    let own = of_upstreams(pool, tenant, server, entries);
    match pool.checks.of(server).filter(|_| !has_values) {
        Some(checked) => own.with_check(&checked.outcome),
        None => own,
    }
}

fn of_upstreams(
    pool: &PoolState,
    tenant: TenantId,
    server: ServerId,
    mut entries: Vec<Arc<Entry>>,
) -> UpstreamStatus {
    // Only the death of a child is noticed without a request.
    entries.iter().for_each(|entry| entry.remove_dead());
    entries.sort_by_cached_key(|entry| {
        let used = Reverse(entry.last_used.load(Ordering::Relaxed));
        let idle = entry.alive().is_none();
        (Reverse(entry.key.revision), idle, entry.key.owner != 0, used)
    });
    let Some(entry) = entries.first() else {
        let stopped_by_operator = pool.stopped_by_operator.get(&(tenant, server)).map(|since| *since);
        return UpstreamStatus {
            state: if stopped_by_operator.is_some() { State::Stopped } else { State::Unknown },
            reason: stopped_by_operator.is_none().then(|| "it was not needed yet".to_owned()),
            since: stopped_by_operator.unwrap_or(pool.began),
            last_success: None,
            pid: None,
            in_flight: 0,
            restarts: 0,
            breaker: BreakerState::Closed,
        };
    };
    let (state, reason, since) = judge(entry);
    UpstreamStatus {
        state,
        reason,
        since,
        last_success: entries.iter().filter_map(|entry| entry.last_success()).max(),
        pid: entry.alive().and_then(|running| running.pid),
        in_flight: entries.iter().map(|entry| entry.in_flight.load(Ordering::Relaxed)).sum(),
        restarts: entries.iter().map(|entry| entry.restarts()).sum(),
        breaker: entry.breaker.state().0,
    }
}

impl UpstreamStatus {
    /// Returns the status after a check of the server that took no upstream of the pool.
    fn with_check(self, checked: &Outcome) -> Self {
        let is_later = self.last_success.is_none_or(|last| last < checked.at);
        let last_success = self.last_success.max(checked.last_success);
        let (state, reason) = match (self.state, checked.trouble()) {
            (State::Healthy | State::Degraded | State::Unknown, Some((State::NotConfigured, reason)))
                if is_later =>
            {
                (State::NotConfigured, reason)
            }
            (State::Healthy | State::Degraded | State::Unknown, Some((_, reason))) if is_later => {
                (State::Unhealthy, reason)
            }
            (State::Unknown, None) => {
                (State::Healthy, "it answered a check; the next request connects to it".to_owned())
            }
            (
                State::Healthy
                | State::Degraded
                | State::Unhealthy
                | State::Unknown
                | State::Stopped
                | State::NotConfigured,
                _,
            ) => return Self { last_success, ..self },
        };
        Self { state, reason: Some(reason), since: checked.since, last_success, ..self }
    }
}

/// Counts all upstreams. A server is in one state for each tenant that uses it, and in one if only checks
/// have reached it.
pub fn figures(pool: &PoolState) -> PoolFigures {
    let entries = pool.all();
    let servers: HashSet<_> = entries.iter().map(|entry| (entry.key.tenant, entry.key.server)).collect();
    let used: HashSet<ServerId> = servers.iter().map(|(_, server)| *server).collect();
    let checked = pool.checks.all().into_iter().filter(|(server, _)| !used.contains(server));
    let checked = checked.map(|(_, checked)| match checked.outcome.trouble() {
        Some((State::NotConfigured, _)) => State::NotConfigured,
        Some(_) => State::Unhealthy,
        None => State::Healthy,
    });
    let upstreams = servers.into_iter().map(|(tenant, server)| of(pool, tenant, server).state);
    let states: Vec<State> = upstreams.chain(checked).collect();
    let count = |state: State| (state.as_str(), states.iter().filter(|other| **other == state).count());
    PoolFigures {
        states: State::ALL.map(count).to_vec(),
        children: entries.iter().filter(|entry| entry.runs_child()).count(),
        in_flight: entries.iter().map(|entry| entry.in_flight.load(Ordering::Relaxed)).sum(),
    }
}

/// Returns the time of the last good answer of each server to its tenant.
pub fn last_successes(pool: &PoolState) -> HashMap<(TenantId, ServerId), Timestamp> {
    let of_requests = pool.all().into_iter().filter_map(|entry| {
        let at = entry.last_success()?;
        Some(((entry.key.tenant, entry.key.server), at))
    });
    let of_checks = pool.checks.all().into_iter().filter_map(|(server, checked)| {
        let at = checked.outcome.last_success?;
        Some(((checked.owner?, server), at))
    });
    let mut last = HashMap::new();
    for (of, at) in of_requests.chain(of_checks) {
        let known = last.entry(of).or_insert(at);
        *known = at.max(*known);
    }
    last
}

fn judge(entry: &Entry) -> (State, Option<String>, Timestamp) {
    let (phase, since) = entry.view();
    let failures = entry.breaker.failures();
    let last = entry.outcomes.last();
    match (phase, entry.breaker.state()) {
        (PhaseView::Held | PhaseView::Retired, _) => (State::Stopped, None, since),
        (PhaseView::Crashed(refusal), _) => {
            let state = match refusal.code {
                Code::NotConfigured => State::NotConfigured,
                _ => State::Unhealthy,
            };
            (state, Some(refusal.reason.into_owned()), refusal.since.unwrap_or(since))
        }
        (_, (BreakerState::Open, opened)) => {
            let reason = format!("the circuit breaker is open after {failures} failures in a row");
            (State::Unhealthy, Some(with_last(reason, last.as_ref())), opened.unwrap_or(since))
        }
        (_, (BreakerState::HalfOpen, opened)) => {
            let reason = with_last(format!("{failures} failures in a row"), last.as_ref());
            (State::Degraded, Some(reason), opened.unwrap_or(since))
        }
        (PhaseView::Running, _) => lately(entry, last.as_ref(), None, since),
        (PhaseView::Idle(Some(note)), _) => lately(entry, last.as_ref(), Some(note), since),
        (PhaseView::Idle(None), _) => (State::Unknown, Some("it was not needed yet".to_owned()), since),
        (PhaseView::Starting, _) => (State::Unknown, Some("it is starting".to_owned()), since),
    }
}

/// Returns the state by the last outcome and the lists.
fn lately(
    entry: &Entry,
    last: Option<&Outcome>,
    note: Option<&str>,
    since: Timestamp,
) -> (State, Option<String>, Timestamp) {
    let since = last.map_or(since, |last| last.since);
    match (last.and_then(Outcome::trouble), entry.outcomes.lists()) {
        (Some((state, reason)), _) => (state, Some(reason), since),
        (None, Some(defect)) => (State::Degraded, Some(defect.reason.to_owned()), defect.since.max(since)),
        (None, None) => (State::Healthy, note.map(str::to_owned), since),
    }
}

fn with_last(reason: String, last: Option<&Outcome>) -> String {
    match last.and_then(|last| last.failure.as_ref()) {
        Some(failure) => format!("{reason}; the last one: {}", failure.reason),
        None => reason,
    }
}
