//! Table `mcp_server_usage`.

use sea_orm::entity::prelude::*;

use crate::server::ServerUsage;
use crate::time;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "mcp_server_usage")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub server_id: Uuid,
    pub tools_count: Option<i32>,
    pub capabilities: Option<Json>,
    pub discovered_at: Option<i64>,
    pub last_used_at: Option<i64>,
    pub last_success_at: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for ServerUsage {
    fn from(row: Model) -> Self {
        ServerUsage {
            tools_count: row.tools_count,
            capabilities: row.capabilities,
            discovered_at: row.discovered_at.map(time::from_column),
            last_used_at: row.last_used_at.map(time::from_column),
            last_success_at: row.last_success_at.map(time::from_column),
        }
    }
}
