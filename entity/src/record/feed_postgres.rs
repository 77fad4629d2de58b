//! Bulk inserts into PostgreSQL: one connection outside the pool, one statement per batch over arrays. A
//! connection that fails is replaced at the next attempt.

use std::borrow::Cow;
use std::time::Duration;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection};
use sea_orm::sqlx::{self, AssertSqlSafe, ConnectOptions, Connection};
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::feed::{
    COLUMNS, FORGOTTEN_AFTER_US, Feed, FeedError, Row, State, column_list, end_assignments, number,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// SQL for the database's clock, in microseconds, so that the replicas' clocks may differ.
macro_rules! now {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    };
}

pub(super) struct PostgresFeed {
    /// Runtime of the connection on the feeder's thread, apart from the gateway's runtime.
    runtime: Runtime,
    link: Link,
    replica: Uuid,
    store: String,
}

struct Link {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
}

impl PostgresFeed {
    pub fn open(options: PgConnectOptions, replica: Uuid) -> Result<Self, FeedError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let arrays = COLUMNS.iter().enumerate().map(|(at, (_, kind))| format!("${}::{kind}[]", at + 1));
        let store = format!(
            "INSERT INTO mcp_tool_executions AS known ({}) SELECT * FROM UNNEST({}) \
             ON CONFLICT (tenant_id, id) DO UPDATE SET {} WHERE excluded.outcome NOT IN ('running', 'unknown')",
            column_list(),
            arrays.collect::<Vec<_>>().join(", "),
            end_assignments(),
        );
        Ok(Self { runtime, link: Link { options, connection: None }, replica, store })
    }
}

impl Feed for PostgresFeed {
    fn store(&mut self, rows: &[Row<'_>]) -> Result<(), FeedError> {
        let (store, replica) = (&self.store, self.replica);
        let result = self.runtime.block_on(
            self.link.run(async |connection| Columns::of(rows, replica).execute(store, connection).await),
        );
        match result {
            Err(FeedError::Postgres(sqlx::Error::Database(error)))
                if error.code().is_some_and(|code| code.starts_with("22") || code.starts_with("23")) =>
            {
                // A value that the database refuses must not hold up all others for ever.
                if rows.len() <= 1 {
                    let id = rows.first().map(|row| row.begin.id);
                    tracing::error!(?id, %error, "an execution cannot be recorded and is given up");
                    return Ok(());
                }
                let (first, second) = rows.split_at(rows.len() / 2);
                self.store(first)?;
                self.store(second)
            }
            other => other,
        }
    }

    fn beat(&mut self, dead_after: Option<Duration>) -> Result<u64, FeedError> {
        let replica = self.replica;
        self.runtime.block_on(self.link.run(async |connection| {
            sqlx::query(concat!(
                "INSERT INTO replicas (id, started_at, heartbeat_at) VALUES ($1, ",
                now!(),
                ", ",
                now!(),
                ") ON CONFLICT (id) DO UPDATE SET heartbeat_at = excluded.heartbeat_at",
            ))
            .bind(replica)
            .execute(&mut *connection)
            .await?;
            let Some(dead_after) = dead_after else { return Ok(0) };
            let closed = sqlx::query(concat!(
                "UPDATE mcp_tool_executions SET outcome = 'unknown', running_on = NULL ",
                "WHERE outcome = 'running' AND running_on <> $1 ",
                "AND running_on NOT IN (SELECT id FROM replicas WHERE heartbeat_at > ",
                now!(),
                " - $2)",
            ))
            .bind(replica)
            .bind(number(dead_after.as_micros() as u64))
            .execute(&mut *connection)
            .await?;
            sqlx::query(concat!("DELETE FROM replicas WHERE heartbeat_at < ", now!(), " - $1"))
                .bind(number(dead_after.as_micros() as u64) + FORGOTTEN_AFTER_US)
                .execute(connection)
                .await?;
            Ok(closed.rows_affected())
        }))
    }

    fn replicas(&mut self, alive: Duration) -> Result<u32, FeedError> {
        let living: i64 = self.runtime.block_on(self.link.run(async |connection| {
            sqlx::query_scalar(concat!(
                "SELECT count(*) FROM replicas WHERE heartbeat_at > ",
                now!(),
                " - $1"
            ))
            .bind(number(alive.as_micros() as u64))
            .fetch_one(connection)
            .await
        }))?;
        Ok(u32::try_from(living).unwrap_or(u32::MAX).max(1))
    }

    fn close_previous_life(&mut self) -> Result<u64, FeedError> {
        let replica = self.replica;
        let closed = self.runtime.block_on(self.link.run(async |connection| {
            let closed = sqlx::query(
                "UPDATE mcp_tool_executions SET outcome = 'unknown', running_on = NULL \
                 WHERE outcome = 'running' AND running_on = $1",
            )
            .bind(replica)
            .execute(&mut *connection)
            .await?;
            sqlx::query("DELETE FROM replicas WHERE id = $1").bind(replica).execute(connection).await?;
            Ok(closed.rows_affected())
        }))?;
        self.beat(None)?;
        Ok(closed)
    }
}

impl Link {
    /// Runs `work` on the connection, opened when there is none and dropped after a failure.
    async fn run<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, FeedError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => tokio::time::timeout(CONNECT_TIMEOUT, self.options.connect())
                .await
                .map_err(|_| FeedError::TimedOut(CONNECT_TIMEOUT))??,
        };
        let done = tokio::time::timeout(STATEMENT_TIMEOUT, work(&mut connection))
            .await
            .map_err(|_| FeedError::TimedOut(STATEMENT_TIMEOUT))?;
        match done {
            Ok(value) => {
                self.connection = Some(connection);
                Ok(value)
            }
            Err(error) => {
                if matches!(error, sqlx::Error::Database(_)) && connection.ping().await.is_ok() {
                    self.connection = Some(connection);
                }
                Err(error.into())
            }
        }
    }
}

/// A batch, column by column.
#[derive(Default)]
struct Columns<'a> {
    tenant: Vec<Uuid>,
    id: Vec<Uuid>,
    request: Vec<Uuid>,
    trace: Vec<Option<Uuid>>,
    agent: Vec<Option<Uuid>>,
    credential: Vec<Option<Uuid>>,
    caller_kind: Vec<&'static str>,
    kind: Vec<&'static str>,
    server: Vec<Uuid>,
    server_slug: Vec<&'a str>,
    tool: Vec<Cow<'a, str>>,
    started_at: Vec<i64>,
    arguments: Vec<Option<Cow<'a, str>>>,
    digest: Vec<&'a [u8]>,
    argument_bytes: Vec<i64>,
    running_on: Vec<Option<Uuid>>,
    outcome: Vec<&'static str>,
    duration_us: Vec<Option<i64>>,
    queue_us: Vec<Option<i64>>,
    upstream_us: Vec<Option<i64>>,
    attempts: Vec<Option<i16>>,
    result_bytes: Vec<Option<i64>>,
    tokens_in: Vec<Option<i64>>,
    tokens_out: Vec<Option<i64>>,
    tokens_estimated: Vec<Option<bool>>,
    error_code: Vec<Option<Cow<'a, str>>>,
    error_message: Vec<Option<Cow<'a, str>>>,
    error_rule: Vec<Option<Cow<'a, str>>>,
}

impl<'a> Columns<'a> {
    fn of(rows: &[Row<'a>], replica: Uuid) -> Self {
        let mut columns = Self::default();
        for row in rows {
            columns.push(row, replica);
        }
        columns
    }

    fn push(&mut self, row: &Row<'a>, replica: Uuid) {
        let begin = row.begin;
        let finish = row.state.finish();
        let error = finish.and_then(|finish| finish.error.as_deref());
        self.tenant.push(begin.tenant.0);
        self.id.push(begin.id.0);
        self.request.push(begin.request.0);
        self.trace.push(begin.trace_id.map(Uuid::from_bytes));
        self.agent.push(begin.agent.map(|id| id.0));
        self.credential.push(begin.credential.map(|id| id.0));
        self.caller_kind.push(begin.caller_kind.as_str());
        self.kind.push(begin.kind.as_str());
        self.server.push(begin.server.0);
        self.server_slug.push(&begin.server_slug);
        self.tool.push(text(&begin.tool));
        self.started_at.push(begin.started_at.as_microsecond());
        self.arguments.push(begin.arguments.as_deref().map(text));
        self.digest.push(&begin.digest);
        self.argument_bytes.push(begin.argument_bytes.into());
        self.running_on.push(matches!(row.state, State::Running).then_some(replica));
        self.outcome.push(row.state.outcome().as_str());
        self.duration_us.push(finish.map(|finish| number(finish.duration_us)));
        self.queue_us.push(finish.map(|finish| number(finish.queue_us)));
        self.upstream_us.push(finish.map(|finish| number(finish.upstream_us)));
        self.attempts.push(finish.map(|finish| finish.attempts.into()));
        self.result_bytes.push(finish.map(|finish| number(finish.result_bytes)));
        let tokens = row.tokens();
        self.tokens_in.push(tokens.map(|(arguments, _, _)| arguments.into()));
        self.tokens_out.push(tokens.map(|(_, result, _)| result.into()));
        self.tokens_estimated.push(tokens.map(|(_, _, is_estimated)| is_estimated));
        self.error_code.push(error.map(|error| text(&error.code)));
        self.error_message.push(error.map(|error| text(&error.message)));
        self.error_rule.push(error.and_then(|error| error.rule.as_deref()).map(text));
    }

    /// Binds in the order of [`COLUMNS`].
    async fn execute(self, store: &str, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        sqlx::query(AssertSqlSafe(store.to_owned()))
            .bind(self.tenant)
            .bind(self.id)
            .bind(self.request)
            .bind(self.trace)
            .bind(self.agent)
            .bind(self.credential)
            .bind(self.caller_kind)
            .bind(self.kind)
            .bind(self.server)
            .bind(self.server_slug)
            .bind(self.tool)
            .bind(self.started_at)
            .bind(self.arguments)
            .bind(self.digest)
            .bind(self.argument_bytes)
            .bind(self.running_on)
            .bind(self.outcome)
            .bind(self.duration_us)
            .bind(self.queue_us)
            .bind(self.upstream_us)
            .bind(self.attempts)
            .bind(self.result_bytes)
            .bind(self.tokens_in)
            .bind(self.tokens_out)
            .bind(self.tokens_estimated)
            .bind(self.error_code)
            .bind(self.error_message)
            .bind(self.error_rule)
            .execute(connection)
            .await
            .map(drop)
    }
}

/// Replaces NUL, which PostgreSQL's text cannot hold.
fn text(text: &str) -> Cow<'_, str> {
    if memchr::memchr(0, text.as_bytes()).is_some() {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}
