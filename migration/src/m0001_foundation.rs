//! Tenants, agents, credentials, servers, configs, audit events and the change counter.
//!
//! Ids are UUIDs (16 bytes in SQLite), times microseconds since the epoch (UTC). A soft-deleted row stays,
//! and its slug is free again: the unique indexes cover live rows only.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, big_integer_null, blob, blob_null, boolean, boolean_null, integer, integer_null,
    json_binary, json_binary_null, small_integer, text, text_null, uuid, uuid_null,
};

pub struct Foundation;

impl MigrationName for Foundation {
    fn name(&self) -> &str {
        "m0001_foundation"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Foundation {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in
            [tenants(), agents(), credentials(), servers(), configs(), audit_events(), change_counter()]
        {
            manager.create_table(table).await?;
        }
        for statement in INDEXES.iter().chain(&["INSERT INTO change_counter (id, changes) VALUES (1, 0)"]) {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [
            "change_counter",
            "audit_events",
            "mcp_server_configs",
            "mcp_servers",
            "credentials",
            "agents",
            "tenants",
        ] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}

/// Plain SQL that both databases read alike. A null never equals a null in a unique index, so a nullable
/// column of a key gets two indexes.
const INDEXES: &[&str] = &[
    "CREATE UNIQUE INDEX tenants_slug ON tenants (slug) WHERE deleted_at IS NULL",
    "CREATE UNIQUE INDEX agents_slug ON agents (tenant_id, slug) WHERE deleted_at IS NULL",
    "CREATE UNIQUE INDEX credentials_secret_hash ON credentials (secret_hash)",
    "CREATE INDEX credentials_tenant ON credentials (tenant_id)",
    "CREATE UNIQUE INDEX mcp_servers_slug ON mcp_servers (tenant_id, slug) \
     WHERE deleted_at IS NULL AND tenant_id IS NOT NULL",
    "CREATE UNIQUE INDEX mcp_servers_global_slug ON mcp_servers (slug) \
     WHERE deleted_at IS NULL AND tenant_id IS NULL",
    "CREATE UNIQUE INDEX mcp_server_configs_tenant ON mcp_server_configs (tenant_id, server_id) \
     WHERE agent_id IS NULL",
    "CREATE UNIQUE INDEX mcp_server_configs_agent ON mcp_server_configs (tenant_id, server_id, agent_id) \
     WHERE agent_id IS NOT NULL",
    "CREATE INDEX mcp_server_configs_server ON mcp_server_configs (server_id)",
    "CREATE INDEX mcp_server_configs_by_agent ON mcp_server_configs (agent_id)",
    "CREATE INDEX audit_events_tenant ON audit_events (tenant_id, id)",
];

fn id() -> ColumnDef {
    uuid("id").primary_key().take()
}

fn references(table: &'static str, column: &'static str, other: &'static str) -> ForeignKeyCreateStatement {
    ForeignKey::create().from(table, column).to(other, "id").to_owned()
}

fn tenants() -> TableCreateStatement {
    Table::create()
        .table("tenants")
        .col(id())
        .col(text("slug"))
        .col(text("name"))
        .col(big_integer("created_at"))
        .col(big_integer_null("deleted_at"))
        .to_owned()
}

fn agents() -> TableCreateStatement {
    Table::create()
        .table("agents")
        .col(id())
        .col(uuid("tenant_id"))
        .col(text("slug"))
        .col(text("name"))
        .col(big_integer("created_at"))
        .col(big_integer_null("deleted_at"))
        .foreign_key(&mut references("agents", "tenant_id", "tenants"))
        .to_owned()
}

fn credentials() -> TableCreateStatement {
    Table::create()
        .table("credentials")
        .col(id())
        .col(uuid("tenant_id"))
        .col(uuid_null("agent_id"))
        .col(text("name"))
        .col(text("hint"))
        .col(blob("secret_hash"))
        .col(text("scopes"))
        .col(big_integer_null("expires_at"))
        .col(big_integer_null("revoked_at"))
        .col(big_integer("created_at"))
        .col(big_integer_null("last_used_at"))
        .foreign_key(&mut references("credentials", "tenant_id", "tenants"))
        .foreign_key(&mut references("credentials", "agent_id", "agents"))
        .to_owned()
}

/// Defines `mcp_servers`. A null `tenant_id` is a global server. `search` is the text that a search reads,
/// in lower case, made by the program so that both databases find the same.
fn servers() -> TableCreateStatement {
    Table::create()
        .table("mcp_servers")
        .col(id())
        .col(uuid_null("tenant_id"))
        .col(text("slug"))
        .col(text("name"))
        .col(text_null("description"))
        .col(text_null("category"))
        .col(json_binary("tags"))
        .col(text_null("version"))
        .col(text("transport"))
        .col(text_null("command"))
        .col(json_binary("args"))
        .col(blob_null("env_sealed"))
        .col(text_null("cwd"))
        .col(text_null("url"))
        .col(blob_null("headers_sealed"))
        .col(boolean("enabled"))
        .col(big_integer_null("timeout_ms"))
        .col(big_integer_null("start_timeout_ms"))
        .col(integer_null("max_concurrency"))
        .col(json_binary_null("retry"))
        .col(big_integer_null("idle_timeout_ms"))
        .col(text("era"))
        .col(text("managed_by"))
        .col(integer("revision"))
        .col(text("search"))
        .col(integer_null("tools_count"))
        .col(json_binary_null("capabilities"))
        .col(big_integer_null("discovered_at"))
        .col(big_integer_null("last_used_at"))
        .col(big_integer("created_at"))
        .col(big_integer("updated_at"))
        .col(big_integer_null("deleted_at"))
        .foreign_key(&mut references("mcp_servers", "tenant_id", "tenants"))
        .to_owned()
}

/// Defines the configs; a null `agent_id` is the config of the whole tenant.
fn configs() -> TableCreateStatement {
    Table::create()
        .table("mcp_server_configs")
        .col(id())
        .col(uuid("tenant_id"))
        .col(uuid("server_id"))
        .col(uuid_null("agent_id"))
        .col(boolean_null("enabled"))
        .col(json_binary_null("allowed_tools"))
        .col(json_binary_null("blocked_tools"))
        .col(big_integer_null("timeout_ms"))
        .col(json_binary("settings"))
        .col(integer("revision"))
        .col(big_integer("created_at"))
        .col(big_integer("updated_at"))
        .foreign_key(&mut references("mcp_server_configs", "tenant_id", "tenants"))
        .foreign_key(&mut references("mcp_server_configs", "server_id", "mcp_servers"))
        .foreign_key(&mut references("mcp_server_configs", "agent_id", "agents"))
        .to_owned()
}

/// Defines the audit events, without foreign keys: an event outlives its target.
fn audit_events() -> TableCreateStatement {
    Table::create()
        .table("audit_events")
        .col(id())
        .col(big_integer("at"))
        .col(uuid_null("tenant_id"))
        .col(uuid("actor_tenant_id"))
        .col(uuid_null("actor_agent_id"))
        .col(uuid_null("actor_credential_id"))
        .col(text("actor_kind"))
        .col(uuid("request_id"))
        .col(text_null("ip"))
        .col(text("action"))
        .col(text("target"))
        .col(json_binary("details"))
        .to_owned()
}

/// Defines one row. Replicas poll it and drop their caches when it has grown; a row and not a sequence,
/// because its lock makes the number visible in the order of commits.
fn change_counter() -> TableCreateStatement {
    Table::create()
        .table("change_counter")
        .col(small_integer("id").primary_key().take())
        .col(big_integer("changes"))
        .to_owned()
}
