//! Table `tenant_changes`: the number of each tenant's newest change.

use sea_orm::entity::prelude::*;

/// Key of the changes that concern all tenants.
pub(crate) const ALL_TENANTS: Uuid = Uuid::nil();

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "tenant_changes")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: Uuid,
    pub number: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
