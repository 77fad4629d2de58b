//! Outcomes of recorded calls.

use serde::{Deserialize, Serialize};

/// Outcome of an execution. `Running` and `Unknown` are states of the record, never answers: a row is
/// `Unknown` when the replica that ran it died before the end was known.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Running,
    Ok,
    ToolError,
    ProtocolError,
    Denied,
    Limited,
    TimedOut,
    Cancelled,
    Unavailable,
    Unknown,
}

impl Outcome {
    pub const ALL: [Outcome; 10] = [
        Outcome::Running,
        Outcome::Ok,
        Outcome::ToolError,
        Outcome::ProtocolError,
        Outcome::Denied,
        Outcome::Limited,
        Outcome::TimedOut,
        Outcome::Cancelled,
        Outcome::Unavailable,
        Outcome::Unknown,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Running => "running",
            Outcome::Ok => "ok",
            Outcome::ToolError => "tool_error",
            Outcome::ProtocolError => "protocol_error",
            Outcome::Denied => "denied",
            Outcome::Limited => "limited",
            Outcome::TimedOut => "timed_out",
            Outcome::Cancelled => "cancelled",
            Outcome::Unavailable => "unavailable",
            Outcome::Unknown => "unknown",
        }
    }

    pub fn parse(text: &str) -> Option<Outcome> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == text)
    }
}
