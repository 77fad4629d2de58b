//! Table `mcp_sessions`.

use sea_orm::entity::prelude::*;

use crate::session::SessionRow;
use crate::time;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "mcp_sessions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Blob")]
    pub id_hash: Vec<u8>,
    pub tenant_id: Uuid,
    pub principal: String,
    pub endpoint: String,
    pub facts: String,
    pub created_at: i64,
    pub seen_at: i64,
    pub expires_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for SessionRow {
    fn from(row: Model) -> Self {
        SessionRow {
            principal: row.principal,
            endpoint: row.endpoint,
            facts: row.facts,
            created_at: time::from_column(row.created_at),
            seen_at: time::from_column(row.seen_at),
            expires_at: time::from_column(row.expires_at),
        }
    }
}
