//! Findings and last uses of servers per tenant: of a global server, one tenant does not see
//! another's.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

pub struct ServerUsage;

impl MigrationName for ServerUsage {
    fn name(&self) -> &str {
        "m0009_server_usage"
    }
}

const COLUMNS: [&str; 4] = ["tools_count", "capabilities", "discovered_at", "last_used_at"];

#[async_trait::async_trait]
impl MigrationTrait for ServerUsage {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let (uuid, json) = types(manager);
        let connection = manager.get_connection();
        let table = format!(
            "CREATE TABLE mcp_server_usage (
                tenant_id {uuid} NOT NULL REFERENCES tenants (id),
                server_id {uuid} NOT NULL REFERENCES mcp_servers (id) ON DELETE CASCADE,
                tools_count integer,
                capabilities {json},
                discovered_at bigint,
                last_used_at bigint,
                PRIMARY KEY (tenant_id, server_id)
            )"
        );
        connection.execute_unprepared(&table).await?;
        // Nobody knows which tenant the figures of global servers are of.
        let kept = "INSERT INTO mcp_server_usage
            SELECT tenant_id, id, tools_count, capabilities, discovered_at, last_used_at FROM mcp_servers
            WHERE tenant_id IS NOT NULL AND (discovered_at IS NOT NULL OR last_used_at IS NOT NULL)";
        connection.execute_unprepared(kept).await?;
        for column in COLUMNS {
            connection.execute_unprepared(&format!("ALTER TABLE mcp_servers DROP COLUMN {column}")).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let (_, json) = types(manager);
        let connection = manager.get_connection();
        for (column, kind) in COLUMNS.into_iter().zip(["integer", json, "bigint", "bigint"]) {
            connection
                .execute_unprepared(&format!("ALTER TABLE mcp_servers ADD COLUMN {column} {kind}"))
                .await?;
            let back = format!(
                "UPDATE mcp_servers SET {column} = (SELECT {column} FROM mcp_server_usage usage
                 WHERE usage.server_id = mcp_servers.id AND usage.tenant_id = mcp_servers.tenant_id)"
            );
            connection.execute_unprepared(&back).await?;
        }
        connection.execute_unprepared("DROP TABLE mcp_server_usage").await.map(drop)
    }
}

/// Returns the names of the types for ids and JSON.
fn types(manager: &SchemaManager) -> (&'static str, &'static str) {
    match manager.get_database_backend() {
        DbBackend::Postgres => ("uuid", "jsonb"),
        _ => ("uuid_text", "jsonb_text"),
    }
}
