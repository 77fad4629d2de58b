//! Tenant isolation: all queries of tenants' rows. No such query exists outside this folder, and none in it
//! lacks its tenant.

mod agents;
mod audit_events;
mod catalogs;
mod collab;
mod configs;
mod credentials;
mod declare;
mod discoveries;
mod marketplace;
mod record_policies;
mod server_changes;
mod server_rows;
mod server_usage;
mod servers;
mod sessions;
mod tenants;

use protocol::TenantId;
use sea_orm::{DatabaseConnection, DatabaseTransaction, EntityTrait, PaginatorTrait, QuerySelect, Select};
use serde_json::Value;

use crate::actor::Actor;
use crate::change::Change;
use crate::db::Db;
use crate::error::DbError;
use crate::page::{Page, Paged};
use crate::rows::tenants as tenant_rows;

/// Rows of one tenant; ids of other tenants are not found.
#[derive(Clone, Copy)]
pub struct TenantScope<'a> {
    pub(crate) db: &'a Db,
    pub(crate) tenant: TenantId,
}

/// Rows of the whole installation: tenants, global servers, the lookup of an API key.
#[derive(Clone, Copy)]
pub struct OperatorScope<'a> {
    pub(crate) db: &'a Db,
}

impl TenantScope<'_> {
    async fn change<'a>(&self, actor: &'a Actor) -> Result<Change<'a>, DbError> {
        Change::begin(self.db, Some(self.tenant), actor).await
    }

    /// Refuses a new row for a tenant that does not exist (any more), and keeps the tenant until the
    /// transaction ends.
    async fn hold_tenant(&self, tx: &DatabaseTransaction) -> Result<(), DbError> {
        let row = tenant_rows::Entity::find_by_id(self.tenant.0).lock_shared().one(tx).await?;
        row.filter(|row| row.deleted_at.is_none()).map(drop).ok_or(DbError::NotFound)
    }
}

impl OperatorScope<'_> {
    async fn change<'a>(&self, actor: &'a Actor) -> Result<Change<'a>, DbError> {
        Change::begin(self.db, None, actor).await
    }
}

/// Returns one page of `select`, which has an order.
async fn paged<E: EntityTrait>(
    select: Select<E>,
    page: Page,
    db: &DatabaseConnection,
) -> Result<Paged<E::Model>, DbError>
where
    E::Model: Send + Sync,
{
    let total = select.clone().count(db).await?;
    let items = select.limit(page.limit()).offset(page.offset()).all(db).await?;
    Ok(Paged::of(items, page, total))
}

/// Refuses a text with a NUL, which only one of the databases can store.
fn refuse_nul<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<(), DbError> {
    if texts.into_iter().any(|text| text.contains('\0')) {
        return Err(DbError::Invalid("a text contains the character NUL".to_owned()));
    }
    Ok(())
}

/// Refuses JSON with the character NUL, which only one of the databases can store.
fn refuse_nul_inside(value: &Value) -> Result<(), DbError> {
    match value {
        Value::String(text) => refuse_nul([text.as_str()]),
        Value::Array(items) => items.iter().try_for_each(refuse_nul_inside),
        Value::Object(members) => members.iter().try_for_each(|(name, value)| {
            refuse_nul([name.as_str()])?;
            refuse_nul_inside(value)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}
