//! `/v1/agents`: the named, non-human clients of a tenant. An agent is also created at its first use.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use entity::{Agent, NewAgent, Page};
use protocol::{AgentId, Scope, TenantId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::problem::Problem;
use crate::rest::acting::Acting;
use crate::rest::describe::{
    AgentIdText, AgentSlug, Always, Contested, Filtered, Moment, Named, Sent, TenantIdText, body,
};
use crate::rest::input::{Fields, Name, NoBody, Parameters, Payload, form, parameters};
use crate::rest::listed::{Created, PageOf, created};
use crate::rest::{find, tenancy};

body!(NewAgentBody as "NewAgent", new_agent, "An agent to be made.", {
    "slug": "coder-1", "name": "The first coder"
});

/// Reads the agent, and the tenant that the body names.
fn new_agent(f: &mut Fields) -> Option<(NewAgent, Option<String>)> {
    let slug = f.required("slug", form::agent_slug(), "");
    let name = f.required("name", form::text(1, 200), "1 to 200 characters.");
    let about = "The id or slug of the tenant that is acted for, which may be left out; an operator names \
                 another tenant by `X-Tenant-Id`.";
    let tenant = f.optional("tenantId", form::text(1, 64), about);
    Some((NewAgent { slug: slug?, name: name? }, tenant))
}

/// An agent: a named, non-human client of a tenant.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Agent)]
pub struct AgentBody {
    #[schema(value_type = AgentIdText)]
    id: AgentId,
    #[schema(value_type = TenantIdText)]
    tenant_id: TenantId,
    #[schema(value_type = AgentSlug)]
    slug: String,
    name: String,
    #[schema(value_type = Moment)]
    created_at: jiff::Timestamp,
}

impl From<Agent> for AgentBody {
    fn from(Agent { id, tenant, slug, name, created_at }: Agent) -> Self {
        Self { id, tenant_id: tenant, slug, name, created_at }
    }
}

/// Lists a tenant's agents, by slug.
///
/// Needs `servers:write` and `configs:write`, for another tenant `tenants:admin`.
#[utoipa::path(
    get, path = "/v1/agents", tag = "agents",
    params(
        ("tenantId" = Option<String>, Query, description = "The tenant's id or slug; the caller's own when not given."),
        ("page" = Option<u64>, Query, description = "Which page, from 1.", minimum = 1, maximum = 1_000_000_000),
        ("pageSize" = Option<u64>, Query, description = "Items on a page, 50 when not given.", minimum = 1, maximum = 500),
    ),
    responses((status = 200, description = "The agents.", body = PageOf<AgentBody>), Always, Named, Filtered)
)]
pub async fn list_agents(
    acting: Acting,
    State(app): State<Arc<App>>,
    query: Parameters,
) -> Result<Json<PageOf<AgentBody>>, Problem> {
    tenancy::administers(&acting)?;
    let mut query = query.read()?;
    let tenant = query.optional("tenantId", parameters::any);
    let page = query.page();
    query.finish()?;
    let tenant = tenancy::administered(&app, &acting, tenant.as_deref()).await?;
    let rows = app.db.tenant(tenant).agents(page).await?;
    Ok(PageOf::of(rows, AgentBody::from))
}

/// Creates an agent in the tenant that is acted for.
///
/// Needs `servers:write` and `configs:write`; an operator names another tenant by `X-Tenant-Id`.
#[utoipa::path(
    post, path = "/v1/agents", tag = "agents", request_body = NewAgentBody,
    responses((status = 201, description = "The agent; `Location` is its path.", body = AgentBody), Always, Named, Filtered, Sent, Contested)
)]
pub async fn create_agent(
    acting: Acting,
    State(app): State<Arc<App>>,
    payload: Payload,
) -> Result<Created<AgentBody>, Problem> {
    tenancy::administers(&acting)?;
    let (new, tenant) = payload.read(new_agent)?;
    if let Some(named) = tenant {
        tenancy::acted_for(&app, &acting, &named).await?;
    }
    let agent = acting.rows(&app).create_agent(new, &acting.actor()).await;
    let agent = agent.map_err(Problem::of("tenant"))?;
    Ok(created("/v1/agents", agent.id, agent.into()))
}

/// Finds an agent, by id or slug.
///
/// Needs `servers:write` and `configs:write`; an operator names another tenant by `X-Tenant-Id`.
#[utoipa::path(
    get, path = "/v1/agents/{id}", tag = "agents",
    params(("id" = String, Path, description = "The agent's id or slug.")),
    responses((status = 200, description = "The agent.", body = AgentBody), Always, Named)
)]
pub async fn find_agent(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(name): Name,
) -> Result<Json<AgentBody>, Problem> {
    tenancy::administers(&acting)?;
    Ok(Json(find::agent(acting.rows(&app), &name).await?.into()))
}

/// Deletes an agent with its configs, and revokes its keys.
///
/// The agent's executions stay. Needs `servers:write` and `configs:write`; an operator names another tenant
/// by `X-Tenant-Id`.
#[utoipa::path(
    delete, path = "/v1/agents/{id}", tag = "agents",
    params(("id" = String, Path, description = "The agent's id or slug.")),
    responses((status = 204, description = "It is deleted."), Always, Named, Filtered, Sent)
)]
pub async fn delete_agent(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(name): Name,
    _: NoBody,
) -> Result<StatusCode, Problem> {
    tenancy::administers(&acting)?;
    let agent = find::agent(acting.rows(&app), &name).await?;
    keeps_no_operator_key(&acting, &app, agent.id).await?;
    acting.rows(&app).delete_agent(agent.id, &acting.actor()).await.map_err(Problem::of("agent"))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Refuses to delete the agent of an operator's key, since only an operator revokes such a key.
async fn keeps_no_operator_key(acting: &Acting, app: &App, agent: AgentId) -> Result<(), Problem> {
    for page in 1.. {
        if acting.has(Scope::TenantsAdmin) {
            break;
        }
        let keys = acting.rows(app).credentials(Page::new(page, Page::MAX_SIZE)).await?;
        let operator = keys.items.iter().any(|key| {
            key.agent == Some(agent) && key.revoked_at.is_none() && key.scopes.contains(Scope::TenantsAdmin)
        });
        if operator {
            return acting.require(Scope::TenantsAdmin);
        }
        if page * Page::MAX_SIZE >= keys.total {
            break;
        }
    }
    Ok(())
}
