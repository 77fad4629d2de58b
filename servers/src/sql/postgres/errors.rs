//! Errors of PostgreSQL and of its driver as the caller reads them.

use std::error::Error as _;

use tokio_postgres::error::{DbError, ErrorPosition};

use super::stream::MOST_MESSAGE;
use crate::sql::{Kind, SqlError};

/// Returns an error of the driver, or of the server behind it.
pub fn read(error: &tokio_postgres::Error) -> SqlError {
    if let Some(error) = error.as_db_error() {
        return of_server(error);
    }
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    SqlError::new(Kind::Unavailable, format!("{error}{cause}"))
}

/// Returns the error of a connection that ended at a message over the limit.
pub fn too_long() -> SqlError {
    SqlError::new(Kind::TooLarge, format!("a row has more than {MOST_MESSAGE} bytes"))
        .hint("select fewer columns, or a part of a long value with left(column, 1000)")
}

fn of_server(error: &DbError) -> SqlError {
    let state = error.code().code();
    let kind = match state {
        "42501" => Kind::PermissionDenied,
        "25006" => Kind::ReadOnly,
        "57014" | "55P03" => Kind::TimedOut,
        // A limit on temporary files or on a value.
        "53400" => Kind::TooLarge,
        _ => match state.get(..2).unwrap_or_default() {
            "53" | "57" | "08" => Kind::Unavailable,
            "28" | "3D" => Kind::NotConfigured,
            "54" => Kind::TooLarge,
            "22" | "23" | "42" | "0A" | "21" | "34" | "26" | "25" => Kind::Invalid,
            _ => Kind::Failed,
        },
    };
    let position = match error.position() {
        Some(ErrorPosition::Original(position)) => Some(*position),
        _ => None,
    };
    let message = match error.detail() {
        Some(detail) => format!("{} ({detail})", error.message()),
        None => error.message().to_owned(),
    };
    let mut read = SqlError::new(kind, message).at(position);
    read.sql_state = Some(state.to_owned());
    read.hint = error.hint().map(|hint| hint.to_owned().into());
    read
}
