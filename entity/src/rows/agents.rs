//! Table `agents`.

use protocol::{AgentId, TenantId};
use sea_orm::entity::prelude::*;

use crate::agent::Agent;
use crate::time;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "agents")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub tenant_id: Uuid,
    pub slug: String,
    pub name: String,
    pub created_at: i64,
    pub deleted_at: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for Agent {
    fn from(row: Model) -> Self {
        Agent {
            id: AgentId(row.id),
            tenant: TenantId(row.tenant_id),
            slug: row.slug,
            name: row.name,
            created_at: time::from_column(row.created_at),
        }
    }
}
