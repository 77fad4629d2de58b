//! Errors of guarded SQL, the same for every database. They carry no address and no password.

use std::borrow::Cow;

use protocol::provider::ProviderError;
use protocol::{Code, Refusal};

/// Failure of a statement.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct SqlError {
    pub kind: Kind,
    pub message: String,
    pub hint: Option<Cow<'static, str>>,
    /// SQLSTATE (PostgreSQL, appendix A).
    pub sql_state: Option<String>,
    /// Place of the mistake in the statement: a character, counted from 1.
    pub position: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Statement or parameters that the database cannot read.
    Invalid,
    /// Table that is not there, or cannot be read.
    NotFound,
    /// Statement that would change something.
    ReadOnly,
    /// Table, function or statement that the caller may not use.
    PermissionDenied,
    TimedOut,
    Cancelled,
    /// Result, value or working memory over a limit.
    TooLarge,
    /// Database that does not answer, or is out of resources.
    Unavailable,
    /// Database whose role or settings are refused.
    NotConfigured,
    Failed,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Invalid => "invalid_params",
            Kind::NotFound => "not_found",
            Kind::ReadOnly => "read_only",
            Kind::PermissionDenied => "permission_denied",
            Kind::TimedOut => "timeout",
            Kind::Cancelled => "cancelled",
            Kind::TooLarge => "too_large",
            Kind::Unavailable => "unavailable",
            Kind::NotConfigured => "not_configured",
            Kind::Failed => "failed",
        }
    }

    fn code(self) -> Code {
        match self {
            Kind::Invalid => Code::InvalidParams,
            Kind::NotFound => Code::NotFound,
            Kind::ReadOnly | Kind::PermissionDenied => Code::DeniedByPolicy,
            Kind::TimedOut => Code::TimedOut,
            Kind::Cancelled => Code::Cancelled,
            Kind::TooLarge => Code::ResultTooLarge,
            Kind::Unavailable => Code::DatabaseUnavailable,
            Kind::NotConfigured => Code::NotConfigured,
            Kind::Failed => Code::ToolFailed,
        }
    }

    fn hint(self) -> Option<&'static str> {
        match self {
            Kind::ReadOnly => Some("this database is read only: send one SELECT, VALUES or WITH … SELECT"),
            Kind::PermissionDenied => Some("list_tables shows what can be read; an operator may grant more"),
            Kind::TimedOut => Some("ask for less: narrow the WHERE clause, or add a LIMIT to an inner query"),
            Kind::Unavailable => Some("try again in a moment"),
            Kind::Invalid => Some("correct the statement or its params; describe_table shows the columns"),
            Kind::Cancelled | Kind::NotFound | Kind::TooLarge | Kind::NotConfigured | Kind::Failed => None,
        }
    }
}

impl SqlError {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, sql_state: None, position: None }
    }

    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn at(mut self, position: Option<u32>) -> Self {
        self.position = position;
        self
    }
}

impl From<SqlError> for Refusal {
    fn from(error: SqlError) -> Self {
        let place = error.position.map(|position| format!(" (at character {position})")).unwrap_or_default();
        let mut refusal = Refusal::new(error.kind.code(), format!("{}{place}", error.message));
        refusal.hint = error.hint.or(error.kind.hint().map(Cow::Borrowed));
        refusal = refusal.fact("kind", error.kind.as_str());
        if let Some(state) = error.sql_state {
            refusal = refusal.fact("sqlState", state);
        }
        if let Some(position) = error.position {
            refusal = refusal.fact("position", position);
        }
        refusal
    }
}

impl From<SqlError> for ProviderError {
    fn from(error: SqlError) -> Self {
        Refusal::from(error).into()
    }
}
