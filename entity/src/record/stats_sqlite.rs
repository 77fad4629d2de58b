//! Rows for statistics, read one by one from SQLite over a connection of their own.

use std::path::Path;
use std::time::Instant;

use protocol::outcome::Outcome;
use rusqlite::{Connection, OpenFlags};
use sea_orm::{QuerySelect, Select, Statement, Value};
use uuid::Uuid;

use super::row::{Column, Entity};
use super::stats::{Bucket, GroupBy, Groups, Key, PATIENCE, Part, bin, key_columns, outcome, unsigned};
use crate::DbError;

pub(super) fn columns(query: Select<Entity>, by: GroupBy) -> Select<Entity> {
    key_columns(query, by).columns([
        Column::Outcome,
        Column::StartedAt,
        Column::DurationUs,
        Column::Attempts,
        Column::ResultBytes,
        Column::TokensIn,
        Column::TokensOut,
    ])
}

/// Reads each row, which is faster in SQLite than its own grouping (it sorts). Ends by itself after
/// [`PATIENCE`], when nobody waits any more.
pub(super) fn read(path: &Path, query: Statement, by: GroupBy) -> Result<Groups, DbError> {
    let failed = |error: rusqlite::Error| DbError::Unavailable(error.to_string());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    let until = Instant::now() + PATIENCE;
    connection.progress_handler(100_000, Some(move || Instant::now() > until)).map_err(failed)?;
    let values = query.values.map(|values| values.0).unwrap_or_default();
    let values = values.into_iter().map(sqlite_value).collect::<Result<Vec<_>, _>>()?;
    let mut statement = connection.prepare(&query.sql).map_err(failed)?;
    let mut rows = statement.query(rusqlite::params_from_iter(values)).map_err(failed)?;
    let mut groups = Groups::default();
    while let Some(row) = rows.next().map_err(failed)? {
        let outcome = outcome(&row.get::<_, String>(4).map_err(failed)?)?;
        let (key, part) = sqlite_row(row, outcome, by).map_err(failed)?;
        groups.add(key, part)?;
    }
    Ok(groups)
}

/// Converts a value of a filter.
fn sqlite_value(value: Value) -> Result<rusqlite::types::Value, DbError> {
    match value {
        Value::Uuid(Some(id)) => Ok(id.as_bytes().to_vec().into()),
        Value::String(Some(text)) => Ok(text.into()),
        Value::BigInt(Some(number)) => Ok(number.into()),
        other => Err(DbError::Corrupt(format!("a filter has a value of another kind: {other:?}"))),
    }
}

fn sqlite_row(row: &rusqlite::Row<'_>, outcome: Outcome, by: GroupBy) -> rusqlite::Result<(Key, Part)> {
    let id = |at: usize| -> rusqlite::Result<Option<Uuid>> {
        Ok(row.get::<_, Option<[u8; 16]>>(at)?.map(Uuid::from_bytes))
    };
    let number = |at: usize| row.get::<_, Option<i64>>(at).map(unsigned);
    let started_at: i64 = row.get(5)?;
    let delivered = row.get::<_, Option<i64>>(7)?.unwrap_or(0) > 0;
    let duration = row.get::<_, Option<i64>>(6)?.filter(|micros| delivered && *micros >= 0);
    let length = by.bucket.map(Bucket::micros);
    let key = Key {
        start: length.map(|length| started_at - started_at.rem_euclid(length)),
        server: row.get::<_, Option<String>>(1)?.zip(id(0)?),
        tool: row.get(2)?,
        agent: if by.agent { Some(id(3)?) } else { None },
        outcome: by.outcome.then(|| outcome.as_str()),
    };
    let part = Part {
        outcome,
        calls: 1,
        bin: duration.map(bin),
        result_bytes: number(8)?,
        tokens_in: number(9)?,
        tokens_out: number(10)?,
        last_started_at: started_at,
    };
    Ok((key, part))
}
