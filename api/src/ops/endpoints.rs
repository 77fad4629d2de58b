//! Operations endpoints: `GET /health`, `GET /ready`, and the gauges of `GET /metrics`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;
use jiff::Timestamp;
use protocol::provider::ToolProvider;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::config::WithoutRedis;
use crate::ops::health::{BuiltinServer, Dependency, HealthReport, ReadyReport, ServerState};
use crate::ops::metrics::Scrape;
use proxy::state::{StateError, StoreMemory};

/// Time for a dependency to answer.
const CHECK_TIMEOUT: Duration = Duration::from_millis(1500);

/// Part of its memory that Redis may use before it counts as a problem.
const MOST_MEMORY_PERCENT: u64 = 80;

/// Returns the routes of the health endpoints.
pub fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default().routes(routes!(health)).routes(routes!(ready))
}

/// Reports liveness and dependencies.
#[utoipa::path(get, path = "/health", tag = "operations", responses((status = 200, description = "It lives.", body = HealthReport)))]
pub async fn health(State(app): State<Arc<App>>) -> Json<HealthReport> {
    let (dependencies, _) = check(&app).await;
    let find = |name| dependencies.iter().find(|dependency| dependency.name == name);
    let connected =
        |name| if find(name).is_some_and(|dependency| dependency.ok) { "connected" } else { "disconnected" };
    let when = |name, kind| {
        if find(name).is_some_and(|d| d.kind == kind) { connected(name) } else { "not_configured" }
    };
    Json(HealthReport {
        status: match dependencies.iter().all(|dependency| dependency.detail.is_none()) {
            true => "healthy",
            false => "degraded",
        },
        version: env!("CARGO_PKG_VERSION"),
        timestamp: Timestamp::now(),
        database: connected("database"),
        state: connected("state"),
        postgres: when("database", "postgres"),
        redis: when("state", "redis"),
    })
}

/// Reports readiness.
#[utoipa::path(get, path = "/ready", tag = "operations",
    responses(
        (status = 200, description = "It is ready.", body = ReadyReport),
        (status = 503, description = "A dependency is away.", body = ReadyReport)
    ))]
pub async fn ready(State(app): State<Arc<App>>) -> Response {
    let ((dependencies, _), servers) = tokio::join!(check(&app), check_servers(&app));
    let ready = dependencies.iter().all(|dependency| dependency.ok);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let is_whole = dependencies.iter().all(|dependency| dependency.detail.is_none());
    let said = if is_whole { "ok" } else { "degraded" };
    (status, Json(ReadyReport { status: said, ready, dependencies, servers })).into_response()
}

/// Checks each built-in server now.
pub async fn check_servers(app: &App) -> Vec<BuiltinServer> {
    let check = async |provider: &Arc<dyn ToolProvider>| {
        let name = provider.info().name;
        if let Some(missing) = provider.not_configured() {
            let hint = Some(missing.remedy().to_owned());
            return app.health.note_server(
                name,
                ServerState::NotConfigured,
                Some(missing.reason.into_owned()),
                hint,
            );
        }
        let reason = match tokio::time::timeout(CHECK_TIMEOUT, provider.health()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("no answer in time".to_owned()),
        };
        let state = if reason.is_none() { ServerState::Ready } else { ServerState::Failing };
        app.health.note_server(name, state, reason, None)
    };
    join_all(app.builtins.iter().map(check)).await
}

/// Checks each dependency now; returns also the memory of Redis, where it is known.
pub async fn check(app: &App) -> (Vec<Dependency>, Option<StoreMemory>) {
    let database = tokio::time::timeout(CHECK_TIMEOUT, app.db.ping());
    let state = tokio::time::timeout(CHECK_TIMEOUT, async {
        app.state.ping().await?;
        // A Redis that does not tell its memory is no problem.
        Ok::<_, StateError>(app.state.memory().await.unwrap_or(None))
    });
    let (database, state) = tokio::join!(database, state);
    let database = match database {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.detail()),
        Err(_) => Some("no answer in time".to_owned()),
    };
    let (state, memory) = match state {
        Ok(Ok(memory)) => (None, memory),
        Ok(Err(error)) => (Some(error.to_string()), None),
        Err(_) => (Some("no answer in time".to_owned()), None),
    };
    let goes_on = |problem| format!("{problem}; calls go on, and this replica decides limits alone");
    let alone = app.config.limits.without_redis == WithoutRedis::Local && app.fallback.is_some();
    let state = if alone { state.map(goes_on) } else { state };
    let record = app.gateway.recorder.record.status().failing.map(|(problem, _)| problem);
    let kind = match app.db.backend() {
        entity::Backend::Sqlite => "sqlite",
        entity::Backend::Postgres => "postgres",
    };
    let mut dependencies = vec![
        app.health.note("database", kind, database),
        app.health.note("state", app.state.name(), state),
        app.health.note("record", "journal", record),
    ];
    if let Some(full) = memory.and_then(nearly_full) {
        // It still answers: replicas are degraded and ready.
        dependencies[1].detail.get_or_insert(full);
    }
    (dependencies, memory)
}

/// Returns the problem of a store whose memory is nearly used up: keys that are needed may be evicted.
fn nearly_full(memory: StoreMemory) -> Option<String> {
    let percent = (memory.used * 100).checked_div(memory.allowed)?;
    (percent > MOST_MEMORY_PERCENT).then(|| {
        format!("Redis uses {percent} % of its memory ({} of {} bytes)", memory.used, memory.allowed)
    })
}

/// Reads the current gauges.
pub async fn scrape(app: &App) -> Scrape {
    let ((dependencies, state_memory), servers, collab) =
        tokio::join!(check(app), check_servers(app), app.collab.figures(CHECK_TIMEOUT));
    let is_configured = |server: &&BuiltinServer| server.state != ServerState::NotConfigured;
    let record = app.gateway.recorder.record.status();
    let pool = app.gateway.upstreams.pool.figures();
    let connections = app.db.connections();
    Scrape {
        upstreams: pool.states,
        children: pool.children,
        in_flight: pool.in_flight,
        stream_backlog: app.gateway.sessions.backlogs.bytes(),
        record_backlog: record.backlog,
        record_journal_bytes: record.journal_bytes,
        pool_size: connections.open,
        pool_idle: connections.idle,
        collab,
        state_memory,
        alone: app.fallback.as_ref().map(|fallback| fallback.alone()).unwrap_or_default(),
        servers: servers
            .iter()
            .filter(is_configured)
            .map(|server| (server.name, server.state == ServerState::Ready))
            .collect(),
        dependencies: dependencies.iter().map(|dependency| (dependency.name, dependency.ok)).collect(),
    }
}
