//! Reading audit events.

use crate::audit::AuditEvent;
use crate::error::DbError;
use crate::page::{Page, Paged};
use crate::scope::{OperatorScope, TenantScope};

impl TenantScope<'_> {
    pub async fn audit_events(&self, _page: Page) -> Result<Paged<AuditEvent>, DbError> {
        todo!()
    }
}

impl OperatorScope<'_> {
    pub async fn audit_events(&self, _page: Page) -> Result<Paged<AuditEvent>, DbError> {
        todo!()
    }
}
