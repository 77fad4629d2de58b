//! Errors of the database. Two kinds of text: the sentence of a variant may be shown to a
//! client, the string inside `Unavailable` and `Corrupt` is for the operator.

use protocol::{Code, Refusal};
use sea_orm::{DbErr, RuntimeErr, SqlErr, SqlxError};

use crate::seal::SealError;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DbError {
    /// No such row, or one of another tenant: the two look alike.
    #[error("there is no such thing here")]
    NotFound,
    #[error("the slug `{slug}` is taken")]
    SlugTaken { slug: String },
    /// Something that can exist only once exists, or is still needed; the sentence says what.
    #[error("{0}")]
    Conflict(String),
    #[error("the row has changed since the given revision")]
    RevisionMismatch,
    #[error("the server is kept in step with the gateway's own configuration and changes there")]
    ManagedByConfig,
    /// A tenant may use a global server, and not change it.
    #[error("the server is global: only the operator can change it")]
    OperatorOnly,
    /// A value that no row can hold; the sentence says which.
    #[error("{0}")]
    Invalid(String),
    /// A sealed value could not be opened or the row could not be sealed again.
    #[error("a sealed value could not be opened")]
    Sealed(#[from] SealError),
    /// The database cannot be reached, is busy beyond the time allowed, or refuses us.
    #[error("the database is unavailable")]
    Unavailable(String),
    /// The database answers with what it should never hold.
    #[error("the database holds something unexpected")]
    Corrupt(String),
}
impl DbError {
    /// Returns the text for the operator: the sentence and its cause.
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
            | DbError::Invalid(_) => self.to_string(),
        }
    }

    /// The refusal that a caller gets.
    pub fn refusal(&self) -> Refusal {
        let code = match self {
            DbError::NotFound => Code::NotFound,
            DbError::SlugTaken { .. } => Code::SlugTaken,
            DbError::Conflict(_) => Code::Conflict,
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

/// Sorts what the driver says.
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
                "XX001" | "XX002" => DbError::Corrupt(message),
                code if is_damaged_file(code) => DbError::Corrupt(message),
                _ => DbError::Unavailable(message),
            }
        }
        other => DbError::Unavailable(other.to_string()),
    }
}

/// SQLite's codes 11 (a damaged file) and 26 (no database at all), which stand in the low byte of its
/// extended codes. PostgreSQL's codes have five characters, SQLite's fewer.
fn is_damaged_file(code: &str) -> bool {
    code.len() < 5 && code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 11 | 26))
}

/// Returns true if a unique index refused the row.
pub(crate) fn is_unique_violation(error: &DbErr) -> bool {
    matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_)))
}
