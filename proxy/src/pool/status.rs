//! How an upstream is doing, as a status page shows it.

use jiff::Timestamp;
use serde::Serialize;

pub use crate::breaker::BreakerState;

#[derive(Clone, Debug)]
pub struct UpstreamStatus {
    pub state: State,
    /// Why, when there is more to say than the state: the exit status and last words of a child.
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
    /// Its last handshake succeeded, and so did its last requests.
    Healthy,
    /// It runs, but requests failed lately.
    Degraded,
    /// It cannot be used now.
    Unhealthy,
    /// It was never needed yet.
    Unknown,
    /// Held down until it is started.
    Stopped,
    /// Something must be set first.
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

/// One line of a server's log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LogLine {
    pub at: Timestamp,
    /// `stderr`, or `gateway` for what was noted about it.
    pub stream: &'static str,
    pub text: String,
}
