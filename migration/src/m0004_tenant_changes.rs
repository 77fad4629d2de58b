//! Newest change number of each tenant, so that replicas rebuild only the changed views. Configs lose a
//! column that was never read.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, json_binary, uuid};

pub struct TenantChanges;

impl MigrationName for TenantChanges {
    fn name(&self) -> &str {
        "m0004_tenant_changes"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for TenantChanges {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(tenant_changes()).await?;
        let index = "CREATE INDEX tenant_changes_number ON tenant_changes (number)";
        manager.get_connection().execute_unprepared(index).await?;
        manager.alter_table(configs().drop_column("settings").take()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.alter_table(configs().add_column(json_binary("settings").default("{}")).take()).await?;
        manager.drop_table(Table::drop().table("tenant_changes").to_owned()).await
    }
}

fn configs() -> TableAlterStatement {
    Table::alter().table("mcp_server_configs").take()
}

/// Defines `tenant_changes`, where `number` is the `change_counter` after the change. No foreign key: the
/// nil UUID stands for changes that concern all tenants.
fn tenant_changes() -> TableCreateStatement {
    Table::create()
        .table("tenant_changes")
        .col(uuid("tenant_id").primary_key().take())
        .col(big_integer("number"))
        .to_owned()
}
