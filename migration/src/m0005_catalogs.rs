//! Stored catalogs: the lists and the handshake that a server last answered a tenant, so that they are known
//! without starting the server.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, integer, text, uuid};

pub struct Catalogs;

impl MigrationName for Catalogs {
    fn name(&self) -> &str {
        "m0005_catalogs"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Catalogs {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(catalogs()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("mcp_catalogs").to_owned()).await
    }
}

/// Defines the catalogs, a row per part. `declared` are the client capabilities that the handshake named, as
/// bits. `body` is text and not JSON, so that it comes back as the server wrote it.
fn catalogs() -> TableCreateStatement {
    Table::create()
        .table("mcp_catalogs")
        .col(uuid("tenant_id"))
        .col(uuid("server_id"))
        .col(text("era"))
        .col(big_integer("declared"))
        .col(text("part"))
        .col(integer("revision"))
        .col(text("body"))
        .col(big_integer("listed_at"))
        .primary_key(Index::create().col("tenant_id").col("server_id").col("era").col("declared").col("part"))
        .foreign_key(ForeignKey::create().from("mcp_catalogs", "tenant_id").to("tenants", "id"))
        .foreign_key(ForeignKey::create().from("mcp_catalogs", "server_id").to("mcp_servers", "id"))
        .to_owned()
}
