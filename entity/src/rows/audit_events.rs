//! Table `audit_events`.

use protocol::{AgentId, AuditId, CredentialId, RequestId, TenantId};
use sea_orm::entity::prelude::*;

use crate::audit::AuditEvent;
use crate::time;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_events")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub at: i64,
    pub tenant_id: Option<Uuid>,
    pub actor_tenant_id: Uuid,
    pub actor_agent_id: Option<Uuid>,
    pub actor_credential_id: Option<Uuid>,
    pub actor_kind: String,
    pub request_id: Uuid,
    pub ip: Option<String>,
    pub action: String,
    pub target: String,
    pub details: Json,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for AuditEvent {
    fn from(row: Model) -> Self {
        AuditEvent {
            id: AuditId(row.id),
            at: time::from_column(row.at),
            tenant: row.tenant_id.map(TenantId),
            actor_tenant: TenantId(row.actor_tenant_id),
            actor_agent: row.actor_agent_id.map(AgentId),
            actor_credential: row.actor_credential_id.map(CredentialId),
            actor_kind: row.actor_kind,
            request: RequestId(row.request_id),
            ip: row.ip,
            action: row.action,
            target: row.target,
            details: row.details,
        }
    }
}
