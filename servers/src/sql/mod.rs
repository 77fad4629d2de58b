//! Read-only SQL for callers who are not trusted: one statement, bound parameters, bounds on rows, bytes and
//! time. Knows no tool; `sqlite` and `postgres` hold the guards, and their results and errors have one form.

pub mod catalog;
mod error;
mod json;
pub mod postgres;
pub mod sqlite;

use std::time::{Duration, Instant};

use protocol::provider::{Cancellation, RequestContext};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

pub use self::error::{Kind, SqlError};

/// Longest statement, bytes.
pub const MOST_SQL: usize = 100_000;

/// Most parameters of a statement.
pub const MOST_PARAMETERS: usize = 100;

/// Bounds of one query.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Most rows of the result.
    pub rows: usize,
    /// Most bytes of the result's rows, as JSON.
    pub bytes: usize,
    pub deadline: Instant,
    pub cancellation: Cancellation,
}

impl Bounds {
    /// Returns bounds that also end with the request.
    pub fn of(context: &RequestContext<'_>, rows: usize, bytes: usize, patience: Duration) -> Self {
        let deadline = context.deadline.min(Instant::now() + patience);
        Self { rows, bytes, deadline, cancellation: context.cancellation.clone() }
    }
}

/// Rows of one statement.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResultSet {
    pub columns: Vec<Column>,
    /// Values in the order of the columns.
    pub rows: Vec<Vec<Value>>,
    // A format of JSON Schema that clients know: not that of `usize`.
    #[schemars(with = "i64")]
    pub row_count: usize,
    /// Limit that cut the result, if there are more rows.
    pub cut_by: Option<Limit>,
    /// Rows as JSON, one a line.
    #[serde(skip)]
    lines: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Column {
    pub name: String,
    /// Type, where the database declares one.
    pub r#type: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    Rows,
    Bytes,
}

impl ResultSet {
    pub fn new(columns: Vec<Column>) -> Self {
        Self { columns, ..Self::default() }
    }

    /// Adds a row. Returns false when the result is full, and keeps the row out of it.
    ///
    /// # Errors
    /// The size of a first row that is over the limit alone.
    pub fn push(&mut self, row: Vec<Value>, bounds: &Bounds) -> Result<bool, SqlError> {
        if self.rows.len() >= bounds.rows {
            self.cut_by = Some(Limit::Rows);
            return Ok(false);
        }
        let line = serde_json::to_string(&row)
            .map_err(|error| SqlError::new(Kind::Failed, format!("a row cannot be written: {error}")))?;
        if self.lines.len() + line.len() > bounds.bytes {
            if self.rows.is_empty() {
                let message = format!(
                    "the first row has {} bytes, and a result has at most {}",
                    line.len(),
                    bounds.bytes
                );
                return Err(SqlError::new(Kind::TooLarge, message)
                    .hint("select fewer columns, or a part of a long value with substr(column, 1, 1000)"));
            }
            self.cut_by = Some(Limit::Bytes);
            return Ok(false);
        }
        self.lines.push_str(&line);
        self.lines.push('\n');
        self.rows.push(row);
        self.row_count = self.rows.len();
        Ok(true)
    }

    /// Returns the result as a model reads it: a count, the names of the columns, and a row a line.
    pub fn text(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|column| &column.name).collect();
        let count = match (self.row_count, self.cut_by) {
            (1, None) => "1 row.".to_owned(),
            (count, None) => format!("{count} rows."),
            (count, Some(limit)) => {
                let limit = match limit {
                    Limit::Rows => "max_rows",
                    Limit::Bytes => "the size of a result",
                };
                format!(
                    "{count} rows, cut by {limit}; there are more. Narrow the query, or page with ORDER BY, LIMIT and OFFSET."
                )
            }
        };
        format!("{count}\n{}\n{}", serde_json::json!(names), self.lines)
    }
}

/// Refuses what no statement may be.
///
/// # Errors
/// The mistake.
pub fn check_text(sql: &str) -> Result<(), SqlError> {
    let invalid = |message: String| Err(SqlError::new(Kind::Invalid, message));
    if sql.len() > MOST_SQL {
        return invalid(format!("the statement has {} bytes, and at most {MOST_SQL} are allowed", sql.len()));
    }
    // Databases end a statement at a NUL and would not see the rest.
    if sql.contains(|c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r')) {
        return invalid("the statement has a control character".to_owned());
    }
    if sql.trim().is_empty() {
        return invalid("the statement is empty".to_owned());
    }
    Ok(())
}
