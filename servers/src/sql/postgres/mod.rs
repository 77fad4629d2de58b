//! PostgreSQL for statements of callers: a role that cannot write, checked before the first statement, and for
//! each statement a transaction that is read only and always rolled back.

mod address;
mod catalog;
mod connect;
mod errors;
mod guard;
mod parameters;
mod role;
mod stream;
mod values;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool::managed::Pool;
use serde_json::Value;
use tokio::time::timeout_at;

use self::connect::{Connector, Pooled};
use super::{Bounds, Kind, ResultSet, SqlError};

pub use self::role::role_sql;

/// Settings of one database.
#[derive(Clone)]
pub struct PostgresSettings {
    /// Address with the role and its password.
    pub url: String,
    /// Schemas that may be read; none for all that the role may read.
    pub schemas: Vec<String>,
    /// Connections that stay open, and the most.
    pub pool_min: usize,
    pub pool_max: usize,
    /// Longest wait for a free connection.
    pub acquire_timeout: Duration,
    /// Accepts a role that can write. Only the transaction stands between a statement and the data then.
    pub allow_unsafe_role: bool,
}

impl PostgresSettings {
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            schemas: Vec::new(),
            pool_min: 2,
            pool_max: 10,
            acquire_timeout: Duration::from_secs(5),
            allow_unsafe_role: false,
        }
    }
}

/// A database behind its pool of connections.
pub struct Postgres {
    connector: Arc<Connector>,
    pool: Pool<Pooled>,
    settings: PostgresSettings,
    /// Result of the last check of the role.
    is_checked: AtomicBool,
}

/// Figures of a pool.
#[derive(Clone, Copy, Debug)]
pub struct PoolFigures {
    pub open: usize,
    pub idle: usize,
    pub waiting: usize,
    pub most: usize,
}

impl Postgres {
    /// Prepares a pool; nothing is connected yet.
    ///
    /// # Errors
    /// The setting that is wrong.
    pub fn new(settings: PostgresSettings) -> Result<Self, String> {
        let address = address::Address::read(&settings.url)?;
        let connector = Arc::new(Connector::new(address)?);
        let pool = Pool::builder(Pooled(Arc::clone(&connector)))
            .max_size(settings.pool_max.max(1))
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { connector, pool, settings, is_checked: AtomicBool::new(false) })
    }

    /// Opens the least number of connections and checks the role.
    ///
    /// # Errors
    /// A database that does not answer, and every reason why its role is refused.
    pub async fn check(&self, bounds: &Bounds) -> Result<Vec<String>, SqlError> {
        let checked = self.find_risks(bounds).await;
        self.is_checked.store(checked.is_ok(), Ordering::Release);
        let warnings = checked?;
        let mut open = Vec::new();
        for _ in self.pool.status().size..self.settings.pool_min.min(self.settings.pool_max) {
            open.push(self.connection(bounds).await?);
        }
        Ok(warnings)
    }

    async fn find_risks(&self, bounds: &Bounds) -> Result<Vec<String>, SqlError> {
        let mut session = self.session(bounds).await?;
        let risks = role::find(&mut session, &self.settings.schemas, bounds).await;
        let risks = session.end_after(risks).await?;
        if risks.refused.is_empty() || self.settings.allow_unsafe_role {
            return Ok(risks.refused.into_iter().chain(risks.warned).collect());
        }
        let message = format!(
            "the role `{}` is not safe for statements of agents: {}",
            self.connector.address().user(),
            risks.refused.join("; ")
        );
        Err(SqlError::new(Kind::NotConfigured, message).hint(
            "make a role that can only read: `trunkline server database --print-role-sql` prints the SQL for it",
        ))
    }

    /// Runs one statement with bound parameters, `$1` for the first.
    ///
    /// # Errors
    /// The mistake of the statement or its parameters, the action that is refused, or the bound that was met.
    pub async fn query(&self, sql: &str, params: &[Value], bounds: &Bounds) -> Result<ResultSet, SqlError> {
        super::check_text(sql)?;
        self.ensure_checked(bounds).await?;
        let mut session = self.session(bounds).await?;
        let result = session.query(sql, params, &self.settings.schemas, bounds).await;
        session.end_after(result).await
    }

    /// Returns the plan of a statement, which is not run.
    ///
    /// # Errors
    /// As for [`Postgres::query`].
    pub async fn explain(&self, sql: &str, params: &[Value], bounds: &Bounds) -> Result<Value, SqlError> {
        super::check_text(sql)?;
        self.ensure_checked(bounds).await?;
        let mut session = self.session(bounds).await?;
        let result = session.explain(sql, params, &self.settings.schemas, bounds).await;
        session.end_after(result).await
    }

    /// Reads a statement without running it. Returns the number of its parameters.
    ///
    /// # Errors
    /// The mistake of the statement.
    pub async fn prepare(&self, sql: &str, bounds: &Bounds) -> Result<usize, SqlError> {
        super::check_text(sql)?;
        let mut session = self.session(bounds).await?;
        let result = session.prepare(sql, &self.settings.schemas, bounds).await;
        session.end_after(result).await
    }

    pub fn figures(&self) -> PoolFigures {
        let status = self.pool.status();
        PoolFigures {
            open: status.size,
            idle: status.available,
            waiting: status.waiting,
            most: status.max_size,
        }
    }

    /// Returns the names of the role and of the database.
    pub fn names(&self) -> (&str, &str) {
        let address = self.connector.address();
        (address.user(), address.database())
    }

    pub fn schemas(&self) -> &[String] {
        &self.settings.schemas
    }

    async fn ensure_checked(&self, bounds: &Bounds) -> Result<(), SqlError> {
        if !self.is_checked.load(Ordering::Acquire) {
            self.check(bounds).await?;
        }
        Ok(())
    }

    async fn session(&self, bounds: &Bounds) -> Result<guard::Session, SqlError> {
        Ok(guard::Session::new(self.connection(bounds).await?, Arc::clone(&self.connector), bounds.deadline))
    }

    async fn connection(&self, bounds: &Bounds) -> Result<deadpool::managed::Object<Pooled>, SqlError> {
        let until = bounds.deadline.min(std::time::Instant::now() + self.settings.acquire_timeout);
        match timeout_at(until.into(), self.pool.get()).await {
            Ok(Ok(client)) => Ok(client),
            Ok(Err(deadpool::managed::PoolError::Backend(error))) => Err(error),
            Ok(Err(error)) => Err(SqlError::new(Kind::Unavailable, error.to_string())),
            Err(_) => {
                let message = format!("all {} connections to the database are busy", self.settings.pool_max);
                Err(SqlError::new(Kind::Unavailable, message))
            }
        }
    }
}

/// Returns the name of the database of an address.
///
/// # Errors
/// The part of the address that cannot be read or used.
pub fn database_name(url: &str) -> Result<String, String> {
    address::Address::read(url).map(|address| address.database().to_owned())
}

/// A pooled connection.
type Connection = deadpool::managed::Object<Pooled>;
