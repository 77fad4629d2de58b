//! Liveness and readiness: the state of dependencies, and since when it holds.

use std::collections::HashMap;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;

/// State of each dependency, and since when it holds.
#[derive(Default)]
pub struct Health {
    seen: Mutex<HashMap<&'static str, (bool, Timestamp)>>,
    servers: Mutex<HashMap<&'static str, (ServerState, Timestamp)>>,
}

/// The body of `/health`.
#[derive(Serialize, utoipa::ToSchema)]
pub struct HealthReport {
    /// `healthy`, or `degraded` when a dependency is unavailable.
    pub status: &'static str,
    pub version: &'static str,
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Timestamp,
    /// `connected` or `disconnected`, for either database.
    pub database: &'static str,
    /// `connected` or `disconnected`, for the shared state in memory or in Redis.
    pub state: &'static str,
    /// `connected`, `disconnected` or `not_configured`.
    pub postgres: &'static str,
    /// `connected`, `disconnected` or `not_configured`.
    pub redis: &'static str,
}

/// The body of `/ready`.
#[derive(Serialize, utoipa::ToSchema)]
pub struct ReadyReport {
    /// `ok`, or `degraded` when a dependency is unavailable.
    pub status: &'static str,
    pub ready: bool,
    pub dependencies: Vec<Dependency>,
    /// The built-in servers, on which readiness does not depend.
    pub servers: Vec<BuiltinServer>,
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct Dependency {
    pub name: &'static str,
    /// The implementation: `sqlite`, `postgres`, `memory`, `redis` or `journal`.
    pub kind: &'static str,
    pub ok: bool,
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    pub detail: Option<String>,
}

/// State of a built-in server.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    Ready,
    /// A setting is missing.
    NotConfigured,
    /// A thing that the server needs, such as a database, is away.
    Failing,
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct BuiltinServer {
    pub name: &'static str,
    pub state: ServerState,
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    pub reason: Option<String>,
    /// The remedy.
    pub hint: Option<String>,
}

impl Health {
    /// Returns the state of a built-in server, with the time since which it holds.
    pub fn note_server(
        &self,
        name: &'static str,
        state: ServerState,
        reason: Option<String>,
        hint: Option<String>,
    ) -> BuiltinServer {
        let mut servers = self.servers.lock();
        let entry = servers.entry(name).or_insert_with(|| (state, Timestamp::now()));
        if entry.0 != state {
            *entry = (state, Timestamp::now());
            match &reason {
                Some(reason) => tracing::warn!(server = name, reason, "a built-in server cannot work"),
                None => tracing::info!(server = name, "a built-in server works again"),
            }
        }
        BuiltinServer { name, state, since: entry.1, reason, hint }
    }

    pub fn note(&self, name: &'static str, kind: &'static str, problem: Option<String>) -> Dependency {
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
