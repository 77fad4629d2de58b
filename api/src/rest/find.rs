//! Lookup by id or by slug. A name of neither form is not found, like the objects of other tenants.

use entity::{Agent, DbError, Server, Tenant, TenantScope};
use protocol::{AgentId, ServerId, Slug, TenantId};

use crate::app::App;
use crate::http::problem::Problem;

/// Finds a server that the tenant sees: its own, or a global one.
pub async fn server(rows: TenantScope<'_>, name: &str) -> Result<Server, Problem> {
    let found = match (name.parse::<ServerId>(), name.parse::<Slug>()) {
        (Ok(id), _) => rows.find_server(id).await,
        (Err(_), Ok(slug)) => rows.find_server_by_slug(slug.as_str()).await,
        (Err(_), Err(_)) => Err(DbError::NotFound),
    };
    found.map_err(Problem::of("server"))
}

/// Finds an agent of the tenant.
pub async fn agent(rows: TenantScope<'_>, name: &str) -> Result<Agent, Problem> {
    let found = match name.parse::<AgentId>() {
        Ok(id) => rows.find_agent(id).await,
        Err(_) if entity::is_agent_slug(name) => rows.find_agent_by_slug(name).await,
        Err(_) => Err(DbError::NotFound),
    };
    found.map_err(Problem::of("agent"))
}

/// Finds an agent if one is named.
pub async fn agent_if_named(rows: TenantScope<'_>, name: Option<&str>) -> Result<Option<Agent>, Problem> {
    match name {
        Some(name) => agent(rows, name).await.map(Some),
        None => Ok(None),
    }
}

/// Finds any tenant; the handler checks that the caller may know of it.
pub async fn tenant(app: &App, name: &str) -> Result<Tenant, Problem> {
    let operator = app.db.operator();
    let found = match name.parse::<TenantId>() {
        Ok(id) => operator.find_tenant(id).await,
        Err(_) if name.contains('\0') => Err(DbError::NotFound),
        Err(_) => operator.find_tenant_by_slug(name).await,
    };
    found.map_err(Problem::of("tenant"))
}
