//! Sealed environment and headers of configs.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

pub struct ConfigSecrets;

impl MigrationName for ConfigSecrets {
    fn name(&self) -> &str {
        "m0014_config_secrets"
    }
}

const COLUMNS: [&str; 2] = ["env_sealed", "headers_sealed"];

#[async_trait::async_trait]
impl MigrationTrait for ConfigSecrets {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let kind = match manager.get_database_backend() {
            DbBackend::Postgres => "bytea",
            _ => "blob",
        };
        for column in COLUMNS {
            let add = format!("ALTER TABLE mcp_server_configs ADD COLUMN {column} {kind}");
            manager.get_connection().execute_unprepared(&add).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for column in COLUMNS {
            let drop = format!("ALTER TABLE mcp_server_configs DROP COLUMN {column}");
            manager.get_connection().execute_unprepared(&drop).await?;
        }
        Ok(())
    }
}
