//! `/v1/audit`: the audit log. Events are written with the changes themselves and only read here.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use entity::AuditEvent;
use protocol::{AgentId, AuditId, CredentialId, RequestId, Scope, TenantId};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::problem::Problem;
use crate::rest::acting::Acting;
use crate::rest::describe::{
    AgentIdText, Always, AuditIdText, Filtered, KeyIdText, Moment, Named, RequestIdText, TenantIdText,
};
use crate::rest::input::{Parameters, parameters};
use crate::rest::listed::PageOf;
use crate::rest::tenancy;

/// One recorded change.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditEvent)]
pub struct AuditEventBody {
    #[schema(value_type = AuditIdText)]
    id: AuditId,
    #[schema(value_type = Moment)]
    at: jiff::Timestamp,
    /// The tenant of the changed object; null for what belongs to the whole installation.
    #[schema(value_type = Option<TenantIdText>)]
    tenant_id: Option<TenantId>,
    actor: ActorBody,
    #[schema(value_type = RequestIdText)]
    request_id: RequestId,
    /// The kind of change.
    #[schema(example = "server.create")]
    action: String,
    /// The id of the changed object.
    #[schema(example = "srv_0190f5d2c3a47b6e8f1a2b3c4d5e6f70")]
    target: String,
    /// The object after the change, without secrets; of a server the whole command line.
    #[schema(value_type = Object)]
    details: Value,
}

/// The author of a change.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditActor)]
pub struct ActorBody {
    #[schema(value_type = TenantIdText)]
    tenant_id: TenantId,
    #[schema(value_type = Option<AgentIdText>)]
    agent_id: Option<AgentId>,
    #[schema(value_type = Option<KeyIdText>)]
    key_id: Option<CredentialId>,
    /// `api_key`, `jwt`, `loopback`, or `gateway` for the gateway itself.
    #[schema(pattern = "^(api_key|jwt|loopback|gateway)$")]
    kind: String,
    ip: Option<String>,
}

impl From<AuditEvent> for AuditEventBody {
    fn from(event: AuditEvent) -> Self {
        Self {
            id: event.id,
            at: event.at,
            tenant_id: event.tenant,
            actor: ActorBody {
                tenant_id: event.actor_tenant,
                agent_id: event.actor_agent,
                key_id: event.actor_credential,
                kind: event.actor_kind,
                ip: event.ip,
            },
            request_id: event.request,
            action: event.action,
            target: event.target,
            details: event.details,
        }
    }
}

/// Lists changes, newest first.
///
/// Needs `servers:write` and `configs:write`, for another tenant or for all `tenants:admin`.
#[utoipa::path(
    get, path = "/v1/audit", tag = "audit",
    params(
        ("tenantId" = Option<String>, Query, description = "The tenant's id or slug; the caller's own when not given. `*` is every tenant and what belongs to none."),
        ("page" = Option<u64>, Query, description = "Which page, from 1.", minimum = 1, maximum = 1_000_000_000),
        ("pageSize" = Option<u64>, Query, description = "Items on a page, 50 when not given.", minimum = 1, maximum = 500),
    ),
    responses((status = 200, description = "The changes.", body = PageOf<AuditEventBody>), Always, Named, Filtered)
)]
pub async fn list_audit_events(
    acting: Acting,
    State(app): State<Arc<App>>,
    query: Parameters,
) -> Result<Json<PageOf<AuditEventBody>>, Problem> {
    tenancy::administers(&acting)?;
    let mut query = query.read()?;
    let tenant = query.optional("tenantId", parameters::any);
    let page = query.page();
    query.finish()?;
    let rows = if tenant.as_deref() == Some("*") {
        acting.require(Scope::TenantsAdmin)?;
        app.db.operator().audit_events(page).await?
    } else {
        let tenant = tenancy::administered(&app, &acting, tenant.as_deref()).await?;
        app.db.tenant(tenant).audit_events(page).await?
    };
    Ok(PageOf::of(rows, AuditEventBody::from))
}
