//! Durable execution records: written before and after each call, recovered after a killed process, and
//! read back. Knows the tables `mcp_tool_executions` and `replicas` and the journal's files; does not know
//! HTTP, upstreams or policy.
//!
//! A begin is appended to a local journal (one write, no wake-up) and kept in memory. One thread, the
//! feeder, matches begins with their ends and writes to the database in batches: a short call is inserted
//! once, finished; a long one is inserted as `running` and updated. Calls that a killed process had begun
//! are in its journal and are inserted at the next start, as `unknown` where no end is known.

mod feed;
mod feed_postgres;
mod feed_sqlite;
mod feeder;
mod frame;
mod health;
mod journal;
mod query;
mod recorder;
mod recovery;
mod redact;
mod redaction;
mod replica;
mod row;
mod scan;
mod shared;
mod stats;
mod stats_postgres;
mod stats_sqlite;
mod syncer;
mod uncounted;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use protocol::caller::CallerKind;
use protocol::ids::{AgentId, CredentialId, ExecutionId, RequestId, ServerId, TenantId};
use protocol::outcome::Outcome;

pub(crate) use query::first_id_after;
pub use query::{Execution, ExecutionFilter, ExecutionPage, ServerKey};
pub use recorder::{OpenRecord, Recorder};
pub use redact::{DEFAULT_ARGUMENTS_CAP, digest};
pub use redaction::Redaction;
pub use stats::{Bucket, Figures, Group, GroupBy, MAX_GROUPS};

/// Settings of the record.
#[derive(Clone, Debug)]
pub struct RecordSettings {
    /// Directory of the journal; one process at a time may have it.
    pub dir: PathBuf,
    pub durability: Durability,
    /// Bytes in the journal's files above which begins are refused.
    pub max_journal_bytes: u64,
    /// Begins outside the database above which more are refused. Each takes about 1 KB of memory.
    pub max_waiting: usize,
    pub pace: Pace,
}

impl RecordSettings {
    /// Returns the defaults: `process`, 256 MiB of journal, 50,000 waiting begins.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            durability: Durability::Process,
            max_journal_bytes: 256 << 20,
            max_waiting: 50_000,
            pace: Pace::default(),
        }
    }
}

/// Failures that a begun call survives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// A killed process. Power loss can take the last seconds.
    Process,
    /// Power loss, but for the begins of the last interval.
    Interval(Duration),
    /// Commit in the database, and on its disk, before the call. Needs no lasting local disk.
    Strict,
}

/// Intervals of the feeder. The defaults fit all uses; tests shorten them.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub tick: Duration,
    /// Duration after which a call is inserted as `running`.
    pub running_after: Duration,
    pub heartbeat: Duration,
    /// Time without a heartbeat after which a replica's running rows become `unknown`.
    pub dead_after: Duration,
    /// Time that a begin waits for room before its refusal.
    pub patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            tick: Duration::from_millis(50),
            running_after: Duration::from_millis(500),
            heartbeat: Duration::from_secs(10),
            dead_after: Duration::from_secs(60),
            patience: Duration::from_millis(1_800),
        }
    }
}

/// Facts of a call before its start.
#[derive(Clone, Debug)]
pub struct Begin {
    pub id: ExecutionId,
    pub request: RequestId,
    /// W3C trace id.
    pub trace_id: Option<[u8; 16]>,
    pub tenant: TenantId,
    pub agent: Option<AgentId>,
    pub credential: Option<CredentialId>,
    pub caller_kind: CallerKind,
    pub kind: Kind,
    pub server: ServerId,
    /// Slug kept beside the id, since the record outlives the server.
    pub server_slug: Arc<str>,
    /// The tool's name, the resource's URI or the prompt's name, as the server gave it.
    pub tool: String,
    pub started_at: Timestamp,
    /// Arguments after [`Redaction::arguments`].
    pub arguments: Option<Box<str>>,
    /// SHA-256 of the arguments as they were sent; see [`digest`].
    pub digest: [u8; 32],
    pub argument_bytes: u32,
}

/// Kind of request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    ToolsCall,
    ResourcesRead,
    PromptsGet,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::ToolsCall, Kind::ResourcesRead, Kind::PromptsGet];

    /// Returns the MCP method.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::ToolsCall => "tools/call",
            Kind::ResourcesRead => "resources/read",
            Kind::PromptsGet => "prompts/get",
        }
    }

    pub fn parse(text: &str) -> Option<Kind> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// End of a call. Times are microseconds.
#[derive(Clone, Debug)]
pub struct Finish {
    pub outcome: Outcome,
    pub duration_us: u64,
    pub queue_us: u64,
    pub upstream_us: u64,
    pub attempts: u8,
    pub result_bytes: u64,
    pub tokens_in: u32,
    pub tokens_out: u32,
    pub tokens_estimated: bool,
    pub error: Option<Box<RecordedError>>,
}

impl Finish {
    /// Returns an end of which only the outcome and the duration are known.
    pub fn bare(outcome: Outcome, duration_us: u64) -> Self {
        Self {
            outcome,
            duration_us,
            queue_us: 0,
            upstream_us: 0,
            attempts: 0,
            result_bytes: 0,
            tokens_in: 0,
            tokens_out: 0,
            tokens_estimated: false,
            error: None,
        }
    }
}

/// Error of a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordedError {
    pub code: String,
    /// Message of at most [`RecordedError::MESSAGE_CAP`] bytes.
    pub message: String,
    /// Row or rule that decided.
    pub rule: Option<String>,
}

impl RecordedError {
    pub const MESSAGE_CAP: usize = 1024;

    pub fn new(code: impl Into<String>, message: &str, rule: Option<String>) -> Self {
        let end = message.floor_char_boundary(Self::MESSAGE_CAP);
        Self { code: code.into(), message: message[..end].to_owned(), rule }
    }
}

/// State of the record, for `/ready` and the metrics.
#[derive(Clone, Debug)]
pub struct RecordStatus {
    /// Begins that are not in the database yet.
    pub backlog: usize,
    pub journal_bytes: u64,
    /// Age of the oldest begin that is not in the database yet, as of the feeder's last attempt.
    pub oldest_age: Option<Duration>,
    /// Cause and start of a failure to write the record; `None` when all is well.
    pub failing: Option<(String, Timestamp)>,
    /// Replicas with a recent heartbeat, this one included; 0 while unknown.
    pub replicas: u32,
    /// Refused calls whose row was given up for lack of room.
    pub lost_refusals: u64,
}

/// Failure to open, write or read the record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("the journal in {0} is in use by another running process")]
    InUse(PathBuf),
    #[error("cannot {doing} the journal in {dir}")]
    Journal { doing: &'static str, dir: PathBuf, source: std::io::Error },
    /// Message for the operator.
    #[error("the database does not take the record: {0}")]
    Database(String),
    #[error("the recorder has been shut down")]
    Closed,
}
