//! Table `mcp_registry_entries`.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "mcp_registry_entries")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    pub tenant_id: Option<Uuid>,
    pub source: String,
    pub category: String,
    pub tags: String,
    pub latest: Option<String>,
    pub stdio: bool,
    pub remote: bool,
    pub search: String,
    pub featured: bool,
    pub verified: bool,
    pub ratings: i64,
    pub stars: i64,
    pub installs: i64,
    pub created_at: i64,
    pub updated_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Returns the column of a list of tags, each between two line ends.
pub(crate) fn tags_column(tags: &[String]) -> String {
    tags.iter().fold("\n".to_owned(), |column, tag| column + tag + "\n")
}

impl Model {
    pub(crate) fn tags(&self) -> Vec<String> {
        self.tags.split('\n').filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
    }
}
