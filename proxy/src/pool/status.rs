//! Status of an upstream, for status pages.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use protocol::{Code, ServerId, TenantId};
use serde::Serialize;

use super::PoolFigures;
use super::entry::Entry;
use super::entry_status::PhaseView;
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
    /// The last handshake succeeded, and so did the last requests.
    Healthy,
    /// The server runs, but requests failed lately.
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
/// shared, recently used upstream.
pub fn of(pool: &PoolState, tenant: TenantId, server: ServerId) -> UpstreamStatus {
    let mut entries = pool.of(tenant, server);
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

/// Counts all upstreams. A server is in one state for each tenant that uses it.
pub fn figures(pool: &PoolState) -> PoolFigures {
    let entries = pool.all();
    let servers: HashSet<_> = entries.iter().map(|entry| (entry.key.tenant, entry.key.server)).collect();
    let mut states = BTreeMap::new();
    for (tenant, server) in servers {
        *states.entry(of(pool, tenant, server).state.as_str()).or_default() += 1;
    }
    PoolFigures {
        states: states.into_iter().collect(),
        children: entries.iter().filter(|entry| entry.runs_child()).count(),
        in_flight: entries.iter().map(|entry| entry.in_flight.load(Ordering::Relaxed)).sum(),
    }
}

fn judge(entry: &Entry) -> (State, Option<String>, Timestamp) {
    let (phase, since) = entry.view();
    let failures = entry.breaker.failures();
    let failed = || Some(format!("{failures} failures in a row"));
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
            (State::Unhealthy, Some(reason), opened.unwrap_or(since))
        }
        (_, (BreakerState::HalfOpen, opened)) => (State::Degraded, failed(), opened.unwrap_or(since)),
        (PhaseView::Running, _) if failures > 0 => (State::Degraded, failed(), since),
        (PhaseView::Running, _) => (State::Healthy, None, since),
        (PhaseView::Idle(Some(note)), _) => (State::Healthy, Some(note.to_owned()), since),
        (PhaseView::Idle(None), _) => (State::Unknown, Some("it was not needed yet".to_owned()), since),
        (PhaseView::Starting, _) => (State::Unknown, Some("it is starting".to_owned()), since),
    }
}
