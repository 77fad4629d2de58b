//! Settings of configs in one JSON column, without those that are inherited, so that a further setting needs no
//! step of its own.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

pub struct ConfigSettings;

impl MigrationName for ConfigSettings {
    fn name(&self) -> &str {
        "m0008_config_settings"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for ConfigSettings {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let statements: &[&str] = match manager.get_database_backend() {
            DbBackend::Postgres => &[
                "ALTER TABLE mcp_server_configs ADD COLUMN settings jsonb NOT NULL DEFAULT '{}'",
                "UPDATE mcp_server_configs SET settings = jsonb_strip_nulls(jsonb_build_object(
                    'enabled', enabled, 'allowedTools', allowed_tools, 'blockedTools', blocked_tools,
                    'timeoutMs', timeout_ms))",
            ],
            _ => &[
                "ALTER TABLE mcp_server_configs ADD COLUMN settings jsonb_text NOT NULL DEFAULT '{}'",
                // A merge patch leaves out what is null (RFC 7396).
                "UPDATE mcp_server_configs SET settings = json_patch('{}', json_object(
                    'enabled', json(CASE enabled WHEN 1 THEN 'true' WHEN 0 THEN 'false' END),
                    'allowedTools', json(allowed_tools), 'blockedTools', json(blocked_tools),
                    'timeoutMs', timeout_ms))",
            ],
        };
        for statement in statements {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        for column in ["enabled", "allowed_tools", "blocked_tools", "timeout_ms"] {
            let drop = format!("ALTER TABLE mcp_server_configs DROP COLUMN {column}");
            manager.get_connection().execute_unprepared(&drop).await?;
        }
        Ok(())
    }

    /// Brings the four columns back; other settings are lost.
    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let (json, back) = match manager.get_database_backend() {
            DbBackend::Postgres => (
                "jsonb",
                "UPDATE mcp_server_configs SET enabled = (settings->>'enabled')::boolean,
                    allowed_tools = settings->'allowedTools', blocked_tools = settings->'blockedTools',
                    timeout_ms = (settings->>'timeoutMs')::bigint",
            ),
            _ => (
                "jsonb_text",
                "UPDATE mcp_server_configs SET enabled = settings->>'enabled',
                    allowed_tools = settings->'allowedTools', blocked_tools = settings->'blockedTools',
                    timeout_ms = settings->>'timeoutMs'",
            ),
        };
        let columns = [
            ("enabled", "boolean"),
            ("allowed_tools", json),
            ("blocked_tools", json),
            ("timeout_ms", "bigint"),
        ];
        for (column, kind) in columns {
            let add = format!("ALTER TABLE mcp_server_configs ADD COLUMN {column} {kind}");
            manager.get_connection().execute_unprepared(&add).await?;
        }
        manager.get_connection().execute_unprepared(back).await?;
        let settings = "ALTER TABLE mcp_server_configs DROP COLUMN settings";
        manager.get_connection().execute_unprepared(settings).await.map(drop)
    }
}
