//! Database handle with two scopes of rows: a tenant's and the operator's.

use std::fmt;
use std::hash::Hash;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use migration::{Migrator, MigratorTrait};
use parking_lot::RwLock;
use protocol::TenantId;
use sea_orm::{ConnectionTrait, DatabaseConnection};
use tokio::sync::OwnedMutexGuard;

use crate::actor::Actor;
use crate::change;
use crate::connect::{self, LOCK_WAIT, Opened};
use crate::error::DbError;
use crate::scope::{OperatorScope, TenantScope};
use crate::seal::Seal;
use crate::tenant::{NewTenant, Tenant};
use crate::turns::Turns;

/// Slug of the tenant of callers who name none.
pub const DEFAULT_TENANT: &str = "default";

const PING: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub struct DatabaseSettings {
    /// `sqlite:<path>`, or `postgres://…` where `sslmode` and `sslrootcert` are honoured.
    pub url: String,
    pub pool_min: u32,
    pub pool_max: u32,
    pub idle_timeout: Duration,
    /// Time limit of one statement (PostgreSQL), and of the wait for a connection.
    pub query_timeout: Duration,
}

/// Leaves out the URL, which may hold a password.
impl fmt::Debug for DatabaseSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseSettings")
            .field("pool_min", &self.pool_min)
            .field("pool_max", &self.pool_max)
            .field("idle_timeout", &self.idle_timeout)
            .field("query_timeout", &self.query_timeout)
            .finish_non_exhaustive()
    }
}

/// Numbers of database connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connections {
    pub open: u32,
    pub idle: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backend {
    Sqlite,
    Postgres,
}

/// The gateway's own database. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    inner: Arc<Inner>,
}

struct Inner {
    opened: Opened,
    seal: RwLock<Arc<Seal>>,
    follow: OnceLock<Follow>,
    turns: Turns,
}

type Follow = Box<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

impl Db {
    /// Opens the database; creates the SQLite file when there is none. The error is a sentence for the
    /// operator and comes within 5 s or `query_timeout`.
    pub async fn connect(settings: &DatabaseSettings, seal: Seal) -> Result<Db, DbError> {
        let opened = connect::open(settings).await?;
        let (seal, follow) = (RwLock::new(Arc::new(seal)), OnceLock::new());
        Ok(Db { inner: Arc::new(Inner { opened, seal, follow, turns: Turns::default() }) })
    }

    /// Brings the schema to this program's version: all steps in one transaction, one replica at a
    /// time.
    pub async fn migrate(&self) -> Result<(), DbError> {
        let tx = change::begin_alone(self).await?;
        if self.backend() == Backend::Postgres {
            tx.execute_unprepared("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0").await?;
        }
        Migrator::up(&tx, None).await?;
        Ok(tx.commit().await?)
    }

    /// Returns the write connection, for `migration::Migrator` only. SQLite has one such connection, so
    /// reads through it wait for writers.
    pub fn connection(&self) -> &DatabaseConnection {
        &self.inner.opened.writer
    }

    pub fn backend(&self) -> Backend {
        self.inner.opened.backend
    }

    /// Waits for the turn to change something, so that its changes in this process take one connection and not
    /// each one of their own while another program holds the row.
    pub(crate) async fn turn(&self, of: impl Hash) -> Result<OwnedMutexGuard<()>, DbError> {
        tokio::time::timeout(LOCK_WAIT, self.inner.turns.of(of)).await.map_err(|_| DbError::Busy)
    }

    /// Asks the database for an answer, at most 2 s.
    pub async fn ping(&self) -> Result<(), DbError> {
        match tokio::time::timeout(PING, self.reader().execute_unprepared("SELECT 1")).await {
            Ok(answer) => Ok(answer.map(drop)?),
            Err(_) => Err(DbError::Unavailable(format!("no answer within {} s", PING.as_secs()))),
        }
    }

    /// Returns the scope of a tenant's rows.
    pub fn tenant(&self, tenant: TenantId) -> TenantScope<'_> {
        TenantScope { db: self, tenant }
    }

    /// Returns the scope of the whole installation.
    pub fn operator(&self) -> OperatorScope<'_> {
        OperatorScope { db: self }
    }

    /// Registers `follow`, which is awaited after each change that this process commits and numbers. Only
    /// the first registration counts.
    pub fn on_change<F>(&self, follow: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.inner.follow.get_or_init(|| Box::new(move || Box::pin(follow())));
    }

    pub(crate) async fn follow_change(&self) {
        if let Some(follow) = self.inner.follow.get() {
            follow().await;
        }
    }

    /// Returns the tenant `default`, and creates the tenant when there is none.
    pub async fn ensure_default_tenant(&self) -> Result<Tenant, DbError> {
        let operator = self.operator();
        match operator.find_tenant_by_slug(DEFAULT_TENANT).await {
            Err(DbError::NotFound) => {}
            found => return found,
        }
        let id = TenantId::new();
        let new = NewTenant { slug: DEFAULT_TENANT.to_owned(), name: "Default".to_owned() };
        match operator.insert_tenant(id, new, &Actor::gateway(id)).await {
            // Another replica was quicker.
            Err(DbError::SlugTaken { .. }) => operator.find_tenant_by_slug(DEFAULT_TENANT).await,
            made => made,
        }
    }

    /// Closes all connections; later queries fail with `Unavailable`. SQLite folds its log into the file.
    pub async fn close(&self) {
        for connection in [&self.inner.opened.reader, &self.inner.opened.writer] {
            if let Err(error) = connection.close_by_ref().await {
                tracing::warn!(%error, "the database was not closed in order");
            }
        }
    }

    /// Returns the present numbers of connections.
    pub fn connections(&self) -> Connections {
        let (open, idle) = match self.backend() {
            Backend::Postgres => {
                let pool = self.writer().get_postgres_connection_pool();
                (pool.size(), pool.num_idle())
            }
            Backend::Sqlite => {
                let (reader, writer) = (self.reader(), self.writer());
                let (reader, writer) =
                    (reader.get_sqlite_connection_pool(), writer.get_sqlite_connection_pool());
                (reader.size() + writer.size(), reader.num_idle() + writer.num_idle())
            }
        };
        Connections { open, idle: u32::try_from(idle).unwrap_or(u32::MAX) }
    }

    /// Returns the connection for reads outside a transaction.
    pub(crate) fn reader(&self) -> &DatabaseConnection {
        &self.inner.opened.reader
    }

    /// Returns the connection for transactions that write.
    pub(crate) fn writer(&self) -> &DatabaseConnection {
        &self.inner.opened.writer
    }

    pub(crate) fn seal(&self) -> Arc<Seal> {
        self.inner.seal.read().clone()
    }

    pub(crate) fn use_seal(&self, seal: Seal) {
        *self.inner.seal.write() = Arc::new(seal);
    }

    /// Returns the SQLite file, for the bulk feed of the record.
    pub(crate) fn sqlite_path(&self) -> Option<&Path> {
        self.inner.opened.sqlite_path.as_deref()
    }

    /// Returns the PostgreSQL pool, for the bulk feed of the record.
    pub(crate) fn postgres_pool(&self) -> Option<&sea_orm::sqlx::PgPool> {
        match self.backend() {
            Backend::Sqlite => None,
            Backend::Postgres => Some(self.writer().get_postgres_connection_pool()),
        }
    }
}
