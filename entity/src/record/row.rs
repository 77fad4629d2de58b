//! A row of `mcp_tool_executions`, as sea-orm reads it. Rows are written by the feeds.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "mcp_tool_executions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub request_id: Uuid,
    pub trace_id: Option<Uuid>,
    pub agent_id: Option<Uuid>,
    pub credential_id: Option<Uuid>,
    pub caller_kind: String,
    pub kind: String,
    pub server_id: Uuid,
    pub server_slug: String,
    pub tool: String,
    pub outcome: String,
    pub started_at: i64,
    pub duration_us: Option<i64>,
    pub queue_us: Option<i64>,
    pub upstream_us: Option<i64>,
    pub attempts: Option<i16>,
    pub arguments: Option<String>,
    pub arguments_digest: Vec<u8>,
    pub arguments_bytes: i64,
    pub result_bytes: Option<i64>,
    pub tokens_in: Option<i64>,
    pub tokens_out: Option<i64>,
    pub tokens_estimated: Option<bool>,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
    pub error_rule: Option<String>,
    pub running_on: Option<Uuid>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
