//! `/v1/leases`: live leases, and their forced release.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use entity::collab::Lease;
use protocol::Scope;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::app::App;
use crate::http::problem::Problem;
use crate::rest::acting::Acting;
use crate::rest::describe::{Always, Filtered, Named, Sent, described};
use crate::rest::input::parameters::any;
use crate::rest::input::{Name, NoBody, Parameters};
use crate::rest::listed::PageOf;
use crate::rest::tasks::agent;
use crate::rest::tenancy;

/// A live lease.
#[derive(Serialize)]
#[serde(transparent)]
pub struct LeaseBody(Lease);

described!(LeaseBody as "Lease", json!({
    "type": "object", "description": "A live lease of a path of a workspace.",
    "required": ["leaseId", "taskId", "path", "shared", "holder", "token", "expiresInMs"],
    "properties": {
        "leaseId": {"type": "string", "format": "uuid"},
        "taskId": {"type": "string"},
        "path": {"type": "string", "description": "A path, or a pattern with `*`, `?` and `**`."},
        "shared": {"type": "boolean"},
        "holder": {"type": "string", "description": "The agent."},
        "token": {"type": "integer", "description": "Fencing token: higher than that of every earlier lease."},
        "expiresInMs": {"type": "integer", "description": "What is left by the database's clock."},
    },
}));

/// Lists the live leases, the oldest first.
///
/// Needs `tasks:read`.
#[utoipa::path(
    get, path = "/v1/leases", tag = "tasks",
    params(
        ("taskId" = Option<String>, Query, description = "Leases in this task."),
        ("page" = Option<u64>, Query, description = "Which page, from 1.", minimum = 1, maximum = 1_000_000_000),
        ("pageSize" = Option<u64>, Query, description = "Items on a page, 50 when not given.", minimum = 1, maximum = 500),
    ),
    responses((status = 200, description = "The leases.", body = PageOf<LeaseBody>), Always, Named, Filtered)
)]
pub async fn list_leases(
    acting: Acting,
    State(app): State<Arc<App>>,
    query: Parameters,
) -> Result<Json<PageOf<LeaseBody>>, Problem> {
    let agent = agent(&acting, Scope::TasksRead)?;
    let mut query = query.read()?;
    let task = query.optional("taskId", any);
    let page = query.page();
    query.finish()?;
    Ok(PageOf::of(acting.rows(&app).lease_page(&agent.member, task.as_deref(), page).await?, LeaseBody))
}

/// Ends a lease whoever holds it, and writes an audit event.
///
/// Needs `servers:write` and `configs:write`; an operator names another tenant by `X-Tenant-Id`.
#[utoipa::path(
    delete, path = "/v1/leases/{id}", tag = "tasks",
    params(("id" = String, Path, description = "The lease's id.")),
    responses((status = 200, description = "The lease that ended.", body = LeaseBody), Always, Named, Sent)
)]
pub async fn force_release(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(id): Name,
    _: NoBody,
) -> Result<Json<LeaseBody>, Problem> {
    tenancy::administers(&acting)?;
    let id: Uuid = id.parse().map_err(|_| Problem::not_found("lease"))?;
    Ok(Json(LeaseBody(app.collab.force_release(acting.tenant(), id, &acting.actor()).await?)))
}
