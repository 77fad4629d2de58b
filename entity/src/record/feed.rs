//! Bulk inserts of execution records: one trait, two implementations, and their common columns. Bulk
//! inserts are the only statements written for each database, since they are most of the record's cost.

use std::path::PathBuf;
use std::time::Duration;

use protocol::outcome::Outcome;
use uuid::Uuid;

use super::feed_postgres::PostgresFeed;
use super::feed_sqlite::SqliteFeed;
use super::uncounted::Tokens;
use super::{Begin, Durability, Finish, RecordError};
use crate::Db;

/// Writer of rows of `mcp_tool_executions` and of this replica's row. Blocks.
pub(super) trait Feed {
    /// Writes all rows or none. An existing row stays unless the new one has an end, so every attempt can
    /// be repeated.
    fn store(&mut self, rows: &[Row<'_>]) -> Result<(), FeedError>;

    /// Writes a heartbeat of this replica. With `dead_after`, running rows of replicas without a heartbeat
    /// for that long become `unknown`; returns their number.
    fn beat(&mut self, dead_after: Option<Duration>) -> Result<u64, FeedError>;

    /// Returns the number of replicas, this one included, with a heartbeat within this time.
    fn replicas(&mut self, alive: Duration) -> Result<u32, FeedError>;

    /// Marks the running rows of this replica's previous life `unknown`, returns their number, and beats.
    fn close_previous_life(&mut self) -> Result<u64, FeedError>;
}

/// One row to write.
pub(super) struct Row<'a> {
    pub begin: &'a Begin,
    pub state: State<'a>,
    /// Counted tokens of a finished call.
    pub counted: Option<Tokens>,
    /// Promise that the database cannot have the row yet.
    pub first_attempt: bool,
}

impl Row<'_> {
    /// Returns the tokens of arguments and result, and whether they are estimated.
    pub fn tokens(&self) -> Option<(u32, u32, bool)> {
        let finish = self.state.finish()?;
        Some(match self.counted {
            Some(Tokens { arguments, result }) => (arguments, result, false),
            None => (finish.tokens_in, finish.tokens_out, finish.tokens_estimated),
        })
    }
}

#[derive(Clone, Copy)]
pub(super) enum State<'a> {
    Running,
    /// State of a call that a killed process had begun.
    Unknown,
    Finished(&'a Finish),
}

impl<'a> State<'a> {
    pub fn outcome(self) -> Outcome {
        match self {
            State::Running => Outcome::Running,
            State::Unknown => Outcome::Unknown,
            State::Finished(finish) => finish.outcome,
        }
    }

    pub fn finish(self) -> Option<&'a Finish> {
        match self {
            State::Running | State::Unknown => None,
            State::Finished(finish) => Some(finish),
        }
    }
}

/// Columns in the order in which both feeds bind them, with their PostgreSQL types.
pub(super) const COLUMNS: [(&str, &str); 28] = [
    ("tenant_id", "uuid"),
    ("id", "uuid"),
    ("request_id", "uuid"),
    ("trace_id", "uuid"),
    ("agent_id", "uuid"),
    ("credential_id", "uuid"),
    ("caller_kind", "text"),
    ("kind", "text"),
    ("server_id", "uuid"),
    ("server_slug", "text"),
    ("tool", "text"),
    ("started_at", "bigint"),
    ("arguments", "text"),
    ("arguments_digest", "bytea"),
    ("arguments_bytes", "bigint"),
    ("running_on", "uuid"),
    ("outcome", "text"),
    ("duration_us", "bigint"),
    ("queue_us", "bigint"),
    ("upstream_us", "bigint"),
    ("attempts", "smallint"),
    ("result_bytes", "bigint"),
    ("tokens_in", "bigint"),
    ("tokens_out", "bigint"),
    ("tokens_estimated", "boolean"),
    ("error_code", "text"),
    ("error_message", "text"),
    ("error_rule", "text"),
];

/// Index of the first column that an end changes; all later columns change, too.
const FIRST_OF_END: usize = 15;

/// Returns `a, b, c` of all columns.
pub(super) fn column_list() -> String {
    COLUMNS.map(|(name, _)| name).join(", ")
}

/// Returns `x = excluded.x, …` of the columns that an end changes.
pub(super) fn end_assignments() -> String {
    let assign = |(name, _): &(&str, &str)| format!("{name} = excluded.{name}");
    COLUMNS[FIRST_OF_END..].iter().map(assign).collect::<Vec<_>>().join(", ")
}

/// Converts a number for a column; a larger one counts as the largest.
pub(super) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Microseconds after the last heartbeat until a replica's row is deleted.
pub(super) const FORGOTTEN_AFTER_US: i64 = 24 * 3_600 * 1_000_000;

/// Database that takes the rows.
pub(super) enum Source {
    Sqlite(PathBuf),
    Postgres(Box<sea_orm::sqlx::postgres::PgConnectOptions>),
    /// A database of another kind, or in memory: only the pool can write to it.
    Unsupported,
}

impl Source {
    pub fn of(db: &Db) -> Source {
        match (db.sqlite_path(), db.postgres_pool()) {
            (Some(path), _) => Source::Sqlite(path.to_owned()),
            (None, Some(pool)) => Source::Postgres(Box::new((*pool.connect_options()).clone())),
            (None, None) => Source::Unsupported,
        }
    }

    /// Connects. The feed has its own connection, so that it never waits for the pool.
    pub fn open(self, replica: Uuid, durability: Durability) -> Result<Box<dyn Feed>, RecordError> {
        let failed = |error: FeedError| RecordError::Database(error.to_string());
        match self {
            Source::Sqlite(path) => {
                Ok(Box::new(SqliteFeed::open(&path, replica, durability).map_err(failed)?))
            }
            Source::Postgres(options) => Ok(Box::new(PostgresFeed::open(*options, replica).map_err(failed)?)),
            Source::Unsupported => {
                Err(RecordError::Database("the record needs a SQLite file or PostgreSQL".to_owned()))
            }
        }
    }
}

/// Cause of rows that the database did not take, for the operator.
#[derive(Debug, thiserror::Error)]
pub(super) enum FeedError {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Postgres(#[from] sea_orm::sqlx::Error),
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error("no runtime for its connection: {0}")]
    Runtime(#[from] std::io::Error),
}
