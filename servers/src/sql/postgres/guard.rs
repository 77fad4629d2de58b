//! Guard of one statement on a PostgreSQL connection: a transaction that is read only, a cursor that takes
//! nothing but a query, and a rollback that leaves nothing of the session behind.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool::managed::Object;
use futures_util::TryStreamExt;
use futures_util::future::join;
use serde_json::Value;
use tokio::time::timeout_at;
use tokio_postgres::types::ToSql;
use tokio_postgres::{SimpleQueryMessage, Statement};

use super::connect::Connector;
use super::{Connection, errors, parameters, values};
use crate::sql::{Bounds, Column, Kind, ResultSet, SqlError};

/// Extra time for the server, which keeps the deadline itself, before the connection is given up.
const GRACE: Duration = Duration::from_millis(500);

/// Ends the transaction and clears the session: `DISCARD ALL`, without the driver's own prepared statements.
const END: &str = "ROLLBACK; CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; \
                   SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES";

/// Goes before the statement of a caller. PostgreSQL takes a query there and no other statement, and one only.
const CURSOR: &str = "DECLARE trunkline NO SCROLL CURSOR FOR ";

/// Goes before a statement whose plan is wanted. After it `ANALYZE`, which would run the statement, is a mistake.
const EXPLAIN: &str = "EXPLAIN (FORMAT JSON) ";

/// A connection for one transaction. It goes back to the pool only when the transaction was ended in order.
pub struct Session {
    connection: Option<Connection>,
    connector: Arc<Connector>,
    until: Instant,
}

impl Session {
    pub fn new(connection: Connection, connector: Arc<Connector>, deadline: Instant) -> Self {
        Self { connection: Some(connection), connector, until: deadline + GRACE }
    }

    /// Runs a query of a caller.
    pub async fn query(
        &mut self,
        sql: &str,
        params: &[Value],
        schemas: &[String],
        bounds: &Bounds,
    ) -> Result<ResultSet, SqlError> {
        let statement = self.begin(sql, schemas, bounds).await?;
        let parameters = parameters::read(params, statement.params())?;
        let typed = typed(&parameters, &statement);
        let types: Vec<_> = statement.columns().iter().map(|column| column.type_().clone()).collect();
        let columns = statement.columns().iter();
        let mut result = ResultSet::new(columns.map(column).collect());
        let declare = format!("{CURSOR}{sql}");
        let fetch = format!("FETCH FORWARD {} FROM trunkline", bounds.rows.saturating_add(1));
        let is_whole = self
            .within(async |client| {
                // Both are sent at once, in this order; without the cursor nothing can be fetched.
                let cursor = client.execute_typed(&declare, &typed);
                let (declared, rows) = join(cursor, client.simple_query_raw(&fetch)).await;
                match declared {
                    Err(error) if error.as_db_error().is_some() => return Ok(Err(no_cursor(&error))),
                    declared => declared?,
                };
                let mut rows = pin!(rows?);
                while let Some(message) = rows.try_next().await? {
                    let SimpleQueryMessage::Row(row) = message else { continue };
                    let value = |(index, of)| -> Result<_, tokio_postgres::Error> {
                        Ok(row.try_get(index)?.map_or(Value::Null, |text| values::json(text, of)))
                    };
                    let row = types.iter().enumerate().map(value).collect::<Result<_, _>>()?;
                    match result.push(row, bounds) {
                        Ok(true) => {}
                        // The one row too many is the last of the stream.
                        Ok(false) if result.rows.len() == bounds.rows => {}
                        other => return Ok(other),
                    }
                }
                Ok(Ok(true))
            })
            .await??;
        if !is_whole {
            // What is still on its way is not worth waiting for.
            self.give_up();
        }
        Ok(result)
    }

    /// Returns the plan of a query of a caller.
    pub async fn explain(
        &mut self,
        sql: &str,
        params: &[Value],
        schemas: &[String],
        bounds: &Bounds,
    ) -> Result<Value, SqlError> {
        let statement = self.begin(sql, schemas, bounds).await?;
        let parameters = parameters::read(params, statement.params())?;
        let typed = typed(&parameters, &statement);
        // The cursor refuses everything that is no query, before the plan is made.
        let declare = format!("{CURSOR}{sql}");
        self.within(async |client| match client.execute_typed(&declare, &typed).await {
            Err(error) if error.as_db_error().is_some() => Ok(Err(no_cursor(&error))),
            declared => declared.map(Ok),
        })
        .await??;
        let explained = format!("{EXPLAIN}{sql}");
        let rows = self.within(async |client| client.query_typed(&explained, &typed).await);
        let rows = rows.await.map_err(|error| shifted(error, EXPLAIN))?;
        let plan = rows.first().map(|row| row.try_get::<_, Plan>(0)).transpose();
        let plan = plan.map_err(|error| errors::read(&error))?;
        Ok(plan.map_or(Value::Null, |Plan(text)| crate::sql::json::document(&text)))
    }

    /// Reads a query of a caller. Returns the number of its parameters.
    pub async fn prepare(
        &mut self,
        sql: &str,
        schemas: &[String],
        bounds: &Bounds,
    ) -> Result<usize, SqlError> {
        Ok(self.begin(sql, schemas, bounds).await?.params().len())
    }

    /// Runs a constant query. Returns the rows as texts.
    pub async fn constant(&mut self, sql: &str, bounds: &Bounds) -> Result<Vec<Vec<String>>, SqlError> {
        let begin = begin(&[], bounds);
        let messages = self.within(async |client| {
            client.batch_execute(&begin).await?;
            client.simple_query(sql).await
        });
        let row = |message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|index| row.get(index).unwrap_or_default().to_owned()).collect())
            }
            _ => None,
        };
        Ok(messages.await?.into_iter().filter_map(row).collect())
    }

    /// Ends the transaction after a statement; the connection goes back to the pool if it is still of use.
    ///
    /// # Errors
    /// That of the statement.
    pub async fn end_after<T>(mut self, result: Result<T, SqlError>) -> Result<T, SqlError> {
        // The server ends a statement in time; the end of the transaction has its own second.
        self.until = self.until.max(Instant::now() + Duration::from_secs(1));
        if self.connection.is_some()
            && self.within(async |client| client.batch_execute(END).await).await.is_ok()
        {
            // It is clean, and goes back when it is dropped here.
            self.connection.take();
        }
        result
    }

    /// Begins the transaction and prepares a statement, which runs nothing of it.
    async fn begin(&mut self, sql: &str, schemas: &[String], bounds: &Bounds) -> Result<Statement, SqlError> {
        let begin = begin(schemas, bounds);
        let statement = self
            .within(async |client| {
                // Both are sent at once, in this order.
                let (begun, statement) = join(client.batch_execute(&begin), client.prepare(sql)).await;
                begun.and(statement)
            })
            .await?;
        if statement.columns().is_empty() {
            return Err(SqlError::new(Kind::ReadOnly, "the statement returns no rows"));
        }
        Ok(statement)
    }

    /// Waits for the server within the time limit.
    async fn within<T>(
        &mut self,
        ask: impl AsyncFnOnce(&tokio_postgres::Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, SqlError> {
        let Some(connection) = &self.connection else {
            return Err(SqlError::new(Kind::Unavailable, "the connection to the database was given up"));
        };
        let answered = timeout_at(self.until.into(), ask(&connection.client)).await;
        let error = match answered {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) if error.as_db_error().is_some() => return Err(errors::read(&error)),
            Ok(Err(_)) if connection.has_overflown() => errors::too_long(),
            Ok(Err(error)) => errors::read(&error),
            Err(_) => SqlError::new(Kind::TimedOut, "the database did not answer in time"),
        };
        self.give_up();
        Err(error)
    }

    /// Takes the connection out of the pool, and asks the server to end what runs on it.
    fn give_up(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.connector.cancel_later(connection.client.cancel_token());
            drop(Object::take(connection));
        }
    }
}

/// A request that is given up leaves its statement running, so the connection is of no use.
impl Drop for Session {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// Returns the constant beginning of a transaction. After its `SELECT 1` the transaction cannot be made writable.
fn begin(schemas: &[String], bounds: &Bounds) -> String {
    let left = bounds.deadline.saturating_duration_since(Instant::now()).as_millis().max(1);
    let path = match schemas {
        [] => String::new(),
        schemas => {
            let names: Vec<_> = schemas.iter().map(|name| quoted_name(name)).collect();
            format!("SET LOCAL search_path = {}; ", names.join(", "))
        }
    };
    format!(
        "BEGIN READ ONLY; SET LOCAL statement_timeout = {left}; SET LOCAL lock_timeout = 2000; \
         SET LOCAL idle_in_transaction_session_timeout = {}; SET LOCAL client_min_messages = error; \
         SET LOCAL datestyle = iso; SET LOCAL bytea_output = hex; SET LOCAL extra_float_digits = 1; {path}SELECT 1",
        left + GRACE.as_millis() * 2,
    )
}

/// Returns a name as SQL has it.
pub fn quoted_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn column(column: &tokio_postgres::Column) -> Column {
    Column { name: column.name().to_owned(), r#type: Some(column.type_().name().to_owned()) }
}

fn typed<'a>(
    parameters: &'a [parameters::Parameter],
    statement: &Statement,
) -> Vec<(&'a (dyn ToSql + Sync), tokio_postgres::types::Type)> {
    let parameters = parameters.iter().map(|parameter| parameter as &(dyn ToSql + Sync));
    parameters.zip(statement.params().iter().cloned()).collect()
}

/// Returns the error of a statement for which there is no cursor.
fn no_cursor(error: &tokio_postgres::Error) -> SqlError {
    let error = errors::read(error);
    match error.sql_state.as_deref() {
        // It can be prepared, but is no query; or its WITH has a statement that writes.
        Some("42601" | "0A000") => SqlError {
            kind: Kind::ReadOnly,
            message: "only SELECT, VALUES, TABLE and WITH … SELECT can be run".to_owned(),
            position: None,
            ..error
        },
        _ => shifted(error, CURSOR),
    }
}

/// Returns an error whose position counts from the caller's own text.
fn shifted(mut error: SqlError, prefix: &str) -> SqlError {
    let prefix = prefix.chars().count() as u32;
    error.position = error.position.and_then(|position| position.checked_sub(prefix)).filter(|at| *at > 0);
    error
}

/// A plan in its JSON text.
struct Plan(String);

impl<'a> tokio_postgres::types::FromSql<'a> for Plan {
    fn from_sql(
        _: &tokio_postgres::types::Type,
        raw: &'a [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Plan(String::from_utf8(raw.to_vec())?))
    }

    fn accepts(_: &tokio_postgres::types::Type) -> bool {
        true
    }
}
