//! The trait of a server that we ship: three methods, and the gateway does the rest.

use async_trait::async_trait;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// A built-in MCP server. One implementation runs in process, as a stdio child and behind HTTP.
#[async_trait]
pub trait ToolProvider: Send + Sync + 'static {
    fn info(&self) -> ProviderInfo;

    /// The tools, in the order in which they are listed.
    fn list(&self) -> Vec<ToolDefinition>;

    /// Calls one tool. `arguments` is a JSON object. A name that `list` does not give is
    /// [`ToolFailure::UnknownTool`]; what went wrong inside the tool is [`ToolFailure::Failed`].
    async fn call(&self, tool: &str, arguments: &RawValue) -> Result<ToolOutput, ToolFailure>;
}

#[derive(Clone, Copy, Debug)]
pub struct ProviderInfo {
    /// Also the slug under which it is registered at first boot.
    pub name: &'static str,
    pub title: &'static str,
    pub version: &'static str,
    pub description: &'static str,
}

/// One tool as `tools/list` shows it (MCP 2025-11-25, server/tools).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolDefinition {
    pub name: &'static str,
    pub title: &'static str,
    pub description: &'static str,
    pub input_schema: Value,
    pub output_schema: Value,
    pub annotations: Annotations,
}

/// Hints to the client; never a ground for a decision of the gateway.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Annotations {
    pub read_only_hint: bool,
    pub destructive_hint: bool,
    pub idempotent_hint: bool,
    pub open_world_hint: bool,
}

/// What a tool answered: a text for the model and the same as structured content.
#[derive(Clone, Debug)]
pub struct ToolOutput {
    pub text: String,
    pub structured: Option<Value>,
}

#[derive(Debug, thiserror::Error)]
pub enum ToolFailure {
    #[error("unknown tool")]
    UnknownTool,
    /// The model reads this and can try again.
    #[error("{0}")]
    Failed(String),
}
