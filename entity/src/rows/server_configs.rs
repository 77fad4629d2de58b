//! Table `mcp_server_configs`.

use protocol::{AgentId, ConfigId, ServerId, TenantId};
use sea_orm::entity::prelude::*;

use crate::error::DbError;
use crate::rows::servers::Sealed;
use crate::seal::{Place, Seal};
use crate::secrets::Secrets;
use crate::server_config::{ConfigSecrets, ServerConfig};
use crate::time;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "mcp_server_configs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub tenant_id: Uuid,
    pub server_id: Uuid,
    pub agent_id: Option<Uuid>,
    pub settings: Json,
    #[sea_orm(column_type = "Blob", nullable)]
    pub env_sealed: Option<Vec<u8>>,
    #[sea_orm(column_type = "Blob", nullable)]
    pub headers_sealed: Option<Vec<u8>>,
    pub revision: i32,
    pub created_at: i64,
    pub updated_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    fn place(&self, column: Sealed) -> Place {
        let (row, tenant) = (self.id, Some(self.tenant_id));
        Place { table: "mcp_server_configs", column: column.as_str(), row, tenant }
    }

    /// Returns a sealed column with its place.
    pub(crate) fn sealed(&mut self, column: Sealed) -> (Place, &mut Option<Vec<u8>>) {
        let place = self.place(column);
        match column {
            Sealed::Env => (place, &mut self.env_sealed),
            Sealed::Headers => (place, &mut self.headers_sealed),
        }
    }

    /// Writes secrets into their columns. Sealed values that could not be opened stay as they are.
    pub(crate) fn put(&mut self, secrets: &ConfigSecrets, seal: &Seal) {
        for (column, secrets) in [(Sealed::Env, &secrets.env), (Sealed::Headers, &secrets.headers)] {
            let (place, sealed) = self.sealed(column);
            if let Ok(values) = secrets.expose()
                && Secrets::open(seal, &place, sealed.as_deref()) != *secrets
            {
                *sealed = Secrets::seal(values, seal, &place);
            }
        }
    }

    /// Converts the row. A sealed column that cannot be opened does not hide the row: its [`Secrets`] hold the error.
    pub(crate) fn into_config(mut self, seal: &Seal) -> Result<ServerConfig, DbError> {
        let mut open = |column| {
            let (place, sealed) = self.sealed(column);
            Secrets::open(seal, &place, sealed.as_deref())
        };
        let secrets = ConfigSecrets { env: open(Sealed::Env), headers: open(Sealed::Headers) };
        Ok(ServerConfig {
            id: ConfigId(self.id),
            tenant: TenantId(self.tenant_id),
            server: ServerId(self.server_id),
            agent: self.agent_id.map(AgentId),
            settings: serde_json::from_value(self.settings)
                .map_err(|error| DbError::Corrupt(format!("settings of config {}: {error}", self.id)))?,
            secrets,
            revision: self.revision,
            created_at: time::from_column(self.created_at),
            updated_at: time::from_column(self.updated_at),
        })
    }
}
