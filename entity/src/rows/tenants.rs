//! Table `tenants`.

use protocol::TenantId;
use sea_orm::entity::prelude::*;

use crate::tenant::Tenant;
use crate::time;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "tenants")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub slug: String,
    pub name: String,
    pub created_at: i64,
    pub deleted_at: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for Tenant {
    fn from(row: Model) -> Self {
        Tenant {
            id: TenantId(row.id),
            slug: row.slug,
            name: row.name,
            created_at: time::from_column(row.created_at),
        }
    }
}
