//! Database connection pools for SQLite and PostgreSQL, and the error messages of a failed connection.
//! Knows no tables. No error contains a password of the URL.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sea_orm::sqlx::{self, ConnectOptions, Connection, SqlitePool};
use sea_orm::{DatabaseConnection, SqlxPostgresConnector, SqlxSqliteConnector};

use crate::db::{Backend, DatabaseSettings};
use crate::error::{DbError, from_sqlx};

/// Longest wait for a row that another transaction holds.
pub(crate) const LOCK_WAIT: Duration = Duration::from_secs(2);

/// Time that SQLite waits for another process's write.
const BUSY: Duration = Duration::from_secs(5);
/// Pause before another attempt to open a busy file.
const AGAIN: Duration = Duration::from_millis(10);
/// Read connections of SQLite: each is a thread with a page cache.
const SQLITE_READERS: u32 = 4;
/// Longest wait for a connection; a caller has given up by then.
const ACQUIRE: Duration = Duration::from_secs(5);

/// Pools of an open database. On PostgreSQL both are the same.
pub(crate) struct Opened {
    pub backend: Backend,
    pub reader: DatabaseConnection,
    pub writer: DatabaseConnection,
    pub sqlite_path: Option<PathBuf>,
}

pub(crate) async fn open(settings: &DatabaseSettings) -> Result<Opened, DbError> {
    let url = settings.url.as_str();
    if let Some(path) = url.strip_prefix("sqlite:") {
        open_sqlite(sqlite_path(path)?, settings).await
    } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        open_postgres(url, settings).await
    } else {
        Err(DbError::Invalid("a database URL begins with `sqlite:` or `postgres://`".to_owned()))
    }
}

/// Returns the path after `sqlite:`, with or without `//`. Decodes nothing, so any path works.
fn sqlite_path(text: &str) -> Result<PathBuf, DbError> {
    let text = text.strip_prefix("//").unwrap_or(text);
    let text = text.strip_suffix("?mode=rwc").unwrap_or(text);
    if text.is_empty() || text == ":memory:" {
        return Err(DbError::Invalid("a SQLite database is a file: `sqlite:<path>`".to_owned()));
    }
    Ok(PathBuf::from(text))
}

/// Opens one connection for writes, so that two tasks of this process never wait for each other's lock
/// inside SQLite, and a few for reads beside it (write-ahead log).
async fn open_sqlite(path: PathBuf, settings: &DatabaseSettings) -> Result<Opened, DbError> {
    create_private_file(&path)?;
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .busy_timeout(BUSY)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .pragma("cache_size", "-512")
        .pragma("journal_size_limit", "16777216")
        .statement_cache_capacity(64)
        .disable_statement_logging();
    let at = |error: sqlx::Error| at_file(&path, error);
    let acquire = settings.query_timeout.min(ACQUIRE).max(Duration::from_millis(100));
    let writer = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(acquire.max(BUSY))
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false);
    let started = Instant::now();
    let writer = loop {
        match writer.clone().connect_with(options.clone()).await {
            // SQLite refuses all but one of several connections that switch a new file to write-ahead
            // logging at once, without letting them wait.
            Err(error) if is_busy(&error) && started.elapsed() < BUSY => {
                tokio::time::sleep(AGAIN).await;
            }
            opened => break opened.map_err(at)?,
        }
    };
    // Opening reads nothing: the first query detects a damaged file.
    sqlx::query("SELECT count(*) FROM sqlite_master").execute(&writer).await.map_err(at)?;
    let reader: SqlitePool = SqlitePoolOptions::new()
        .max_connections(settings.pool_max.clamp(1, SQLITE_READERS))
        .acquire_timeout(acquire)
        .idle_timeout(settings.idle_timeout)
        .test_before_acquire(false)
        .connect_lazy_with(options.pragma("query_only", "on"));
    Ok(Opened {
        backend: Backend::Sqlite,
        reader: SqlxSqliteConnector::from_sqlx_sqlite_pool(reader),
        writer: SqlxSqliteConnector::from_sqlx_sqlite_pool(writer),
        sqlite_path: Some(path),
    })
}

/// Recognises SQLite's code 5, in the low byte of the extended codes.
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code.parse::<u32>().is_ok_and(|code| code & 0xff == 5))
}

/// Creates the file for its owner only; SQLite gives the log beside the file the same mode.
fn create_private_file(path: &Path) -> Result<(), DbError> {
    let mut options = std::fs::OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop).map_err(|error| {
        DbError::Unavailable(format!("cannot open the SQLite file {}: {error}", path.display()))
    })
}

fn at_file(path: &Path, error: sqlx::Error) -> DbError {
    let file = path.display();
    match from_sqlx(&error) {
        DbError::Corrupt(text) => DbError::Corrupt(format!("{file} is not a sound SQLite database: {text}")),
        other => DbError::Unavailable(format!("cannot open the SQLite file {file}: {}", other.detail())),
    }
}

async fn open_postgres(url: &str, settings: &DatabaseSettings) -> Result<Opened, DbError> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|_| DbError::Invalid("the PostgreSQL URL cannot be read".to_owned()))?
        .application_name("trunkline")
        .statement_cache_capacity(128)
        .disable_statement_logging();
    let acquire = settings.query_timeout.min(ACQUIRE).max(Duration::from_millis(100));
    // The pool would retry until the time is up and then report only a timeout; one plain connection
    // reports the cause.
    let first = tokio::time::timeout(acquire, PgConnection::connect_with(&options));
    let place = format!("{}:{}", options.get_host(), options.get_port());
    match first.await {
        Ok(Ok(connection)) => drop(connection.close().await),
        Ok(Err(error)) => {
            return Err(DbError::Unavailable(format!("cannot use PostgreSQL at {place}: {error}")));
        }
        Err(_) => {
            let wait = acquire.as_secs_f32();
            return Err(DbError::Unavailable(format!(
                "PostgreSQL at {place} did not answer within {wait} s"
            )));
        }
    }
    // Whoever waits for a row keeps a connection meanwhile.
    let limit = format!(
        "SET statement_timeout = {}; SET lock_timeout = {}",
        settings.query_timeout.as_millis().clamp(1, i32::MAX as u128),
        LOCK_WAIT.as_millis()
    );
    let pool = PgPoolOptions::new()
        .min_connections(settings.pool_min.min(settings.pool_max.max(1)))
        .max_connections(settings.pool_max.max(1))
        .idle_timeout(settings.idle_timeout)
        .acquire_timeout(acquire)
        .after_connect(move |connection, _| {
            let limit = sqlx::AssertSqlSafe(limit.clone());
            Box::pin(async move { sqlx::raw_sql(limit).execute(connection).await.map(drop) })
        })
        .connect_lazy_with(options);
    let connection = SqlxPostgresConnector::from_sqlx_postgres_pool(pool);
    Ok(Opened {
        backend: Backend::Postgres,
        reader: connection.clone(),
        writer: connection,
        sqlite_path: None,
    })
}
