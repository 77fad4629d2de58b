//! Queries of audit events, newest first.

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::Value;

use crate::actor::Actor;
use crate::audit::AuditEvent;
use crate::change::Event;
use crate::error::DbError;
use crate::page::{Page, Paged};
use crate::rows::audit_events;
use crate::scope::{OperatorScope, TenantScope, paged};

impl TenantScope<'_> {
    /// Returns this tenant's changes, by any actor.
    pub async fn audit_events(&self, page: Page) -> Result<Paged<AuditEvent>, DbError> {
        let select = audit_events::Entity::find()
            .filter(audit_events::Column::TenantId.eq(self.tenant.0))
            .order_by_desc(audit_events::Column::Id);
        Ok(paged(select, page, self.db.reader()).await?.map(AuditEvent::from))
    }

    /// Writes an audit event of an action that changes no row, before the action.
    pub async fn audit(
        &self,
        action: &'static str,
        target: String,
        details: Value,
        actor: &Actor,
    ) -> Result<(), DbError> {
        let event = Event { tenant: Some(self.tenant), action, target, details };
        self.change(actor).await?.commit_unnumbered([event]).await
    }
}

impl OperatorScope<'_> {
    /// Returns the changes of all tenants.
    pub async fn audit_events(&self, page: Page) -> Result<Paged<AuditEvent>, DbError> {
        let select = audit_events::Entity::find().order_by_desc(audit_events::Column::Id);
        Ok(paged(select, page, self.db.reader()).await?.map(AuditEvent::from))
    }
}
