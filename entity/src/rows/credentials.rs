//! Table `credentials`.

use protocol::{AgentId, CredentialId, Scopes, TenantId};
use sea_orm::entity::prelude::*;

use crate::credential::Credential;
use crate::error::DbError;
use crate::{rows, time};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "credentials")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub tenant_id: Uuid,
    pub agent_id: Option<Uuid>,
    pub name: String,
    pub hint: String,
    #[sea_orm(column_type = "Blob")]
    pub secret_hash: Vec<u8>,
    pub scopes: String,
    pub expires_at: Option<i64>,
    pub revoked_at: Option<i64>,
    pub created_at: i64,
    pub last_used_at: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<Model> for Credential {
    type Error = DbError;

    fn try_from(row: Model) -> Result<Self, DbError> {
        Ok(Credential {
            id: CredentialId(row.id),
            tenant: TenantId(row.tenant_id),
            agent: row.agent_id.map(AgentId),
            name: row.name,
            hint: row.hint,
            scopes: Scopes::parse(&row.scopes).map_err(|word| rows::unknown_word("scopes", &word))?,
            expires_at: row.expires_at.map(time::from_column),
            revoked_at: row.revoked_at.map(time::from_column),
            created_at: time::from_column(row.created_at),
            last_used_at: row.last_used_at.map(time::from_column),
        })
    }
}
