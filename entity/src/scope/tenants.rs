//! Tenants: created and deleted by the operator, each readable by itself.

use protocol::TenantId;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Select};
use serde_json::json;

use crate::actor::Actor;
use crate::change::Event;
use crate::db::DEFAULT_TENANT;
use crate::error::{DbError, is_unique_violation};
use crate::page::{Page, Paged};
use crate::rows::{
    agents, all_set, catalogs, credentials, discoveries, server_configs, servers, sessions, tenants,
};
use crate::scope::{OperatorScope, TenantScope, paged, refuse_nul};
use crate::tenant::{NewTenant, Tenant, is_tenant_slug};
use crate::time;

impl TenantScope<'_> {
    /// Returns the tenant itself, unless deleted.
    pub async fn tenant(&self) -> Result<Tenant, DbError> {
        self.db.operator().find_tenant(self.tenant).await
    }
}

impl OperatorScope<'_> {
    /// Returns the tenants, by slug.
    pub async fn tenants(&self, page: Page) -> Result<Paged<Tenant>, DbError> {
        let select = live().order_by_asc(tenants::Column::Slug);
        Ok(paged(select, page, self.db.reader()).await?.map(Tenant::from))
    }

    pub async fn create_tenant(&self, new: NewTenant, actor: &Actor) -> Result<Tenant, DbError> {
        self.insert_tenant(TenantId::new(), new, actor).await
    }

    pub async fn find_tenant(&self, id: TenantId) -> Result<Tenant, DbError> {
        let row = live().filter(tenants::Column::Id.eq(id.0)).one(self.db.reader()).await?;
        row.map(Tenant::from).ok_or(DbError::NotFound)
    }

    pub async fn find_tenant_by_slug(&self, slug: &str) -> Result<Tenant, DbError> {
        let row = live().filter(tenants::Column::Slug.eq(slug)).one(self.db.reader()).await?;
        row.map(Tenant::from).ok_or(DbError::NotFound)
    }

    /// Returns the tenant, when there is exactly one.
    pub async fn only_tenant(&self) -> Result<Option<Tenant>, DbError> {
        let mut rows = live().limit(2).all(self.db.reader()).await?;
        Ok(if rows.len() == 1 { rows.pop().map(Tenant::from) } else { None })
    }

    /// Deletes a tenant with its agents, servers, configs and sessions, and revokes its keys. Executions
    /// and audit events stay. The tenant `default` stays too: callers who name none belong to it.
    pub async fn delete_tenant(&self, id: TenantId, actor: &Actor) -> Result<(), DbError> {
        let change = self.change(actor).await?;
        let row = live().filter(tenants::Column::Id.eq(id.0)).lock_exclusive().one(&change.tx).await?;
        let row = row.ok_or(DbError::NotFound)?;
        if row.slug == DEFAULT_TENANT {
            return Err(DbError::Conflict("the tenant `default` cannot be deleted".to_owned()));
        }
        empty_tenant(&change.tx, id).await?;
        let details = json!({ "slug": row.slug, "name": row.name });
        let gone = tenants::Model { deleted_at: Some(time::to_column(time::now())), ..row };
        tenants::Entity::update::<tenants::ActiveModel>(all_set(gone)).exec(&change.tx).await?;
        change
            .commit([Event { tenant: Some(id), action: "tenant.delete", target: id.to_string(), details }])
            .await
    }

    pub(crate) async fn insert_tenant(
        &self,
        id: TenantId,
        new: NewTenant,
        actor: &Actor,
    ) -> Result<Tenant, DbError> {
        if !is_tenant_slug(&new.slug) {
            let rule = "a tenant's slug is 1 to 63 of a-z, 0-9 and '-', and does not begin with '-'";
            return Err(DbError::Invalid(rule.to_owned()));
        }
        refuse_nul([new.name.as_str()])?;
        let change = self.change(actor).await?;
        let row = tenants::Model {
            id: id.0,
            slug: new.slug,
            name: new.name,
            created_at: time::to_column(time::now()),
            deleted_at: None,
        };
        tenants::Entity::insert::<tenants::ActiveModel>(all_set(row.clone()))
            .exec_without_returning(&change.tx)
            .await
            .map_err(|error| match is_unique_violation(&error) {
                true => DbError::SlugTaken { slug: row.slug.clone() },
                false => error.into(),
            })?;
        let details = json!({ "slug": row.slug, "name": row.name });
        change
            .commit([Event { tenant: Some(id), action: "tenant.create", target: id.to_string(), details }])
            .await?;
        Ok(row.into())
    }
}

fn live() -> Select<tenants::Entity> {
    tenants::Entity::find().filter(tenants::Column::DeletedAt.is_null())
}

/// Deletes everything that would work without the tenant's row.
async fn empty_tenant(tx: &DatabaseTransaction, id: TenantId) -> Result<(), DbError> {
    let now = time::to_column(time::now());
    sessions::Entity::delete_many().filter(sessions::Column::TenantId.eq(id.0)).exec(tx).await?;
    server_configs::Entity::delete_many().filter(server_configs::Column::TenantId.eq(id.0)).exec(tx).await?;
    catalogs::Entity::delete_many().filter(catalogs::Column::TenantId.eq(id.0)).exec(tx).await?;
    discoveries::Entity::delete_many().filter(discoveries::Column::TenantId.eq(id.0)).exec(tx).await?;
    servers::Entity::update_many()
        .col_expr(servers::Column::DeletedAt, Expr::value(now))
        .col_expr(servers::Column::EnvSealed, Expr::value(None::<Vec<u8>>))
        .col_expr(servers::Column::HeadersSealed, Expr::value(None::<Vec<u8>>))
        .filter(servers::Column::TenantId.eq(id.0))
        .filter(servers::Column::DeletedAt.is_null())
        .exec(tx)
        .await?;
    credentials::Entity::update_many()
        .col_expr(credentials::Column::RevokedAt, Expr::value(now))
        .filter(credentials::Column::TenantId.eq(id.0))
        .filter(credentials::Column::RevokedAt.is_null())
        .exec(tx)
        .await?;
    agents::Entity::update_many()
        .col_expr(agents::Column::DeletedAt, Expr::value(now))
        .filter(agents::Column::TenantId.eq(id.0))
        .filter(agents::Column::DeletedAt.is_null())
        .exec(tx)
        .await?;
    Ok(())
}
