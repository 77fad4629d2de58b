//! Liveness and readiness: which dependencies answer, and since when they do or do not.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::config::WithoutRedis;

/// How long a dependency may take to answer.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Remembers since when each dependency has been as it is.
#[derive(Default)]
pub struct Health {
    seen: Mutex<HashMap<&'static str, (bool, Timestamp)>>,
}

/// The body of `/health`.
#[derive(Serialize, utoipa::ToSchema)]
pub struct HealthReport {
    /// `ok`, or `degraded` when a dependency is away.
    pub status: &'static str,
    pub version: &'static str,
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Timestamp,
    /// `connected` or `disconnected`, whichever database it is.
    pub database: &'static str,
    /// The same for the shared state, in memory or in Redis.
    pub state: &'static str,
    /// `connected`, `disconnected` or `not_configured`.
    pub postgres: &'static str,
    /// `connected`, `disconnected` or `not_configured`.
    pub redis: &'static str,
}

/// The body of `/ready`.
#[derive(Serialize, utoipa::ToSchema)]
pub struct ReadyReport {
    /// `ok`, or `degraded` when a dependency is away.
    pub status: &'static str,
    pub ready: bool,
    pub dependencies: Vec<Dependency>,
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct Dependency {
    pub name: &'static str,
    /// What serves it: `sqlite`, `postgres`, `memory`, `redis` or `journal`.
    pub kind: &'static str,
    pub ok: bool,
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    pub detail: Option<String>,
}

/// The routes of the probes.
pub fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default().routes(routes!(health)).routes(routes!(ready))
}

/// Is the process alive, and what does it reach?
#[utoipa::path(get, path = "/health", tag = "operations", responses((status = 200, description = "It lives.", body = HealthReport)))]
pub async fn health(State(app): State<Arc<App>>) -> Json<HealthReport> {
    let dependencies = check(&app).await;
    let find = |name| dependencies.iter().find(|dependency| dependency.name == name);
    let connected =
        |name| if find(name).is_some_and(|dependency| dependency.ok) { "connected" } else { "disconnected" };
    let when = |name, kind| {
        if find(name).is_some_and(|d| d.kind == kind) { connected(name) } else { "not_configured" }
    };
    Json(HealthReport {
        status: if dependencies.iter().all(|dependency| dependency.ok) { "ok" } else { "degraded" },
        version: env!("CARGO_PKG_VERSION"),
        timestamp: Timestamp::now(),
        database: connected("database"),
        state: connected("state"),
        postgres: when("database", "postgres"),
        redis: when("state", "redis"),
    })
}

/// Can calls be served?
#[utoipa::path(get, path = "/ready", tag = "operations",
    responses(
        (status = 200, description = "It is ready.", body = ReadyReport),
        (status = 503, description = "A dependency is away.", body = ReadyReport)
    ))]
pub async fn ready(State(app): State<Arc<App>>) -> Response {
    let dependencies = check(&app).await;
    let ready = dependencies.iter().all(|dependency| dependency.ok);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(ReadyReport { status: if ready { "ok" } else { "degraded" }, ready, dependencies }))
        .into_response()
}

/// Asks each dependency now.
pub async fn check(app: &App) -> Vec<Dependency> {
    let database = tokio::time::timeout(PATIENCE, app.db.ping());
    let state = tokio::time::timeout(PATIENCE, app.state.ping());
    let (database, state) = tokio::join!(database, state);
    let database = match database {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.detail()),
        Err(_) => Some("no answer in time".to_owned()),
    };
    let state = match state {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("no answer in time".to_owned()),
    };
    let goes_on = |problem| format!("{problem}; calls go on, and this replica decides limits alone");
    let alone = app.config.limits.without_redis == WithoutRedis::Local && app.fallback.is_some();
    let state = if alone { state.map(goes_on) } else { state };
    let record = app.gateway.recorder.record.status().failing.map(|(problem, _)| problem);
    let kind = match app.db.backend() {
        entity::Backend::Sqlite => "sqlite",
        entity::Backend::Postgres => "postgres",
    };
    vec![
        app.health.note("database", kind, database),
        app.health.note("state", app.state.name(), state),
        app.health.note("record", "journal", record),
    ]
}

impl Health {
    fn note(&self, name: &'static str, kind: &'static str, problem: Option<String>) -> Dependency {
        let ok = problem.is_none();
        let mut seen = self.seen.lock();
        let entry = seen.entry(name).or_insert_with(|| (ok, Timestamp::now()));
        if entry.0 != ok {
            *entry = (ok, Timestamp::now());
            if let Some(problem) = &problem {
                tracing::error!(dependency = name, problem, "a dependency is away");
            } else {
                tracing::warn!(dependency = name, "a dependency is back");
            }
        }
        Dependency { name, kind, ok, since: entry.1, detail: problem }
    }
}
