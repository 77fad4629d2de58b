//! Rows for statistics, grouped by PostgreSQL.

use futures_util::TryStreamExt;
use sea_orm::sea_query::Expr;
use sea_orm::{DatabaseConnection, QuerySelect, Select};
use uuid::Uuid;

use super::row::{Column, Entity};
use super::stats::{BINS, Bucket, GroupBy, Groups, Key, Part, key_columns, outcome, unsigned};
use crate::DbError;

/// Reads rows that PostgreSQL has grouped already, by bin as well.
pub(super) async fn read(
    query: Select<Entity>,
    by: GroupBy,
    db: &DatabaseConnection,
) -> Result<Groups, DbError> {
    #[derive(sea_orm::FromQueryResult)]
    struct Row {
        server_id: Option<Uuid>,
        server_slug: Option<String>,
        tool: Option<String>,
        agent_id: Option<Uuid>,
        outcome: String,
        start: Option<i64>,
        bin: Option<i32>,
        calls: i64,
        result_bytes: Option<i64>,
        tokens_in: Option<i64>,
        tokens_out: Option<i64>,
        last_started_at: i64,
    }
    let start = match by.bucket.map(Bucket::micros) {
        // Starts are after 1970, so that the remainder is not negative.
        Some(length) => format!("started_at - started_at % {length}"),
        None => "NULL::bigint".to_owned(),
    };
    let bin = format!(
        "CASE WHEN attempts > 0 AND duration_us >= 0 THEN round(ln(duration_us::float8 + 1) * {BINS}::float8)::int END"
    );
    let sum = |column: &str| Expr::cust(format!("sum({column})::bigint"));
    let mut query = key_columns(query, by)
        .column(Column::Outcome)
        .column_as(Expr::cust(start), "start")
        .column_as(Expr::cust(bin), "bin")
        .column_as(Expr::cust("count(*)"), "calls")
        .column_as(sum("result_bytes"), "result_bytes")
        .column_as(sum("tokens_in"), "tokens_in")
        .column_as(sum("tokens_out"), "tokens_out")
        .column_as(Expr::cust("max(started_at)"), "last_started_at");
    for at in 1..=7 {
        query = query.group_by(Expr::cust(at.to_string()));
    }
    let mut rows = query.into_model::<Row>().stream(db).await?;
    let mut groups = Groups::default();
    while let Some(row) = rows.try_next().await? {
        let outcome = outcome(&row.outcome)?;
        let key = Key {
            start: row.start,
            server: row.server_slug.zip(row.server_id),
            tool: row.tool,
            agent: by.agent.then_some(row.agent_id),
            outcome: by.outcome.then(|| outcome.as_str()),
        };
        let part = Part {
            outcome,
            calls: unsigned(Some(row.calls)),
            bin: row.bin,
            tokens_in: unsigned(row.tokens_in),
            tokens_out: unsigned(row.tokens_out),
            result_bytes: unsigned(row.result_bytes),
            last_started_at: row.last_started_at,
        };
        groups.add(key, part)?;
    }
    Ok(groups)
}
