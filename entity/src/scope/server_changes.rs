//! Changes of servers: a tenant's own, and the operator's global ones.

use protocol::{ServerId, TenantId};
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QuerySelect};

use crate::actor::Actor;
use crate::change::{Change, Event};
use crate::db::Db;
use crate::error::{DbError, is_unique_violation};
use crate::rows::servers::{ActiveModel, Column, Entity, Model};
use crate::rows::{all_set, catalogs, discoveries, server_configs};
use crate::scope::server_rows::{apply, event, new_row};
use crate::scope::{OperatorScope, TenantScope};
use crate::server::{ManagedBy, NewServer, Server};
use crate::server_settings::{OPERATIONAL, ServerPatch};
use crate::time;

impl TenantScope<'_> {
    /// Registers a server of the tenant, which hides a global one of the same slug.
    pub async fn create_server(&self, new: NewServer, actor: &Actor) -> Result<Server, DbError> {
        let change = self.change(actor).await?;
        self.hold_tenant(&change.tx).await?;
        create(self.db, change, Some(self.tenant), new).await
    }

    /// Changes an own server. `expected_revision` is the one that the caller has seen.
    pub async fn update_server(
        &self,
        id: ServerId,
        patch: ServerPatch,
        expected_revision: Option<i32>,
        actor: &Actor,
    ) -> Result<Server, DbError> {
        let change = self.change(actor).await?;
        let row = self.own_server(id, &change.tx).await?;
        update(self.db, change, row, patch, expected_revision).await
    }

    /// Deletes an own server with its configs. The slug is free again; executions keep it.
    pub async fn delete_server(&self, id: ServerId, actor: &Actor) -> Result<(), DbError> {
        let change = self.change(actor).await?;
        let row = self.own_server(id, &change.tx).await?;
        let event = remove(self.db, &change.tx, row).await?;
        change.commit([event]).await
    }

    async fn own_server(&self, id: ServerId, tx: &DatabaseTransaction) -> Result<Model, DbError> {
        let row = self.visible().filter(Column::Id.eq(id.0)).lock_exclusive().one(tx).await?;
        let row = row.ok_or(DbError::NotFound)?;
        if row.tenant_id.is_none() { Err(DbError::OperatorOnly) } else { Ok(row) }
    }
}

impl OperatorScope<'_> {
    /// Registers a global server.
    pub async fn create_server(&self, new: NewServer, actor: &Actor) -> Result<Server, DbError> {
        let change = self.change(actor).await?;
        create(self.db, change, None, new).await
    }

    /// Changes a global server. One that the configuration declares is `ManagedByConfig`; of a built-in one
    /// the switch and the limits can be changed, and stay changed.
    pub async fn update_server(
        &self,
        id: ServerId,
        patch: ServerPatch,
        expected_revision: Option<i32>,
        actor: &Actor,
    ) -> Result<Server, DbError> {
        let change = self.change(actor).await?;
        let row = self.global_server(id, &change.tx).await?;
        if row.managed_by == ManagedBy::Config.as_str()
            || row.managed_by == ManagedBy::Builtin.as_str() && !is_operational(&patch)
        {
            return Err(DbError::ManagedByConfig);
        }
        update(self.db, change, row, patch, expected_revision).await
    }

    /// Deletes a global server with every tenant's configs for it.
    pub async fn delete_server(&self, id: ServerId, actor: &Actor) -> Result<(), DbError> {
        let change = self.change(actor).await?;
        let row = self.global_server(id, &change.tx).await?;
        if row.managed_by != ManagedBy::Rest.as_str() {
            return Err(DbError::ManagedByConfig);
        }
        let event = remove(self.db, &change.tx, row).await?;
        change.commit([event]).await
    }

    async fn global_server(&self, id: ServerId, tx: &DatabaseTransaction) -> Result<Model, DbError> {
        let row = self.global().filter(Column::Id.eq(id.0)).lock_exclusive().one(tx).await?;
        row.ok_or(DbError::NotFound)
    }
}

/// Returns whether a patch touches only settings of a built-in server that an operator may change.
fn is_operational(patch: &ServerPatch) -> bool {
    patch.transport.is_none() && patch.names().all(|name| OPERATIONAL.contains(&name))
}

async fn create(
    db: &Db,
    change: Change<'_>,
    tenant: Option<TenantId>,
    new: NewServer,
) -> Result<Server, DbError> {
    let seal = db.seal();
    let row = new_row(tenant, new, ManagedBy::Rest, &seal)?;
    insert(&change.tx, &row).await?;
    change.commit([event("server.create", &row, None, &seal)?]).await?;
    row.into_server(&seal)
}

async fn update(
    db: &Db,
    change: Change<'_>,
    mut row: Model,
    patch: ServerPatch,
    expected_revision: Option<i32>,
) -> Result<Server, DbError> {
    if expected_revision.is_some_and(|expected| expected != row.revision) {
        return Err(DbError::RevisionMismatch);
    }
    let seal = db.seal();
    let changed = apply(&mut row, patch, &seal)?;
    if !changed.is_empty() {
        save(&change.tx, &row).await?;
        change.commit([event("server.update", &row, Some(changed), &seal)?]).await?;
    }
    row.into_server(&seal)
}

pub(super) async fn insert(tx: &DatabaseTransaction, row: &Model) -> Result<(), DbError> {
    Entity::insert::<ActiveModel>(all_set(row.clone())).exec_without_returning(tx).await.map_err(
        |error| match is_unique_violation(&error) {
            true => DbError::SlugTaken { slug: row.slug.clone() },
            false => error.into(),
        },
    )?;
    Ok(())
}

pub(super) async fn save(tx: &DatabaseTransaction, row: &Model) -> Result<(), DbError> {
    Entity::update::<ActiveModel>(all_set(row.clone())).exec(tx).await?;
    Ok(())
}

/// Marks a server deleted, removes its configs, catalogs and discoveries, and forgets its secrets.
pub(super) async fn remove(db: &Db, tx: &DatabaseTransaction, row: Model) -> Result<Event, DbError> {
    let event = event("server.delete", &row, None, &db.seal())?;
    server_configs::Entity::delete_many()
        .filter(server_configs::Column::ServerId.eq(row.id))
        .exec(tx)
        .await?;
    catalogs::Entity::delete_many().filter(catalogs::Column::ServerId.eq(row.id)).exec(tx).await?;
    discoveries::Entity::delete_many().filter(discoveries::Column::ServerId.eq(row.id)).exec(tx).await?;
    let gone = Model {
        deleted_at: Some(time::to_column(time::now())),
        env_sealed: None,
        headers_sealed: None,
        ..row
    };
    save(tx, &gone).await?;
    Ok(event)
}
