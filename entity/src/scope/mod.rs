//! Scopes of rows. A query of a tenant's rows outside this folder does not exist, and none in it
//! lacks its tenant.

mod agents;
mod audit_events;
mod configs;
mod credentials;
mod declare;
mod server_changes;
mod server_rows;
mod servers;
mod sessions;
mod tenants;

use protocol::TenantId;
use sea_orm::{DatabaseConnection, DatabaseTransaction, EntityTrait, PaginatorTrait, QuerySelect, Select};

use crate::actor::Actor;
use crate::change::Change;
use crate::db::Db;
use crate::error::DbError;
use crate::page::{Page, Paged};
use crate::rows::tenants as tenant_rows;

/// One tenant's rows. Another tenant's ids are not found through it.
#[derive(Clone, Copy)]
pub struct TenantScope<'a> {
    pub(crate) db: &'a Db,
    pub(crate) tenant: TenantId,
}

/// The scope of the whole installation: tenants, global servers, the look-up of a key.
#[derive(Clone, Copy)]
pub struct OperatorScope<'a> {
    pub(crate) db: &'a Db,
}

impl TenantScope<'_> {
    async fn change<'a>(&self, actor: &'a Actor) -> Result<Change<'a>, DbError> {
        Change::begin(self.db, Some(self.tenant), actor).await
    }

    /// Refuses to make something in a tenant that is not there (any more), and keeps it there until
    /// the transaction ends.
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

/// One page of what `select` gives, which has an order.
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

/// A text with a NUL is storable in one of the databases only, and means nothing to a program.
fn refuse_nul<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<(), DbError> {
    if texts.into_iter().any(|text| text.contains('\0')) {
        return Err(DbError::Invalid("a text contains the character NUL".to_owned()));
    }
    Ok(())
}
