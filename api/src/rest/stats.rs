//! `/v1/mcp/executions/stats` and `/v1/mcp/servers/{id}/usage`: statistics of the record.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use entity::record::{Bucket, ExecutionFilter, Figures, Group, GroupBy, ServerKey};
use jiff::{SignedDuration, Timestamp};
use protocol::{AgentId, Scope, ServerId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::problem::Problem;
use crate::rest::acting::Acting;
use crate::rest::describe::{AgentIdText, Always, Contested, Filtered, Moment, Named, ServerIdText};
use crate::rest::executions::{ExecutionFilters, Filter, flush};
use crate::rest::find;
use crate::rest::input::form::{Read, moment, shortened};
use crate::rest::input::parameters::one_of;
use crate::rest::input::{Name, Parameters};

/// Statistics of the executions of a time range.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionStats {
    #[schema(value_type = Moment)]
    started_after: Timestamp,
    #[schema(value_type = Moment)]
    started_before: Timestamp,
    /// The groups: by time, then the most calls first.
    items: Vec<StatsGroup>,
}

/// One group; the parts of its key that were not asked for are null.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatsGroup {
    /// Beginning of the time bucket.
    #[schema(value_type = Option<Moment>)]
    start: Option<Timestamp>,
    #[schema(value_type = Option<ServerIdText>)]
    server_id: Option<ServerId>,
    /// The server's slug at the time of the calls.
    server_slug: Option<String>,
    tool: Option<String>,
    /// Null for calls without an agent, too.
    #[schema(value_type = Option<AgentIdText>)]
    agent_id: Option<AgentId>,
    outcome: Option<&'static str>,
    #[serde(flatten)]
    figures: FiguresBody,
}

/// Figures of some executions.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ExecutionFigures)]
pub struct FiguresBody {
    calls: u64,
    /// Calls that ended otherwise than `ok`.
    failures: u64,
    /// Number of calls of each outcome that occurs.
    #[schema(example = json!({"ok": 97, "tool_error": 2, "denied": 1}))]
    outcomes: BTreeMap<&'static str, u64>,
    /// Tokens of arguments, counted or estimated.
    tokens_in: u64,
    /// Tokens of results, counted or estimated.
    tokens_out: u64,
    result_bytes: u64,
    /// Duration that half of the calls that were delivered did not exceed, within 2 %; null without any.
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
    #[schema(value_type = Option<Moment>)]
    last_started_at: Option<Timestamp>,
}

impl From<&Figures> for FiguresBody {
    fn from(figures: &Figures) -> Self {
        let quantile = |part| figures.latency.quantile(part).map(|micros| micros as f64 / 1000.0);
        Self {
            calls: figures.calls,
            failures: figures.failures(),
            outcomes: figures.outcomes.clone(),
            tokens_in: figures.tokens_in,
            tokens_out: figures.tokens_out,
            result_bytes: figures.result_bytes,
            p50_ms: quantile(0.5),
            p95_ms: quantile(0.95),
            p99_ms: quantile(0.99),
            last_started_at: figures.last_started_at,
        }
    }
}

impl From<Group> for StatsGroup {
    fn from(group: Group) -> Self {
        let (server_id, server_slug) = group.server.unzip();
        Self {
            start: group.start,
            server_id,
            server_slug,
            tool: group.tool,
            agent_id: group.agent.flatten(),
            outcome: group.outcome.map(protocol::Outcome::as_str),
            figures: FiguresBody::from(&group.figures),
        }
    }
}

/// Counts executions, their failures, tokens and latencies, by group; at most 1,000 groups.
///
/// The range is the last day unless it is given. Needs `executions:read`.
#[utoipa::path(
    get, path = "/v1/mcp/executions/stats", tag = "executions",
    params(
        ("by" = Option<String>, Query, description = "What a group has in common: any of `server`, `tool`, `agent` and `outcome`, with commas; `server` when not given.", pattern = "^(server|tool|agent|outcome)(,(server|tool|agent|outcome))*$"),
        ("bucket" = Option<String>, Query, description = "Groups also by time of start (UTC).", pattern = "^(minute|hour|day)$"),
        ExecutionFilters,
    ),
    responses((status = 200, description = "The groups.", body = ExecutionStats), Always, Filtered, Contested)
)]
pub async fn execution_stats(
    acting: Acting,
    State(app): State<Arc<App>>,
    query: Parameters,
) -> Result<Json<ExecutionStats>, Problem> {
    acting.require(Scope::ExecutionsRead)?;
    let mut query = query.read()?;
    let by = query.optional("by", group_by).unwrap_or(GroupBy { server: true, ..GroupBy::default() });
    let bucket = query.optional("bucket", one_of(bucket, &["minute", "hour", "day"]));
    let filter = Filter::read(&mut query);
    query.finish()?;
    flush(&app).await?;
    let rows = acting.rows(&app);
    let filter = filter.resolve(rows).await?;
    // An agent that does not exist has no executions, which a range without any says as well.
    let (filter, exists) = filter.map_or((ExecutionFilter::default(), false), |filter| (filter, true));
    let before = filter.started_before.unwrap_or_else(Timestamp::now);
    let after = filter.started_after.unwrap_or_else(|| day_before(before));
    let filter = ExecutionFilter { started_after: Some(after), started_before: Some(before), ..filter };
    let groups = match exists {
        true => rows.execution_stats(&filter, GroupBy { bucket, ..by }).await?,
        false => Vec::new(),
    };
    let items = groups.into_iter().map(StatsGroup::from).collect();
    Ok(Json(ExecutionStats { started_after: after, started_before: before, items }))
}

/// Statistics of one server for the caller's tenant.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerUsage {
    #[schema(value_type = ServerIdText)]
    server_id: ServerId,
    #[schema(value_type = Moment)]
    started_after: Timestamp,
    #[schema(value_type = Moment)]
    started_before: Timestamp,
    /// Last call by the tenant, also before the range; null when there was none.
    #[schema(value_type = Option<Moment>)]
    last_used_at: Option<Timestamp>,
    #[serde(flatten)]
    figures: FiguresBody,
}

/// Counts the tenant's calls of a server, their failures by outcome, and latencies; over the last day unless a
/// range is given.
///
/// Needs `executions:read`.
#[utoipa::path(
    get, path = "/v1/mcp/servers/{id}/usage", tag = "servers",
    params(
        ("id" = String, Path, description = "The server's id or slug."),
        ("startedAfter" = Option<String>, Query, description = "Started at this time or later.", format = DateTime),
        ("startedBefore" = Option<String>, Query, description = "Started before this time.", format = DateTime),
    ),
    responses((status = 200, description = "The figures.", body = ServerUsage), Always, Named, Filtered, Contested)
)]
pub async fn server_usage(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(name): Name,
    query: Parameters,
) -> Result<Json<ServerUsage>, Problem> {
    acting.require(Scope::ExecutionsRead)?;
    let mut query = query.read()?;
    let (after, before) = (query.optional("startedAfter", moment), query.optional("startedBefore", moment));
    query.finish()?;
    let rows = acting.rows(&app);
    let server = find::server(rows, &name).await?;
    flush(&app).await?;
    let before = before.unwrap_or_else(Timestamp::now);
    let after = after.unwrap_or_else(|| day_before(before));
    let all = ExecutionFilter { server: Some(ServerKey::Id(server.id)), ..ExecutionFilter::default() };
    let last = rows.executions(&all, 1, None).await?;
    let filter = ExecutionFilter { started_after: Some(after), started_before: Some(before), ..all };
    let groups = rows.execution_stats(&filter, GroupBy::default()).await?;
    let figures = groups.first().map(|group| group.figures.clone()).unwrap_or_default();
    Ok(Json(ServerUsage {
        server_id: server.id,
        started_after: after,
        started_before: before,
        last_used_at: last.items.first().map(|row| row.started_at),
        figures: FiguresBody::from(&figures),
    }))
}

/// Returns the beginning of the range where none is given.
fn day_before(end: Timestamp) -> Timestamp {
    end.saturating_sub(SignedDuration::from_hours(24)).unwrap_or(Timestamp::MIN)
}

fn bucket(text: &str) -> Option<Bucket> {
    match text {
        "minute" => Some(Bucket::Minute),
        "hour" => Some(Bucket::Hour),
        "day" => Some(Bucket::Day),
        _ => None,
    }
}

fn group_by(text: &str) -> Read<GroupBy> {
    let mut by = GroupBy::default();
    for word in text.split(',') {
        let part = match word {
            "server" => &mut by.server,
            "tool" => &mut by.tool,
            "agent" => &mut by.agent,
            "outcome" => &mut by.outcome,
            other => {
                let given = shortened(other);
                return Err(format!("is any of server, tool, agent and outcome, with commas; not `{given}`"));
            }
        };
        *part = true;
    }
    Ok(by)
}
