//! Database errors. The message of a variant may be shown to a client; the string inside `Unavailable` and
//! `Corrupt` is for the operator.

use protocol::{Code, Refusal};
use sea_orm::{DbErr, RuntimeErr, SqlErr, SqlxError};

use crate::seal::SealError;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DbError {
    /// No such row, or a row of another tenant: a caller cannot distinguish the two.
    #[error("there is no such thing here")]
    NotFound,
    #[error("the slug `{slug}` is taken")]
    SlugTaken { slug: String },
    /// A duplicate of something that can exist only once, or a row still needed; the message names it.
    #[error("{0}")]
    Conflict(String),
    #[error("the row has changed since the given revision")]
    RevisionMismatch,
    #[error("the server is kept in step with the gateway's own configuration and changes there")]
    ManagedByConfig,
    /// A tenant's attempt to change a global server, which a tenant may only use.
    #[error("the server is global: only the operator can change it")]
    OperatorOnly,
    /// A value that no row can hold; the message names the value.
    #[error("{0}")]
    Invalid(String),
    /// A sealed value that could not be opened, or a row that could not be sealed again.
    #[error("a sealed value could not be opened")]
    Sealed(#[from] SealError),
    /// A row, or a turn, that something else has held for longer than a caller waits.
    #[error("something else holds what this needs in the database: try again in a moment")]
    Busy,
    /// A database out of reach, busy beyond the time allowed, or refusing the connection.
    #[error("the database is unavailable")]
    Unavailable(String),
    /// Unexpected content of the database.
    #[error("the database holds something unexpected")]
    Corrupt(String),
}
impl DbError {
    /// Returns the message for the operator, with the cause.
    pub fn detail(&self) -> String {
        match self {
            DbError::Unavailable(detail) | DbError::Corrupt(detail) => format!("{self}: {detail}"),
            DbError::Sealed(error) => format!("{self}: {error}"),
            DbError::NotFound
            | DbError::SlugTaken { .. }
            | DbError::Conflict(_)
            | DbError::RevisionMismatch
            | DbError::ManagedByConfig
            | DbError::OperatorOnly
            | DbError::Busy
            | DbError::Invalid(_) => self.to_string(),
        }
    }

    /// Returns the refusal for a caller.
    pub fn refusal(&self) -> Refusal {
        let code = match self {
            DbError::NotFound => Code::NotFound,
            DbError::SlugTaken { .. } => Code::SlugTaken,
            DbError::Conflict(_) | DbError::Busy => Code::Conflict,
            DbError::RevisionMismatch => Code::PreconditionFailed,
            DbError::ManagedByConfig => Code::ManagedByConfig,
            DbError::OperatorOnly => Code::MissingScope,
            DbError::Invalid(_) => Code::ValidationFailed,
            DbError::Unavailable(_) => Code::DatabaseUnavailable,
            DbError::Sealed(_) | DbError::Corrupt(_) => Code::Internal,
        };
        Refusal::new(code, self.to_string())
    }
}

impl From<DbErr> for DbError {
    fn from(error: DbErr) -> Self {
        match &error {
            DbErr::RecordNotFound(_) | DbErr::RecordNotUpdated => DbError::NotFound,
            DbErr::Type(_) | DbErr::Json(_) | DbErr::TryIntoErr { .. } => DbError::Corrupt(error.to_string()),
            DbErr::Conn(RuntimeErr::SqlxError(source))
            | DbErr::Exec(RuntimeErr::SqlxError(source))
            | DbErr::Query(RuntimeErr::SqlxError(source)) => from_sqlx(source),
            other => DbError::Unavailable(other.to_string()),
        }
    }
}

/// Classifies an error of the driver.
pub(crate) fn from_sqlx(error: &SqlxError) -> DbError {
    match error {
        SqlxError::RowNotFound => DbError::NotFound,
        SqlxError::ColumnDecode { .. } | SqlxError::Decode(_) | SqlxError::ColumnNotFound(_) => {
            DbError::Corrupt(error.to_string())
        }
        SqlxError::Database(database) => {
            let (code, message) = (database.code().unwrap_or_default(), database.message().to_owned());
            match &*code {
                "22021" | "22P05" => {
                    DbError::Invalid("a text holds a character that the database refuses".to_owned())
                }
                "55P03" => DbError::Busy,
                "XX001" | "XX002" => DbError::Corrupt(message),
                code if is_damaged_file(code) => DbError::Corrupt(message),
                _ => DbError::Unavailable(message),
            }
        }
        other => DbError::Unavailable(other.to_string()),
    }
}

/// Recognises SQLite's codes 11 (a damaged file) and 26 (no database at all), in the low byte of the
/// extended codes. PostgreSQL's codes have five characters, SQLite's fewer.
fn is_damaged_file(code: &str) -> bool {
    code.len() < 5 && code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 11 | 26))
}

/// Returns whether a unique index refused the row.
pub(crate) fn is_unique_violation(error: &DbErr) -> bool {
    matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_)))
}
