//! Bulk inserts into SQLite: one connection outside the pool on the same file, prepared statements, one
//! transaction per batch.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{CachedStatement, Connection, OpenFlags, Statement, TransactionBehavior, params};
use uuid::Uuid;

use super::Durability;
use super::feed::{
    COLUMNS, FORGOTTEN_AFTER_US, Feed, FeedError, Row, State, column_list, end_assignments, number,
};

/// Longest wait for other writers of the gateway; a busy database is retried later.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct SqliteFeed {
    connection: Connection,
    replica: Uuid,
    insert: String,
    upsert: String,
}

impl SqliteFeed {
    pub fn open(path: &Path, replica: Uuid, durability: Durability) -> Result<Self, FeedError> {
        let connection = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // A commit that must outlive power loss is synced; the journal's files go after it.
        let synchronous = match durability {
            Durability::Process => "NORMAL",
            Durability::Interval(_) | Durability::Strict => "FULL",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection.pragma_update(None, "journal_size_limit", 16 << 20)?;
        // Appending touches few pages.
        connection.pragma_update(None, "cache_size", -1024)?;
        let places = (1..=COLUMNS.len()).map(|at| format!("?{at}")).collect::<Vec<_>>().join(", ");
        let insert =
            format!("INSERT INTO mcp_tool_executions ({}) VALUES ({places}) ON CONFLICT", column_list());
        let upsert = format!("{insert} (tenant_id, id) DO UPDATE SET {}", end_assignments());
        Ok(Self { connection, replica, insert: format!("{insert} DO NOTHING"), upsert })
    }
}

impl Feed for SqliteFeed {
    fn store(&mut self, rows: &[Row<'_>]) -> Result<(), FeedError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut insert = transaction.prepare_cached(&self.insert)?;
            let mut upsert: Option<CachedStatement<'_>> = None;
            for row in rows {
                let known_end = matches!(row.state, State::Finished(_));
                if known_end && !row.first_attempt {
                    let upsert = match &mut upsert {
                        Some(upsert) => upsert,
                        none => none.insert(transaction.prepare_cached(&self.upsert)?),
                    };
                    bind(upsert, row, self.replica)?;
                } else {
                    bind(&mut insert, row, self.replica)?;
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn beat(&mut self, dead_after: Option<Duration>) -> Result<u64, FeedError> {
        let now = Timestamp::now().as_microsecond();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction
            .prepare_cached(
                "INSERT INTO replicas (id, started_at, heartbeat_at) VALUES (?1, ?2, ?2) \
                 ON CONFLICT (id) DO UPDATE SET heartbeat_at = excluded.heartbeat_at",
            )?
            .execute(params![self.replica.as_bytes(), now])?;
        let mut closed = 0;
        if let Some(dead_after) = dead_after {
            let alive_after = now - number(dead_after.as_micros() as u64);
            closed = transaction
                .prepare_cached(
                    "UPDATE mcp_tool_executions SET outcome = 'unknown', running_on = NULL \
                     WHERE outcome = 'running' AND running_on <> ?1 \
                     AND running_on NOT IN (SELECT id FROM replicas WHERE heartbeat_at > ?2)",
                )?
                .execute(params![self.replica.as_bytes(), alive_after])?;
            transaction
                .prepare_cached("DELETE FROM replicas WHERE heartbeat_at < ?1")?
                .execute(params![alive_after - FORGOTTEN_AFTER_US])?;
        }
        transaction.commit()?;
        Ok(closed as u64)
    }

    /// Returns 1: only one process uses the file.
    fn replicas(&mut self, _: Duration) -> Result<u32, FeedError> {
        Ok(1)
    }

    fn close_previous_life(&mut self) -> Result<u64, FeedError> {
        let closed = self.connection.execute(
            "UPDATE mcp_tool_executions SET outcome = 'unknown', running_on = NULL \
             WHERE outcome = 'running' AND running_on = ?1",
            params![self.replica.as_bytes()],
        )?;
        self.connection.execute("DELETE FROM replicas WHERE id = ?1", params![self.replica.as_bytes()])?;
        self.beat(None)?;
        Ok(closed as u64)
    }
}

fn bind(statement: &mut Statement<'_>, row: &Row<'_>, replica: Uuid) -> Result<(), FeedError> {
    let begin = row.begin;
    let finish = row.state.finish();
    let tokens = row.tokens();
    let running_on = matches!(row.state, State::Running).then_some(replica);
    let error = finish.and_then(|finish| finish.error.as_deref());
    let columns: [&dyn rusqlite::ToSql; COLUMNS.len()] = [
        begin.tenant.0.as_bytes(),
        begin.id.0.as_bytes(),
        begin.request.0.as_bytes(),
        &begin.trace_id,
        &begin.agent.as_ref().map(|id| id.0.as_bytes()),
        &begin.credential.as_ref().map(|id| id.0.as_bytes()),
        &begin.caller_kind.as_str(),
        &begin.kind.as_str(),
        begin.server.0.as_bytes(),
        &&*begin.server_slug,
        &begin.tool,
        &begin.started_at.as_microsecond(),
        &begin.arguments.as_deref(),
        &begin.digest,
        &begin.argument_bytes,
        &running_on.as_ref().map(Uuid::as_bytes),
        &row.state.outcome().as_str(),
        &finish.map(|finish| number(finish.duration_us)),
        &finish.map(|finish| number(finish.queue_us)),
        &finish.map(|finish| number(finish.upstream_us)),
        &finish.map(|finish| finish.attempts),
        &finish.map(|finish| number(finish.result_bytes)),
        &tokens.map(|(arguments, _, _)| arguments),
        &tokens.map(|(_, result, _)| result),
        &tokens.map(|(_, _, is_estimated)| is_estimated),
        &error.map(|error| error.code.as_str()),
        &error.map(|error| error.message.as_str()),
        &error.and_then(|error| error.rule.as_deref()),
    ];
    statement.execute(columns)?;
    Ok(())
}
