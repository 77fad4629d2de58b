//! Table `mcp_registry_versions`.

use sea_orm::entity::prelude::*;

use crate::error::DbError;
use crate::marketplace::{EntryVersion, Status};
use crate::{rows, time};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "mcp_registry_versions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub version: String,
    pub title: Option<String>,
    pub description: String,
    pub stdio: bool,
    pub remote: bool,
    pub document: String,
    pub status: String,
    pub status_message: Option<String>,
    pub is_latest: bool,
    pub published_at: i64,
    pub updated_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<Model> for EntryVersion {
    type Error = DbError;

    fn try_from(row: Model) -> Result<Self, DbError> {
        Ok(EntryVersion {
            status: Status::parse(&row.status).ok_or_else(|| rows::unknown_word("status", &row.status))?,
            name: row.name,
            version: row.version,
            document: row.document,
            status_message: row.status_message,
            is_latest: row.is_latest,
            published_at: time::from_column(row.published_at),
            updated_at: time::from_column(row.updated_at),
        })
    }
}
