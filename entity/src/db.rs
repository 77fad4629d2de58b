//! The database: a handle that opens the two doors to rows, a tenant's and the operator's.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use protocol::TenantId;
use sea_orm::DatabaseConnection;

use crate::error::DbError;
use crate::scope::{OperatorScope, TenantScope};
use crate::seal::Seal;
use crate::tenant::Tenant;

/// The tenant of callers who name none.
pub const DEFAULT_TENANT: &str = "default";

#[derive(Clone)]
pub struct DatabaseSettings {
    /// `sqlite:<path>`, or `postgres://…` where `sslmode` and `sslrootcert` are honoured.
    pub url: String,
    pub pool_min: u32,
    pub pool_max: u32,
    pub idle_timeout: Duration,
    /// How long one statement may take (PostgreSQL), and how long to wait for a connection.
    pub query_timeout: Duration,
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

#[allow(dead_code)]
struct Inner {
    backend: Backend,
    reader: DatabaseConnection,
    writer: DatabaseConnection,
    sqlite_path: Option<PathBuf>,
}

#[allow(dead_code)]
impl Db {
    pub async fn connect(_settings: &DatabaseSettings, _seal: Seal) -> Result<Db, DbError> {
        todo!()
    }

    /// Brings the schema to this program's version; safe when several replicas start at once.
    pub async fn migrate(&self) -> Result<(), DbError> {
        todo!()
    }

    /// The connection that writes, for `migration::Migrator` only. On SQLite there is one such
    /// connection, so whoever reads through it waits for writers.
    pub fn connection(&self) -> &DatabaseConnection {
        &self.inner.writer
    }

    pub fn backend(&self) -> Backend {
        self.inner.backend
    }

    pub async fn ping(&self) -> Result<(), DbError> {
        todo!()
    }

    /// The only door to a tenant's rows.
    pub fn tenant(&self, tenant: TenantId) -> TenantScope<'_> {
        TenantScope { db: self, tenant }
    }

    /// What belongs to the whole installation.
    pub fn operator(&self) -> OperatorScope<'_> {
        OperatorScope { db: self }
    }

    /// A number that grows with every change of a row that caches hold.
    pub async fn change_count(&self) -> Result<i64, DbError> {
        todo!()
    }

    /// The tenant `default`, made when it is not there.
    pub async fn ensure_default_tenant(&self) -> Result<Tenant, DbError> {
        todo!()
    }

    /// Seals every secret again with the current key of `new`, which must open what is there: give
    /// it the present key as a previous one. Answers how many rows changed; from then on this handle
    /// uses `new`.
    pub async fn reseal(&self, _new: &Seal) -> Result<u64, DbError> {
        todo!()
    }

    /// For reading outside a transaction.
    pub(crate) fn reader(&self) -> &DatabaseConnection {
        &self.inner.reader
    }

    /// The SQLite file, for the bulk feed of the record.
    pub(crate) fn sqlite_path(&self) -> Option<&Path> {
        self.inner.sqlite_path.as_deref()
    }

    /// The PostgreSQL pool, for the bulk feed of the record.
    pub(crate) fn postgres_pool(&self) -> Option<&sea_orm::sqlx::PgPool> {
        match self.inner.backend {
            Backend::Sqlite => None,
            Backend::Postgres => Some(self.inner.writer.get_postgres_connection_pool()),
        }
    }
}
