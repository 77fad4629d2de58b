//! Indexes for the filters of executions. Each holds the id last, so that matching rows are found newest first;
//! outcomes other than `ok` are few, so that theirs is small.

use sea_orm_migration::prelude::*;

pub struct ExecutionIndexes;

impl MigrationName for ExecutionIndexes {
    fn name(&self) -> &str {
        "m0010_execution_indexes"
    }
}

const INDEXES: [(&str, &str); 4] = [
    ("mcp_tool_executions_by_tool", "(tenant_id, tool, id)"),
    ("mcp_tool_executions_by_agent", "(tenant_id, agent_id, id)"),
    ("mcp_tool_executions_by_server", "(tenant_id, server_slug, id)"),
    ("mcp_tool_executions_not_ok", "(tenant_id, outcome, id) WHERE outcome <> 'ok'"),
];

#[async_trait::async_trait]
impl MigrationTrait for ExecutionIndexes {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (name, columns) in INDEXES {
            let create = format!("CREATE INDEX {name} ON mcp_tool_executions {columns}");
            manager.get_connection().execute_unprepared(&create).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (name, _) in INDEXES {
            manager.get_connection().execute_unprepared(&format!("DROP INDEX {name}")).await?;
        }
        Ok(())
    }
}
