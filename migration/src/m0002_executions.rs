//! Execution records and the replicas that write them.
//!
//! As few indexes as the queries need, since they are most of a row's cost: the key, in which a UUIDv7
//! gives the order of time within a tenant, and the few rows that are running.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, big_integer_null, binary, boolean_null, small_integer_null, text, text_null, uuid, uuid_null,
};

pub struct Executions;

impl MigrationName for Executions {
    fn name(&self) -> &str {
        "m0002_executions"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Executions {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(executions()).await?;
        manager.create_table(replicas()).await?;
        manager
            .get_connection()
            .execute_unprepared(
                "CREATE INDEX mcp_tool_executions_running ON mcp_tool_executions (running_on) \
                 WHERE outcome = 'running'",
            )
            .await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["replicas", "mcp_tool_executions"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}

fn executions() -> TableCreateStatement {
    Table::create()
        .table("mcp_tool_executions")
        .col(uuid("tenant_id"))
        .col(uuid("id"))
        .col(uuid("request_id"))
        .col(uuid_null("trace_id"))
        .col(uuid_null("agent_id"))
        .col(uuid_null("credential_id"))
        .col(text("caller_kind"))
        .col(text("kind"))
        .col(uuid("server_id"))
        .col(text("server_slug"))
        .col(text("tool"))
        .col(text("outcome"))
        .col(big_integer("started_at"))
        .col(big_integer_null("duration_us"))
        .col(big_integer_null("queue_us"))
        .col(big_integer_null("upstream_us"))
        .col(small_integer_null("attempts"))
        .col(text_null("arguments"))
        .col(binary("arguments_digest"))
        .col(big_integer("arguments_bytes"))
        .col(big_integer_null("result_bytes"))
        .col(big_integer_null("tokens_in"))
        .col(big_integer_null("tokens_out"))
        .col(boolean_null("tokens_estimated"))
        .col(text_null("error_code"))
        .col(text_null("error_message"))
        .col(text_null("error_rule"))
        // The replica is set while the call is running.
        .col(uuid_null("running_on"))
        .primary_key(Index::create().col("tenant_id").col("id"))
        .to_owned()
}

fn replicas() -> TableCreateStatement {
    Table::create()
        .table("replicas")
        .col(uuid("id").primary_key())
        .col(big_integer("started_at"))
        .col(big_integer("heartbeat_at"))
        .to_owned()
}
