//! Table `mcp_server_configs`.

use protocol::{AgentId, ConfigId, ServerId, TenantId};
use sea_orm::entity::prelude::*;

use crate::error::DbError;
use crate::server_config::ServerConfig;
use crate::time;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "mcp_server_configs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub tenant_id: Uuid,
    pub server_id: Uuid,
    pub agent_id: Option<Uuid>,
    pub settings: Json,
    pub revision: i32,
    pub created_at: i64,
    pub updated_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<Model> for ServerConfig {
    type Error = DbError;

    fn try_from(row: Model) -> Result<Self, DbError> {
        Ok(ServerConfig {
            id: ConfigId(row.id),
            tenant: TenantId(row.tenant_id),
            server: ServerId(row.server_id),
            agent: row.agent_id.map(AgentId),
            settings: serde_json::from_value(row.settings)
                .map_err(|error| DbError::Corrupt(format!("settings of config {}: {error}", row.id)))?,
            revision: row.revision,
            created_at: time::from_column(row.created_at),
            updated_at: time::from_column(row.updated_at),
        })
    }
}
