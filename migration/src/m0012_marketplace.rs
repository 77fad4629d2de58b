//! Marketplace entries with their versions, ratings and installations. Names and versions are ordered by their bytes
//! in both databases, so that a cursor means the same in each.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

pub struct Marketplace;

impl MigrationName for Marketplace {
    fn name(&self) -> &str {
        "m0012_marketplace"
    }
}

const TABLES: [&str; 4] =
    ["mcp_registry_installs", "mcp_registry_ratings", "mcp_registry_versions", "mcp_registry_entries"];

#[async_trait::async_trait]
impl MigrationTrait for Marketplace {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        let (uuid, by_bytes) = types(manager);
        for statement in [entries(uuid, by_bytes), versions(by_bytes), ratings(uuid, by_bytes)] {
            connection.execute_unprepared(&statement).await?;
        }
        connection.execute_unprepared(&installs(uuid, by_bytes)).await?;
        for statement in INDEXES {
            connection.execute_unprepared(statement).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in TABLES {
            manager.get_connection().execute_unprepared(&format!("DROP TABLE {table}")).await?;
        }
        Ok(())
    }
}

const INDEXES: [&str; 3] = [
    "CREATE INDEX mcp_registry_entries_tenant ON mcp_registry_entries (tenant_id)",
    "CREATE INDEX mcp_registry_versions_latest ON mcp_registry_versions (name) WHERE is_latest",
    "CREATE INDEX mcp_registry_ratings_newest ON mcp_registry_ratings (name, updated_at)",
];

/// Defines the entries. `latest` is null when every version is deleted; title, description, transports and `search`
/// are those of the latest version. `tags` has a line end before and after each tag. Without a tenant an entry is of
/// the program or imported, as `source` says.
fn entries(uuid: &str, by_bytes: &str) -> String {
    format!(
        "CREATE TABLE mcp_registry_entries (
            name text {by_bytes} PRIMARY KEY,
            tenant_id {uuid} REFERENCES tenants (id),
            source text NOT NULL,
            category text NOT NULL,
            tags text NOT NULL,
            latest text,
            stdio boolean NOT NULL,
            remote boolean NOT NULL,
            search text NOT NULL,
            featured boolean NOT NULL,
            verified boolean NOT NULL,
            ratings bigint NOT NULL,
            stars bigint NOT NULL,
            installs bigint NOT NULL,
            created_at bigint NOT NULL,
            updated_at bigint NOT NULL
        )"
    )
}

/// Defines the versions. `document` is text and not JSON, so that it comes back as it was published.
fn versions(by_bytes: &str) -> String {
    format!(
        "CREATE TABLE mcp_registry_versions (
            name text {by_bytes} NOT NULL REFERENCES mcp_registry_entries (name),
            version text {by_bytes} NOT NULL,
            title text,
            description text NOT NULL,
            stdio boolean NOT NULL,
            remote boolean NOT NULL,
            document text NOT NULL,
            status text NOT NULL,
            status_message text,
            is_latest boolean NOT NULL,
            published_at bigint NOT NULL,
            updated_at bigint NOT NULL,
            PRIMARY KEY (name, version)
        )"
    )
}

fn ratings(uuid: &str, by_bytes: &str) -> String {
    format!(
        "CREATE TABLE mcp_registry_ratings (
            name text {by_bytes} NOT NULL REFERENCES mcp_registry_entries (name),
            tenant_id {uuid} NOT NULL REFERENCES tenants (id),
            stars integer NOT NULL,
            review text,
            created_at bigint NOT NULL,
            updated_at bigint NOT NULL,
            PRIMARY KEY (name, tenant_id)
        )"
    )
}

fn installs(uuid: &str, by_bytes: &str) -> String {
    format!(
        "CREATE TABLE mcp_registry_installs (
            name text {by_bytes} NOT NULL REFERENCES mcp_registry_entries (name),
            tenant_id {uuid} NOT NULL REFERENCES tenants (id),
            version text NOT NULL,
            installed_at bigint NOT NULL,
            PRIMARY KEY (name, tenant_id)
        )"
    )
}

/// Returns the type of ids, and the collation of texts that are compared by their bytes.
fn types(manager: &SchemaManager) -> (&'static str, &'static str) {
    match manager.get_database_backend() {
        DbBackend::Postgres => ("uuid", "COLLATE \"C\""),
        _ => ("uuid_text", "COLLATE BINARY"),
    }
}
