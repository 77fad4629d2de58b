//! `/v1/mcp/servers/{id}/health`, `…/start`, `…/stop`, `…/restart`, `…/logs`: a tenant's own running upstream
//! of a server. Each tenant has its own, also of a global server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use entity::Server;
use jiff::Timestamp;
use protocol::mcp::{Era, method};
use protocol::{Code, Refusal, Scope, ServerId, TenantId};
use proxy::pool::{LogLine, State as Health};
use proxy::selected::Selected;
use proxy::server::ServerSpec;
use proxy::upstream::{Params, UpstreamAnswer, UpstreamRequest};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::problem::Problem;
use crate::pipeline::Gateway;
use crate::rest::acting::Acting;
use crate::rest::describe::{Always, Asked, Contested, Filtered, Moment, Named, Sent, ServerIdText};
use crate::rest::find;
use crate::rest::input::parameters::number;
use crate::rest::input::{Name, NoBody, Parameters};
use crate::rest::listed::SliceOf;
use crate::rest::servers::answer::{ServerBody, Showing};

/// Result of a health check.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Health)]
pub struct HealthBody {
    #[schema(value_type = ServerIdText)]
    server_id: ServerId,
    #[schema(pattern = "^(healthy|degraded|unhealthy|unknown|stopped|not_configured)$")]
    state: &'static str,
    /// The reason for the state, if there is one.
    state_reason: Option<String>,
    /// The failure, as one stable word; null when the server answered.
    code: Option<&'static str>,
    /// The suggested next step.
    hint: Option<String>,
    #[schema(value_type = Moment)]
    state_since: Timestamp,
    /// Time of the last good answer, also one before the gateway's last start.
    #[schema(value_type = Option<Moment>)]
    last_success_at: Option<Timestamp>,
    #[schema(value_type = Moment)]
    checked_at: Timestamp,
    /// Time to the answer; null when there was none.
    latency_ms: Option<f64>,
    /// The running process, of a stdio server.
    pid: Option<u32>,
    in_flight: usize,
    /// Starts after the first one.
    restarts: u64,
}

/// A line that a server wrote to its stderr, or that the gateway noted about it.
#[derive(Serialize, ToSchema)]
#[schema(as = LogLine)]
pub struct LogLineBody {
    #[schema(value_type = Moment)]
    at: Timestamp,
    #[schema(pattern = "^(stderr|gateway)$")]
    stream: &'static str,
    text: String,
}

impl From<LogLine> for LogLineBody {
    fn from(LogLine { at, stream, text }: LogLine) -> Self {
        Self { at, stream, text }
    }
}

/// A server as this tenant runs it.
pub(super) struct Running {
    pub server: Server,
    pub spec: Arc<ServerSpec>,
    tenant: TenantId,
}

impl Running {
    /// Selects the upstream that serves callers who declare nothing.
    pub async fn select(&self, app: &App) -> Result<Selected, Refusal> {
        let deadline = Instant::now() + self.spec.start_timeout.value;
        let Gateway { upstreams, plain, .. } = &app.gateway;
        upstreams.bridge.select_for_owner(self.tenant, &self.spec, plain, deadline).await
    }
}

/// Finds the tenant's upstream of a named server.
///
/// # Errors
/// 409 for a global server that one of the tenant's own hides: nothing of it runs here.
pub(super) async fn running(app: &App, acting: &Acting, name: &str) -> Result<Running, Problem> {
    let server = find::server(acting.rows(app), name).await?;
    let view = app.gateway.upstreams.directory.view(acting.tenant()).await?;
    match view.find(server.slug.as_str()) {
        Some(member) if member.spec.id == server.id => {
            let spec = Arc::clone(member.spec_for(acting.caller.agent));
            Ok(Running { spec, server, tenant: view.tenant })
        }
        Some(member) => {
            let reason = format!("the tenant's own server `{}` hides this one", server.slug);
            Err(Refusal::new(Code::Conflict, reason).rule(format!("server {}", member.spec.id)).into())
        }
        None => Err(Problem::not_found("server")),
    }
}

/// Refuses with 403 a server that is switched off.
pub(super) fn switched_on(server: &Server) -> Result<(), Problem> {
    if server.settings.enabled {
        return Ok(());
    }
    Err(Refusal::new(Code::ServerDisabled, format!("server `{}` is switched off", server.slug))
        .rule(format!("server {} enabled", server.id))
        .hint("a caller with servers:write can enable it: PATCH /v1/mcp/servers/{id}")
        .into())
}

/// Checks that the server answers, and starts it when needed.
///
/// A server that answers, but whose last lists are empty, is `degraded`. A server that does not answer is reported with 200, its state and the reason. Needs `servers:read`.
#[utoipa::path(
    post, path = "/v1/mcp/servers/{id}/health", tag = "servers",
    params(("id" = String, Path, description = "The server's id or slug.")),
    responses((status = 200, description = "The state of the server, and the time to its answer.", body = HealthBody), Always, Named, Filtered, Sent, Contested)
)]
pub async fn check_server(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(name): Name,
    _: NoBody,
) -> Result<Json<HealthBody>, Problem> {
    acting.require(Scope::ServersRead)?;
    let running = running(&app, &acting, &name).await?;
    let Running { server, .. } = &running;
    let answered = match switched_on(server) {
        Ok(()) => ping(&app, &running).await,
        Err(problem) => Err(problem.refusal().clone()),
    };
    let upstream = app.gateway.upstreams.pool.status(acting.tenant(), server.id, server.provider());
    let status = Showing::to(&app, &acting).await?.status(server);
    let (state, reason) = match &answered {
        Ok(_) => (status.state, status.reason),
        // The fresh failure counts, also where the pool does not hold it against the server.
        Err(refusal) => (failed(status.state), status.reason.or_else(|| Some(refusal.reason.to_string()))),
    };
    Ok(Json(HealthBody {
        server_id: server.id,
        state: state.as_str(),
        state_reason: reason,
        code: answered.as_ref().err().map(|refusal| refusal.code.as_str()),
        hint: answered.as_ref().err().and_then(|refusal| refusal.hint.as_ref().map(ToString::to_string)),
        state_since: status.since,
        last_success_at: status.last_success,
        checked_at: Timestamp::now(),
        latency_ms: answered.ok().map(|latency| latency.as_micros() as f64 / 1000.0),
        pid: upstream.pid,
        in_flight: upstream.in_flight,
        restarts: upstream.restarts,
    }))
}

/// Starts the server, also after it was stopped.
///
/// Returns when the server is ready. Needs `servers:write`.
#[utoipa::path(
    post, path = "/v1/mcp/servers/{id}/start", tag = "servers",
    params(("id" = String, Path, description = "The server's id or slug.")),
    responses((status = 200, description = "It runs.", body = ServerBody), Always, Named, Filtered, Sent, Contested, Asked)
)]
pub async fn start_server(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(name): Name,
    _: NoBody,
) -> Result<Json<ServerBody>, Problem> {
    acting.require(Scope::ServersWrite)?;
    let Running { server, spec, .. } = running(&app, &acting, &name).await?;
    switched_on(&server)?;
    audit(&app, &acting, "server.start", &server).await?;
    app.gateway.upstreams.pool.start(acting.tenant(), &spec).await?;
    Ok(Json(Showing::to(&app, &acting).await?.server(server)))
}

/// Result of a stop.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StoppedServer)]
pub struct StoppedBody {
    #[serde(flatten)]
    server: ServerBody,
    /// The end of the last process: by the end of its input, or by a signal. Null when none ran.
    #[schema(pattern = "^(end_of_input|sigterm|sigkill)$")]
    stopped_by: Option<&'static str>,
}

/// Stops the server for this tenant: calls are refused until it is started.
///
/// Returns when the last of the server's processes has ended. Needs `servers:write`.
#[utoipa::path(
    post, path = "/v1/mcp/servers/{id}/stop", tag = "servers",
    params(("id" = String, Path, description = "The server's id or slug.")),
    responses((status = 200, description = "It is stopped.", body = StoppedBody), Always, Named, Filtered, Sent, Contested)
)]
pub async fn stop_server(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(name): Name,
    _: NoBody,
) -> Result<Json<StoppedBody>, Problem> {
    acting.require(Scope::ServersWrite)?;
    let Running { server, spec, .. } = running(&app, &acting, &name).await?;
    audit(&app, &acting, "server.stop", &server).await?;
    let stopped_by = app.gateway.upstreams.pool.stop(acting.tenant(), &spec).await.as_str();
    let server = Showing::to(&app, &acting).await?.server(server);
    Ok(Json(StoppedBody { server, stopped_by }))
}

/// Stops the server, forgets earlier crashes, and starts it again.
///
/// Returns when the server is ready. Needs `servers:write`.
#[utoipa::path(
    post, path = "/v1/mcp/servers/{id}/restart", tag = "servers",
    params(("id" = String, Path, description = "The server's id or slug.")),
    responses((status = 200, description = "It runs again.", body = ServerBody), Always, Named, Filtered, Sent, Contested, Asked)
)]
pub async fn restart_server(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(name): Name,
    _: NoBody,
) -> Result<Json<ServerBody>, Problem> {
    acting.require(Scope::ServersWrite)?;
    let Running { server, spec, .. } = running(&app, &acting, &name).await?;
    switched_on(&server)?;
    audit(&app, &acting, "server.restart", &server).await?;
    app.gateway.upstreams.pool.restart(acting.tenant(), &spec).await?;
    Ok(Json(Showing::to(&app, &acting).await?.server(server)))
}

/// Writes the audit event of an action on a server's processes.
async fn audit(app: &App, acting: &Acting, action: &'static str, server: &Server) -> Result<(), Problem> {
    let details = json!({ "slug": server.slug });
    let written = acting.rows(app).audit(action, server.id.to_string(), details, &acting.actor()).await;
    written.map_err(Problem::of("tenant"))
}

/// Shows the newest lines of the server's stderr, oldest first.
///
/// These lines may contain anything, so this needs `servers:write`.
#[utoipa::path(
    get, path = "/v1/mcp/servers/{id}/logs", tag = "servers",
    params(
        ("id" = String, Path, description = "The server's id or slug."),
        ("limit" = Option<u64>, Query, description = "How many lines, 100 when not given.", minimum = 1, maximum = 1000),
    ),
    responses((status = 200, description = "The lines.", body = SliceOf<LogLineBody>), Always, Named, Filtered)
)]
pub async fn list_server_logs(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(name): Name,
    query: Parameters,
) -> Result<Json<SliceOf<LogLineBody>>, Problem> {
    acting.require(Scope::ServersWrite)?;
    let mut query = query.read()?;
    let limit = query.optional("limit", number(1, 1000)).unwrap_or(100);
    query.finish()?;
    let server = find::server(acting.rows(&app), &name).await?;
    let lines = app.gateway.upstreams.pool.logs(
        acting.tenant(),
        server.id,
        usize::try_from(limit).unwrap_or(usize::MAX),
    );
    Ok(Json(SliceOf { items: lines.into_iter().map(LogLineBody::from).collect(), next_cursor: None }))
}

/// Measures the time to an answer. An error to `ping` counts as one: a server that refuses it is there.
async fn ping(app: &App, running: &Running) -> Result<Duration, Refusal> {
    let timeout = Duration::from_millis(app.config.calls.list_timeout_ms);
    let selected = running.select(app).await?;
    let pool = &app.gateway.upstreams.pool;
    pool.initialized(&selected, Instant::now() + running.spec.start_timeout.value).await?;
    let probe = match selected.key().era {
        Era::Legacy => method::PING,
        Era::Modern => method::DISCOVER,
    };
    let params = pool.own_params(selected.key().era, serde_json::Map::new());
    let params = Params::raw(params.as_bytes());
    let request = UpstreamRequest::new(probe, params, Instant::now() + timeout);
    let delivered = pool.request(&selected, request).await?;
    if let (method::DISCOVER, UpstreamAnswer::Error(error)) = (probe, &delivered.answer) {
        let said = String::from_utf8_lossy(&error[..error.len().min(300)]);
        let reason = format!("`{}` refuses `{probe}`: {said}", running.spec.slug);
        return Err(Refusal::new(Code::UpstreamFailed, reason));
    }
    Ok(delivered.upstream)
}

/// Returns the state of a server that just failed to answer.
fn failed(state: Health) -> Health {
    match state {
        Health::Healthy | Health::Unknown => Health::Unhealthy,
        Health::Degraded | Health::Unhealthy | Health::Stopped | Health::NotConfigured => state,
    }
}
