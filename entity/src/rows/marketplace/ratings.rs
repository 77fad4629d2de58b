//! Table `mcp_registry_ratings`.

use protocol::TenantId;
use sea_orm::entity::prelude::*;

use crate::marketplace::Rating;
use crate::time;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "mcp_registry_ratings")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: Uuid,
    pub stars: i32,
    pub review: Option<String>,
    pub created_at: i64,
    pub updated_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for Rating {
    fn from(row: Model) -> Self {
        Rating {
            tenant: TenantId(row.tenant_id),
            stars: row.stars,
            review: row.review,
            created_at: time::from_column(row.created_at),
            updated_at: time::from_column(row.updated_at),
        }
    }
}
