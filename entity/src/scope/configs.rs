//! Configs of a tenant: settings for a visible server, of the tenant or of one of its agents.

use protocol::{AgentId, ConfigId};
use sea_orm::{
    ColumnTrait, DatabaseTransaction, EntityTrait, ModelTrait, QueryFilter, QueryOrder, QuerySelect, Select,
};
use serde_json::json;

use crate::actor::Actor;
use crate::change::Event;
use crate::error::{DbError, is_unique_violation};
use crate::page::{Page, Paged};
use crate::rows::server_configs::{ActiveModel, Column, Entity, Model};
use crate::rows::{agents, all_set, servers};
use crate::scope::{TenantScope, paged, refuse_nul_inside};
use crate::server_config::{ConfigFilter, ConfigPatch, ConfigSecrets, NewConfig, ServerConfig};
use crate::time;

impl TenantScope<'_> {
    /// Returns the configs, oldest first.
    pub async fn configs(&self, filter: &ConfigFilter, page: Page) -> Result<Paged<ServerConfig>, DbError> {
        let mut select = self.own_configs().order_by_asc(Column::Id);
        if let Some(server) = filter.server {
            select = select.filter(Column::ServerId.eq(server.0));
        }
        if let Some(AgentId(agent)) = filter.agent {
            select = select.filter(Column::AgentId.eq(agent));
        }
        paged(select, page, self.db.reader()).await?.try_map(|row| row.into_config(&self.db.seal()))
    }

    pub async fn all_configs(&self) -> Result<Vec<ServerConfig>, DbError> {
        let rows = self.own_configs().order_by_asc(Column::Id).all(self.db.reader()).await?;
        let seal = self.db.seal();
        rows.into_iter().map(|row| row.into_config(&seal)).collect()
    }

    pub async fn find_config(&self, id: ConfigId) -> Result<ServerConfig, DbError> {
        let row = self.own_configs().filter(Column::Id.eq(id.0)).one(self.db.reader()).await?;
        row.ok_or(DbError::NotFound)?.into_config(&self.db.seal())
    }

    /// Creates the one config of a server (own or global) for the tenant or one of its agents; a second one
    /// is `Conflict`.
    pub async fn create_config(&self, new: NewConfig, actor: &Actor) -> Result<ServerConfig, DbError> {
        refuse_nul_inside(&json!(new.settings))?;
        let change = self.change(actor).await?;
        self.hold_tenant(&change.tx).await?;
        self.hold_parties(&new, &change.tx).await?;
        let now = time::to_column(time::now());
        let mut row = Model {
            id: ConfigId::new().0,
            tenant_id: self.tenant.0,
            server_id: new.server.0,
            agent_id: new.agent.map(|agent| agent.0),
            settings: json!(new.settings),
            env_sealed: None,
            headers_sealed: None,
            revision: 1,
            created_at: now,
            updated_at: now,
        };
        let seal = self.db.seal();
        row.put(&new.secrets, &seal);
        Entity::insert::<ActiveModel>(all_set(row.clone()))
            .exec_without_returning(&change.tx)
            .await
            .map_err(|error| match is_unique_violation(&error) {
                true => DbError::Conflict("a config for this server and agent exists".to_owned()),
                false => error.into(),
            })?;
        let event = self.config_event("config.create", &row, &new.secrets);
        change.commit([event]).await?;
        row.into_config(&seal)
    }

    /// Changes a config. `expected_revision` is the one that the caller has seen.
    pub async fn update_config(
        &self,
        id: ConfigId,
        patch: ConfigPatch,
        expected_revision: Option<i32>,
        actor: &Actor,
    ) -> Result<ServerConfig, DbError> {
        let change = self.change(actor).await?;
        let before = self.own_config(id, &change.tx).await?;
        if expected_revision.is_some_and(|expected| expected != before.revision) {
            return Err(DbError::RevisionMismatch);
        }
        let seal = self.db.seal();
        let config = before.clone().into_config(&seal)?;
        let (mut settings, mut secrets) = (config.settings.clone(), config.secrets.clone());
        patch.apply(&mut settings, &mut secrets)?;
        if settings == config.settings && secrets == config.secrets {
            return Ok(config);
        }
        refuse_nul_inside(&json!(settings))?;
        let mut row = Model { settings: json!(settings), ..before };
        row.put(&secrets, &seal);
        row.revision += 1;
        row.updated_at = time::to_column(time::now());
        Entity::update::<ActiveModel>(all_set(row.clone())).exec(&change.tx).await?;
        let event = self.config_event("config.update", &row, &secrets);
        change.commit([event]).await?;
        row.into_config(&seal)
    }

    pub async fn delete_config(&self, id: ConfigId, actor: &Actor) -> Result<(), DbError> {
        let change = self.change(actor).await?;
        let row = self.own_config(id, &change.tx).await?;
        let secrets = row.clone().into_config(&self.db.seal())?.secrets;
        let event = self.config_event("config.delete", &row, &secrets);
        row.delete(&change.tx).await?;
        change.commit([event]).await
    }

    fn own_configs(&self) -> Select<Entity> {
        Entity::find().filter(Column::TenantId.eq(self.tenant.0))
    }

    async fn own_config(&self, id: ConfigId, tx: &DatabaseTransaction) -> Result<Model, DbError> {
        let row = self.own_configs().filter(Column::Id.eq(id.0)).lock_exclusive().one(tx).await?;
        row.ok_or(DbError::NotFound)
    }

    /// Requires that server and agent exist for this tenant, and keeps both until the transaction ends.
    async fn hold_parties(&self, new: &NewConfig, tx: &DatabaseTransaction) -> Result<(), DbError> {
        let server = self.visible().filter(servers::Column::Id.eq(new.server.0)).lock_shared().one(tx);
        server.await?.ok_or(DbError::NotFound)?;
        if let Some(agent) = new.agent {
            let agent = self.live_agents().filter(agents::Column::Id.eq(agent.0)).lock_shared().one(tx);
            agent.await?.ok_or(DbError::NotFound)?;
        }
        Ok(())
    }

    fn config_event(&self, action: &'static str, row: &Model, secrets: &ConfigSecrets) -> Event {
        let details = json!({
            "server": protocol::ServerId(row.server_id),
            "agent": row.agent_id.map(AgentId),
            "settings": row.settings,
            "env": secrets.env,
            "headers": secrets.headers,
            "revision": row.revision,
        });
        Event { tenant: Some(self.tenant), action, target: ConfigId(row.id).to_string(), details }
    }
}
