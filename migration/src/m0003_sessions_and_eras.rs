//! Legacy MCP sessions, so that any replica serves them, and the discovered eras of servers.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, binary, text, uuid};

pub struct SessionsAndEras;

impl MigrationName for SessionsAndEras {
    fn name(&self) -> &str {
        "m0003_sessions_and_eras"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for SessionsAndEras {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(sessions()).await?;
        for statement in COLUMNS {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for column in ["eras_found_at", "eras_found"] {
            let table = Table::alter().table("mcp_servers").drop_column(column).to_owned();
            manager.alter_table(table).await?;
        }
        manager.drop_table(Table::drop().table("mcp_sessions").to_owned()).await
    }
}

/// One column a statement, as SQLite requires.
const COLUMNS: [&str; 2] = [
    "ALTER TABLE mcp_servers ADD COLUMN eras_found text",
    "ALTER TABLE mcp_servers ADD COLUMN eras_found_at bigint",
];

/// Defines the sessions, without an index on `expires_at`: each request moves it, and the sweep that reads
/// it is rare. `facts` is text and not JSON, so that it comes back as it was written.
fn sessions() -> TableCreateStatement {
    Table::create()
        .table("mcp_sessions")
        .col(binary("id_hash").primary_key().take())
        .col(uuid("tenant_id"))
        .col(text("principal"))
        .col(text("endpoint"))
        .col(text("facts"))
        .col(big_integer("created_at"))
        .col(big_integer("seen_at"))
        .col(big_integer("expires_at"))
        .foreign_key(ForeignKey::create().from("mcp_sessions", "tenant_id").to("tenants", "id"))
        .to_owned()
}
