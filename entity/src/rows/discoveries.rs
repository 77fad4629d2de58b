//! Table `mcp_discoveries`.

use sea_orm::entity::prelude::*;

use crate::catalog::DiscoveredList;
use crate::error::DbError;
use crate::time;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "mcp_discoveries")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub server_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub list: String,
    pub items: String,
    pub listed_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<Model> for DiscoveredList {
    type Error = DbError;

    fn try_from(row: Model) -> Result<Self, DbError> {
        let items = serde_json::from_str(&row.items)
            .map_err(|error| DbError::Corrupt(format!("column items: {error}")))?;
        Ok(DiscoveredList { list: row.list, items, listed_at: time::from_column(row.listed_at) })
    }
}
