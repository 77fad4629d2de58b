//! The database behind the tools: PostgreSQL or SQLite.

use std::path::PathBuf;

use serde_json::Value;

use super::DatabaseSettings;
use crate::sql::catalog::{Selection, Table, TableEntry};
use crate::sql::postgres::{Postgres, PostgresSettings};
use crate::sql::sqlite::{Limits, SqliteFile};
use crate::sql::{Bounds, Kind, ResultSet, SqlError};

pub enum Source {
    Postgres(Box<Postgres>),
    Sqlite(SqliteFile),
}

impl Source {
    /// # Errors
    /// The setting that is wrong, without the address, which may have a password.
    pub fn new(url: &str, settings: &DatabaseSettings) -> Result<Self, String> {
        if let Some(file) = sqlite_file(url) {
            if file.is_empty() || file.contains('?') {
                return Err("the address of a SQLite database is sqlite://FILE, without options".to_owned());
            }
            if !settings.schemas.is_empty() {
                return Err(
                    "schemas can be chosen for PostgreSQL only; a SQLite database has none".to_owned()
                );
            }
            let limits = Limits { value_bytes: settings.most_bytes, ..Limits::default() };
            return Ok(Self::Sqlite(SqliteFile::new(PathBuf::from(file), limits)));
        }
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err("the address of the database must begin with postgres:// or sqlite://".to_owned());
        }
        let settings = PostgresSettings {
            schemas: settings.schemas.clone(),
            allow_unsafe_role: settings.allow_unsafe_role,
            ..PostgresSettings::new(url)
        };
        Ok(Self::Postgres(Box::new(Postgres::new(settings)?)))
    }

    /// Checks that statements can be run, and that they can only read. Returns warnings.
    pub async fn check(&self, bounds: &Bounds) -> Result<Vec<String>, SqlError> {
        match self {
            Self::Postgres(postgres) => postgres.check(bounds).await,
            Self::Sqlite(file) => file.with(bounds, |guarded, _| guarded.probe()).await.map(|()| Vec::new()),
        }
    }

    /// Reads a statement without running it. Returns the number of its parameters.
    pub async fn places(&self, sql: &str, bounds: &Bounds) -> Result<usize, SqlError> {
        match self {
            Self::Postgres(postgres) => postgres.prepare(sql, bounds).await,
            Self::Sqlite(file) => {
                let sql = sql.to_owned();
                file.with(bounds, move |guarded, bounds| guarded.prepare(&sql, bounds)).await
            }
        }
    }

    pub async fn query(
        &self,
        sql: String,
        params: Vec<Value>,
        bounds: &Bounds,
    ) -> Result<ResultSet, SqlError> {
        match self {
            Self::Postgres(postgres) => postgres.query(&sql, &params, bounds).await,
            Self::Sqlite(file) => {
                file.with(bounds, move |guarded, bounds| guarded.query(&sql, &params, bounds)).await
            }
        }
    }

    pub async fn tables(&self, of: Selection, bounds: &Bounds) -> Result<(Vec<TableEntry>, bool), SqlError> {
        match self {
            Self::Postgres(postgres) => postgres.tables(&of, bounds).await,
            Self::Sqlite(file) => {
                without_schema(&of)?;
                file.with(bounds, move |guarded, bounds| guarded.tables(&of, bounds)).await
            }
        }
    }

    pub async fn described(&self, of: Selection, bounds: &Bounds) -> Result<(Vec<Table>, bool), SqlError> {
        match self {
            Self::Postgres(postgres) => postgres.described(&of, bounds).await,
            Self::Sqlite(file) => {
                without_schema(&of)?;
                file.with(bounds, move |guarded, bounds| guarded.described(&of, bounds)).await
            }
        }
    }
}

/// Returns the path of an address of SQLite.
pub fn sqlite_file(url: &str) -> Option<&str> {
    url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:"))
}

fn without_schema(of: &Selection) -> Result<(), SqlError> {
    match of.schema.as_deref() {
        None | Some("main") => Ok(()),
        Some(_) => {
            Err(SqlError::new(Kind::Invalid, "`schema` is wrong here: a SQLite database has only `main`")
                .hint("leave `schema` out"))
        }
    }
}
