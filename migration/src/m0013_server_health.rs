//! Last success of each server for a tenant, and the lists of its last discovery, with which the next one is
//! compared.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, text, uuid};

pub struct ServerHealth;

impl MigrationName for ServerHealth {
    fn name(&self) -> &str {
        "m0013_server_health"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for ServerHealth {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        connection
            .execute_unprepared("ALTER TABLE mcp_server_usage ADD COLUMN last_success_at bigint")
            .await?;
        manager.create_table(discoveries()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("mcp_discoveries").to_owned()).await?;
        let connection = manager.get_connection();
        connection
            .execute_unprepared("ALTER TABLE mcp_server_usage DROP COLUMN last_success_at")
            .await
            .map(drop)
    }
}

/// Defines the discovered lists, a row per list. `items` is JSON as text: names may hold U+0000, which `jsonb`
/// refuses.
fn discoveries() -> TableCreateStatement {
    Table::create()
        .table("mcp_discoveries")
        .col(uuid("tenant_id"))
        .col(uuid("server_id"))
        .col(text("list"))
        .col(text("items"))
        .col(big_integer("listed_at"))
        .primary_key(Index::create().col("tenant_id").col("server_id").col("list"))
        .foreign_key(ForeignKey::create().from("mcp_discoveries", "tenant_id").to("tenants", "id"))
        .foreign_key(ForeignKey::create().from("mcp_discoveries", "server_id").to("mcp_servers", "id"))
        .to_owned()
}
