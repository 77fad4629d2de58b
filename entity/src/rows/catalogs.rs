//! Table `mcp_catalogs`.

use protocol::ServerId;
use protocol::mcp::Era;
use sea_orm::entity::prelude::*;

use crate::catalog::CatalogPart;
use crate::error::DbError;
use crate::{rows, time};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "mcp_catalogs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub server_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub era: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub declared: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub part: String,
    pub revision: i32,
    pub body: String,
    pub listed_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<Model> for CatalogPart {
    type Error = DbError;

    fn try_from(row: Model) -> Result<Self, DbError> {
        Ok(CatalogPart {
            server: ServerId(row.server_id),
            revision: row.revision,
            era: Era::parse(&row.era).ok_or_else(|| rows::unknown_word("era", &row.era))?,
            declared: row.declared.cast_unsigned(),
            part: row.part,
            body: row.body.into(),
            listed_at: time::from_column(row.listed_at),
        })
    }
}
