//! Guard of SQLite connections: statements can read the tables of one database and nothing else, neither
//! files nor settings, within bounds of time, memory and disk.

mod authorizer;
mod catalog;
mod file;
mod values;
mod watch;

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::limits::Limit as SqliteLimit;
use rusqlite::{Batch, Connection, ErrorCode, OpenFlags, Statement};
use serde_json::Value;

use super::{Bounds, Column, Kind, ResultSet, SqlError, check_text};
pub use file::SqliteFile;

use authorizer::{MOST_SLOW, SlowUses};
use watch::{Cause, Watch};

/// Limits of a guarded connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest text, blob or row inside a statement, bytes.
    pub value_bytes: usize,
    /// Most bytes that one statement may write to temporary files, such as for a sort.
    pub temporary_bytes: u64,
    /// Most bytes by which the memory of the process may grow during one statement.
    pub memory_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { value_bytes: 1_000_000, temporary_bytes: 256 << 20, memory_bytes: 512 << 20 }
    }
}

/// Longest wait for a writer that holds the file.
const BUSY: Duration = Duration::from_secs(2);

/// A connection on which every statement only reads.
pub struct Guarded {
    connection: Connection,
    limits: Limits,
    slow_uses: SlowUses,
}

impl Guarded {
    /// Opens a database file for reading. The file must exist.
    ///
    /// # Errors
    /// The reason why it cannot be opened.
    pub fn open(path: &Path, limits: Limits) -> Result<Self, SqlError> {
        let unusable = |reason: String| SqlError::new(Kind::Unavailable, reason);
        // An absolute path is never read as a URI, which could ask for another mode.
        let file = path
            .canonicalize()
            .map_err(|error| unusable(format!("the database file cannot be opened: {error}")))?;
        if !file.is_file() {
            return Err(unusable("the database is not a file".to_owned()));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(&file, flags).map_err(|error| unusable(error.to_string()))?;
        let guarded = Self::new(connection, limits)?;
        guarded.probe()?;
        Ok(guarded)
    }

    /// Guards a connection, for example one to a database in memory that is filled. Functions and modules that
    /// were added to the connection can be called by statements.
    ///
    /// # Errors
    /// The setting that SQLite refuses.
    pub fn new(connection: Connection, limits: Limits) -> Result<Self, SqlError> {
        let guarded = guard(&connection, limits);
        let slow_uses = guarded.map_err(|error| SqlError::new(Kind::Failed, error.to_string()))?;
        Ok(Self { connection, limits, slow_uses })
    }

    /// Reads the file's header and schema, which SQLite does at the first statement.
    ///
    /// # Errors
    /// The reason why it is no readable database.
    pub fn probe(&self) -> Result<(), SqlError> {
        let count = "SELECT count(*) FROM sqlite_schema";
        self.connection.query_row(count, [], |_| Ok(())).map_err(|error| {
            SqlError::new(Kind::Unavailable, format!("the database cannot be read: {error}"))
        })
    }

    /// Runs one statement with parameters: an array whose values take the places `?`, `?1` or `$1`.
    ///
    /// # Errors
    /// The mistake of the statement or its parameters, the action that is refused, or the bound that was met.
    pub fn query(&mut self, sql: &str, params: &[Value], bounds: &Bounds) -> Result<ResultSet, SqlError> {
        check_text(sql)?;
        let (mut statement, watch) = self.statement(sql, bounds)?;
        values::bind(&mut statement, sql, params)?;
        let columns: Vec<_> = statement.columns().iter().map(column).collect();
        let width = columns.len();
        let mut result = ResultSet::new(columns);
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next().map_err(|error| problem(&error, &watch))? {
            let row = (0..width).map(|index| row.get_ref(index).map(values::json));
            let row = row.collect::<Result<_, _>>().map_err(|error| problem(&error, &watch))?;
            if !result.push(row, bounds)? {
                break;
            }
        }
        Ok(result)
    }

    /// Reads one statement without running it. Returns the number of its parameters.
    ///
    /// # Errors
    /// The mistake of the statement, or the action that is refused.
    pub fn prepare(&self, sql: &str, bounds: &Bounds) -> Result<usize, SqlError> {
        check_text(sql)?;
        let (statement, _) = self.statement(sql, bounds)?;
        values::places(&statement, sql).map(|places| places.into_iter().max().unwrap_or(0))
    }

    fn statement(&self, sql: &str, bounds: &Bounds) -> Result<(Statement<'_>, Watch), SqlError> {
        let watch = Watch::begin(&self.connection, self.limits, bounds)?;
        let left = bounds.deadline.saturating_duration_since(Instant::now());
        self.connection.busy_timeout(left.min(BUSY)).map_err(|error| problem(&error, &watch))?;
        self.slow_uses.reset();
        let statement = only_statement(&self.connection, sql).map_err(|error| match error {
            Mistake::Statement(_) if self.slow_uses.are_too_many() => too_many_slow_uses(),
            Mistake::Statement(error) => problem(&error, &watch),
            Mistake::Guard(error) => error,
        })?;
        if statement.column_count() == 0 || !statement.readonly() {
            return Err(SqlError::new(Kind::ReadOnly, "the statement returns no rows"));
        }
        Ok((statement, watch))
    }
}

fn guard(connection: &Connection, limits: Limits) -> rusqlite::Result<SlowUses> {
    for (setting, value) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_ATTACH_CREATE, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_ATTACH_WRITE, false),
    ] {
        connection.set_db_config(setting, value)?;
    }
    // Also stops what an extension prepared for itself before the authorizer was there.
    connection.pragma_update(None, "query_only", true)?;
    let value_bytes = i32::try_from(limits.value_bytes).unwrap_or(i32::MAX);
    for (limit, most) in [
        (SqliteLimit::SQLITE_LIMIT_ATTACHED, 0),
        (SqliteLimit::SQLITE_LIMIT_WORKER_THREADS, 0),
        (SqliteLimit::SQLITE_LIMIT_LENGTH, value_bytes),
        (SqliteLimit::SQLITE_LIMIT_SQL_LENGTH, super::MOST_SQL as i32),
        (SqliteLimit::SQLITE_LIMIT_VARIABLE_NUMBER, super::MOST_PARAMETERS as i32),
        (SqliteLimit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1_000),
        (SqliteLimit::SQLITE_LIMIT_VDBE_OP, 25_000),
    ] {
        connection.set_limit(limit, most)?;
    }
    authorizer::install(connection)
}

enum Mistake {
    Statement(rusqlite::Error),
    Guard(SqlError),
}

/// Prepares the one statement of a text. `Connection::prepare` is not used, since it calls itself once for each
/// further statement and so can be made to overflow the stack.
fn only_statement<'a>(connection: &'a Connection, sql: &str) -> Result<Statement<'a>, Mistake> {
    let mut statements = Batch::new(connection, sql);
    let invalid = |message: &str| Mistake::Guard(SqlError::new(Kind::Invalid, message));
    let first = statements.next().map_err(Mistake::Statement)?;
    let first = first.ok_or_else(|| invalid("there is no statement, only comments or space"))?;
    match statements.next() {
        Ok(None) => Ok(first),
        // The text after the first statement is not read any further.
        Ok(Some(_)) | Err(_) => {
            Err(invalid("there is more than one statement; send one, without text after the semicolon"))
        }
    }
}

fn column(column: &rusqlite::Column<'_>) -> Column {
    Column { name: column.name().to_owned(), r#type: column.decl_type().map(str::to_owned) }
}

/// Returns the error of SQLite as the caller reads it.
fn problem(error: &rusqlite::Error, watch: &Watch) -> SqlError {
    if let Some(cause) = watch.cause() {
        return stopped(cause);
    }
    let code = error.sqlite_error_code();
    let (message, position) = match error {
        rusqlite::Error::SqlInputError { msg, sql, offset, .. } => {
            let before = usize::try_from(*offset).ok().and_then(|offset| sql.get(..offset));
            (msg.clone(), before.and_then(|before| u32::try_from(before.chars().count() + 1).ok()))
        }
        rusqlite::Error::SqliteFailure(_, Some(message)) => (message.clone(), None),
        other => (other.to_string(), None),
    };
    if message.starts_with("not authorized to use function") {
        return SqlError::new(Kind::PermissionDenied, message).at(position);
    }
    let kind = match code {
        Some(ErrorCode::AuthorizationForStatementDenied) => {
            return SqlError::new(Kind::ReadOnly, format!("the statement is refused: {message}"));
        }
        Some(ErrorCode::ReadOnly) => Kind::ReadOnly,
        Some(ErrorCode::PermissionDenied) => Kind::PermissionDenied,
        Some(ErrorCode::TooBig) => {
            return SqlError::new(Kind::TooLarge, message)
                .hint("a value is longer than is allowed; select a part of it, or its length");
        }
        Some(ErrorCode::OperationInterrupted) => Kind::TimedOut,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Kind::Unavailable,
        Some(ErrorCode::CannotOpen | ErrorCode::DiskFull | ErrorCode::OutOfMemory) => Kind::Unavailable,
        Some(ErrorCode::SystemIoFailure | ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Kind::Failed
        }
        _ => Kind::Invalid,
    };
    SqlError::new(kind, message).at(position)
}

fn too_many_slow_uses() -> SqlError {
    let message = format!(
        "the statement uses LIKE, GLOB, instr, replace, trim and the like more than {MOST_SLOW} times"
    );
    SqlError::new(Kind::TooLarge, message).hint("split the statement")
}

fn stopped(cause: Cause) -> SqlError {
    match cause {
        Cause::Deadline => SqlError::new(Kind::TimedOut, "the statement took too long and was stopped"),
        Cause::Cancelled => SqlError::new(Kind::Cancelled, "the request was cancelled"),
        Cause::Temporary => SqlError::new(Kind::TooLarge, "the statement needs too much temporary space")
            .hint("sort, group or join fewer rows"),
        Cause::Memory => SqlError::new(Kind::TooLarge, "the statement needs too much memory")
            .hint("aggregate fewer or shorter values"),
    }
}

#[cfg(test)]
#[path = "sqlite/guard_tests.rs"]
mod tests;
