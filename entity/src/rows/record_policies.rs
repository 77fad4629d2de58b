//! Table `record_policies`.

use sea_orm::entity::prelude::*;

use crate::error::DbError;
use crate::record_policy::{RecordPolicy, RecordPolicySettings};
use crate::time;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "record_policies")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: Uuid,
    pub settings: Json,
    pub updated_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<Model> for RecordPolicy {
    type Error = DbError;

    fn try_from(row: Model) -> Result<Self, DbError> {
        let settings: RecordPolicySettings = serde_json::from_value(row.settings)
            .map_err(|error| DbError::Corrupt(format!("record policy of {}: {error}", row.tenant_id)))?;
        Ok(RecordPolicy { settings, updated_at: Some(time::from_column(row.updated_at)) })
    }
}
