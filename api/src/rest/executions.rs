//! `/v1/mcp/executions`: the record of calls, newest first, which only the pipeline writes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use entity::TenantScope;
use entity::record::{Execution, ExecutionFilter, Kind, ServerKey};
use protocol::{AgentId, Code, ExecutionId, Outcome, Refusal, RequestId, Scope, ServerId};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::http::problem::Problem;
use crate::rest::acting::Acting;
use crate::rest::describe::{
    AgentIdText, Always, ExecutionIdText, Filtered, Moment, Named, RequestIdText, ServerIdText,
};
use crate::rest::find;
use crate::rest::input::form::moment;
use crate::rest::input::parameters::{Reading, any, number, one_of};
use crate::rest::input::{Name, Parameters};
use crate::rest::listed::SliceOf;

/// One recorded call.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Execution)]
pub struct ExecutionBody {
    #[schema(value_type = ExecutionIdText)]
    id: ExecutionId,
    #[schema(value_type = RequestIdText)]
    request_id: RequestId,
    /// The W3C trace id that came with the request.
    #[schema(pattern = "^[0-9a-f]{32}$")]
    trace_id: Option<String>,
    #[schema(pattern = "^(tools/call|resources/read|prompts/get)$")]
    kind: &'static str,
    #[schema(value_type = ServerIdText)]
    server_id: ServerId,
    /// The server's slug at the time of the call.
    server_slug: String,
    /// The server's own name of the tool; of other kinds the URI or the prompt's name.
    tool: String,
    #[schema(value_type = Option<AgentIdText>)]
    agent_id: Option<AgentId>,
    #[schema(pattern = "^(api_key|jwt|loopback)$")]
    caller_kind: &'static str,
    #[schema(
        pattern = "^(running|ok|tool_error|protocol_error|denied|limited|timed_out|cancelled|unavailable|unknown)$"
    )]
    outcome: &'static str,
    #[schema(value_type = Moment)]
    started_at: jiff::Timestamp,
    /// Null while the call is running, and when its end is unknown.
    #[schema(value_type = Option<Moment>)]
    finished_at: Option<jiff::Timestamp>,
    duration_ms: Option<f64>,
    /// Time that the call waited for a free slot, or for the server's start.
    queue_ms: Option<f64>,
    /// Time that the server took.
    upstream_ms: Option<f64>,
    attempts: Option<u8>,
    /// The arguments without what looks secret, as JSON text; a long one is cut, which is marked.
    arguments_redacted: Option<String>,
    /// SHA-256 of the arguments as they were sent.
    #[schema(pattern = "^sha256:[0-9a-f]{64}$")]
    arguments_digest: String,
    result_bytes: Option<u64>,
    /// Tokens of the arguments as they were sent.
    tokens_in: Option<u64>,
    /// Tokens of the result as it came.
    tokens_out: Option<u64>,
    /// False where a tokenizer (o200k_base) counted both; true where they are one for four bytes: above 4,096 bytes,
    /// while the tokenizer is loaded, under much load, and after a crash.
    tokens_estimated: Option<bool>,
    error: Option<ErrorBody>,
}

/// The error of a call.
#[derive(Serialize, ToSchema)]
#[schema(as = ExecutionError)]
pub struct ErrorBody {
    #[schema(example = "denied_by_policy")]
    code: String,
    message: String,
    /// The row or rule that decided.
    rule: Option<String>,
}

impl From<Execution> for ExecutionBody {
    fn from(row: Execution) -> Self {
        let millis = |micros: Option<u64>| micros.map(|micros| micros as f64 / 1000.0);
        Self {
            id: row.id,
            request_id: row.request,
            trace_id: row.trace_id.map(|id| hex(&id)),
            kind: row.kind.as_str(),
            server_id: row.server,
            server_slug: row.server_slug,
            tool: row.tool,
            agent_id: row.agent,
            caller_kind: row.caller_kind.as_str(),
            outcome: row.outcome.as_str(),
            started_at: row.started_at,
            finished_at: row.finished_at,
            duration_ms: millis(row.duration_us),
            queue_ms: millis(row.queue_us),
            upstream_ms: millis(row.upstream_us),
            attempts: row.attempts,
            arguments_redacted: row.arguments_redacted,
            arguments_digest: format!("sha256:{}", hex(&row.arguments_digest)),
            result_bytes: row.result_bytes,
            tokens_in: row.tokens_in,
            tokens_out: row.tokens_out,
            tokens_estimated: row.tokens_estimated,
            error: row.error.map(|error| ErrorBody {
                code: error.code,
                message: error.message,
                rule: error.rule,
            }),
        }
    }
}

/// The filters, as the document describes them.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
#[expect(dead_code, reason = "stands for the parameters that `Filter` reads")]
pub struct ExecutionFilters {
    /// The server's id, or the slug it had at the time of the call.
    server: Option<String>,
    /// The server's own name of the tool.
    tool: Option<String>,
    /// The agent's id or slug.
    agent: Option<String>,
    /// The outcome.
    #[param(
        pattern = "^(running|ok|tool_error|protocol_error|denied|limited|timed_out|cancelled|unavailable|unknown)$"
    )]
    outcome: Option<String>,
    /// The kind of call: `tools/call`, `resources/read` or `prompts/get`.
    #[param(pattern = "^(tools/call|resources/read|prompts/get)$")]
    kind: Option<String>,
    /// Started at this time or later.
    #[param(format = DateTime)]
    started_after: Option<String>,
    /// Started before this time.
    #[param(format = DateTime)]
    started_before: Option<String>,
}

/// The filters of a query, before the agent is looked up.
pub struct Filter {
    agent: Option<String>,
    other: ExecutionFilter,
}

impl Filter {
    pub fn read(query: &mut Reading) -> Self {
        let agent = query.optional("agent", any);
        let other = ExecutionFilter {
            server: query.optional("server", any).map(server_key),
            tool: query.optional("tool", any),
            agent: None,
            outcome: query.optional("outcome", one_of(Outcome::parse, &Outcome::ALL.map(Outcome::as_str))),
            kind: query.optional("kind", one_of(Kind::parse, &Kind::ALL.map(Kind::as_str))),
            started_after: query.optional("startedAfter", moment),
            started_before: query.optional("startedBefore", moment),
        };
        Self { agent, other }
    }

    /// Looks the agent up; `None` for one that does not exist, which has no executions.
    pub async fn resolve(self, rows: TenantScope<'_>) -> Result<Option<ExecutionFilter>, Problem> {
        let agent = match self.agent.as_deref().map(|name| name.parse::<AgentId>().map_err(|_| name)) {
            None => None,
            Some(Ok(id)) => Some(id),
            Some(Err(slug)) => match find::agent(rows, slug).await {
                Ok(agent) => Some(agent.id),
                Err(problem) if problem.refusal().code == Code::NotFound => return Ok(None),
                Err(problem) => return Err(problem),
            },
        };
        Ok(Some(ExecutionFilter { agent, ..self.other }))
    }
}

/// Lists executions, newest first. Pages follow each other without a gap while rows are added.
///
/// Needs `executions:read`.
#[utoipa::path(
    get, path = "/v1/mcp/executions", tag = "executions",
    params(
        ExecutionFilters,
        ("limit" = Option<u64>, Query, description = "Items on a page, 50 when not given.", minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "`nextCursor` of the page before."),
    ),
    responses((status = 200, description = "The executions.", body = SliceOf<ExecutionBody>), Always, Filtered)
)]
pub async fn list_executions(
    acting: Acting,
    State(app): State<Arc<App>>,
    query: Parameters,
) -> Result<Json<SliceOf<ExecutionBody>>, Problem> {
    acting.require(Scope::ExecutionsRead)?;
    let mut query = query.read()?;
    let filter = Filter::read(&mut query);
    let limit = query.optional("limit", number(1, 200)).unwrap_or(50);
    let cursor = query.optional("cursor", any);
    query.finish()?;
    flush(&app).await?;
    let rows = acting.rows(&app);
    let Some(filter) = filter.resolve(rows).await? else {
        return Ok(Json(SliceOf { items: Vec::new(), next_cursor: None }));
    };
    let page = rows.executions(&filter, limit, cursor.as_deref()).await?;
    let items = page.items.into_iter().map(ExecutionBody::from).collect();
    Ok(Json(SliceOf { items, next_cursor: page.next_cursor }))
}

/// Finds one execution.
///
/// Needs `executions:read`.
#[utoipa::path(
    get, path = "/v1/mcp/executions/{id}", tag = "executions",
    params(("id" = ExecutionIdText, Path, description = "The execution's id.")),
    responses((status = 200, description = "The execution.", body = ExecutionBody), Always, Named)
)]
pub async fn find_execution(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(name): Name,
) -> Result<Json<ExecutionBody>, Problem> {
    acting.require(Scope::ExecutionsRead)?;
    let id: ExecutionId = name.parse().map_err(|_| Problem::not_found("execution"))?;
    flush(&app).await?;
    let found = acting.rows(&app).find_execution(id).await.map_err(Problem::of("execution"))?;
    Ok(Json(found.into()))
}

/// Flushes the journal into the database, since an answer without its entries would be wrong.
pub async fn flush(app: &App) -> Result<(), Problem> {
    app.gateway.recorder.record.flush().await.map_err(|error| {
        tracing::error!(%error, "the record cannot be brought up to date");
        let reason = "the record cannot be brought up to date now; nothing of it is lost";
        Refusal::new(Code::RecordUnavailable, reason).hint("GET /ready says what is away").into()
    })
}

fn server_key(name: String) -> ServerKey {
    name.parse().map_or_else(|_| ServerKey::Slug(name), ServerKey::Id)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
