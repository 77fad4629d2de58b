//! Tenants.

use protocol::TenantId;

use crate::actor::Actor;
use crate::error::DbError;
use crate::page::{Page, Paged};
use crate::scope::{OperatorScope, TenantScope};
use crate::tenant::{NewTenant, Tenant};

impl TenantScope<'_> {
    pub async fn tenant(&self) -> Result<Tenant, DbError> {
        todo!()
    }
}

impl OperatorScope<'_> {
    pub async fn tenants(&self, _page: Page) -> Result<Paged<Tenant>, DbError> {
        todo!()
    }

    pub async fn create_tenant(&self, _new: NewTenant, _actor: &Actor) -> Result<Tenant, DbError> {
        todo!()
    }

    pub async fn find_tenant(&self, _id: TenantId) -> Result<Tenant, DbError> {
        todo!()
    }

    pub async fn find_tenant_by_slug(&self, _slug: &str) -> Result<Tenant, DbError> {
        todo!()
    }

    pub async fn only_tenant(&self) -> Result<Option<Tenant>, DbError> {
        todo!()
    }

    pub async fn delete_tenant(&self, _id: TenantId, _actor: &Actor) -> Result<(), DbError> {
        todo!()
    }
}
