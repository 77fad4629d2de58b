//! Interface of built-in MCP servers.

use std::any::Any;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::{Caller, Refusal, TenantId};

/// A built-in MCP server; the gateway does the rest of the protocol. Lists may depend on the tenant, its
/// server's settings and the moment; the gateway keeps a list until the server is changed or asked again.
/// The future of a request that is given up or out of time is dropped.
#[async_trait]
pub trait ToolProvider: Send + Sync + 'static {
    fn info(&self) -> ProviderInfo;

    /// Returns the setting that is missing, as a refusal with [`crate::Code::NotConfigured`]: without it the
    /// server has no tools.
    fn not_configured(&self) -> Option<Refusal> {
        None
    }

    /// Checks what the server needs for its tools, such as a database.
    ///
    /// # Errors
    /// The failure, as the operator reads it.
    async fn health(&self) -> Result<(), ProviderError> {
        Ok(())
    }

    /// Returns the tools in the order in which they are listed.
    async fn tools(&self, context: &RequestContext<'_>) -> Result<Vec<ToolDefinition>, ProviderError>;

    /// Calls one tool. `arguments` is a JSON object that fits the tool's input schema.
    ///
    /// # Errors
    /// [`ProviderError::NotFound`] for an unlisted name, [`ProviderError::Failed`] for a failure inside the
    /// tool, which is a result with `isError`.
    async fn call(
        &self,
        context: &RequestContext<'_>,
        tool: &str,
        arguments: &RawValue,
    ) -> Result<ToolOutput, ProviderError>;

    /// Returns whether the server has the capability `resources`.
    fn has_resources(&self) -> bool {
        false
    }

    /// Returns the items of `resources/list` (MCP 2025-11-25, server/resources).
    async fn resources(&self, _context: &RequestContext<'_>) -> Result<Vec<Value>, ProviderError> {
        Ok(Vec::new())
    }

    /// Returns the items of `resources/templates/list`.
    async fn resource_templates(&self, _context: &RequestContext<'_>) -> Result<Vec<Value>, ProviderError> {
        Ok(Vec::new())
    }

    /// Returns the `contents` of one resource.
    async fn read_resource(
        &self,
        _context: &RequestContext<'_>,
        _uri: &str,
    ) -> Result<Vec<Value>, ProviderError> {
        Err(ProviderError::NotFound)
    }

    /// Returns whether the server reports changes of resources and of their list.
    fn has_updates(&self) -> bool {
        false
    }

    /// Calls `changed` after each change of one resource, until the watch is dropped. The changes are those
    /// of all replicas. No caller is known here, so the resource is one that every agent of the tenant reads.
    async fn watch_resource(
        &self,
        _context: &RequestContext<'_>,
        _uri: &str,
        _changed: Changed,
    ) -> Result<Watch, ProviderError> {
        Err(ProviderError::NotFound)
    }

    /// Calls `changed` after each change of a tenant's list of resources, until the watch is dropped.
    fn watch_resource_list(&self, _tenant: TenantId, _changed: Changed) -> Option<Watch> {
        None
    }

    /// Returns whether the server has the capability `prompts`.
    fn has_prompts(&self) -> bool {
        false
    }

    /// Returns the items of `prompts/list` (MCP 2025-11-25, server/prompts).
    async fn prompts(&self, _context: &RequestContext<'_>) -> Result<Vec<Value>, ProviderError> {
        Ok(Vec::new())
    }

    /// Returns the result of `prompts/get`. `arguments` is a JSON object.
    async fn get_prompt(
        &self,
        _context: &RequestContext<'_>,
        _name: &str,
        _arguments: &RawValue,
    ) -> Result<Value, ProviderError> {
        Err(ProviderError::NotFound)
    }
}

/// Callback of a watch; it returns at once.
pub type Changed = Arc<dyn Fn() + Send + Sync>;

/// Guard that ends a watch when it is dropped.
pub struct Watch(#[expect(dead_code, reason = "only its drop counts")] Box<dyn Any + Send + Sync>);

impl Watch {
    pub fn new(guard: impl Any + Send + Sync) -> Self {
        Self(Box::new(guard))
    }
}

/// Context of one request to a provider.
pub struct RequestContext<'a> {
    pub tenant: TenantId,
    /// Sender of the request; none for the gateway's own, such as lists.
    pub caller: Option<&'a Caller>,
    pub deadline: Instant,
    /// Cancellation of work outside the request's future, such as a blocking thread.
    pub cancellation: Cancellation,
    /// Sends `notifications/progress` to a client that asked for it.
    pub progress: &'a (dyn Fn(Progress<'_>) + Send + Sync),
    /// Settings of the server's row: a JSON object.
    pub settings: &'a Value,
    /// Unsealed secrets of the server's row.
    pub secrets: &'a BTreeMap<String, String>,
}

/// Flag of a finished request: answered, given up, or out of time.
#[derive(Clone, Default, Debug)]
pub struct Cancellation(Arc<AtomicBool>);

impl Cancellation {
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Params of `notifications/progress`, without the token; `progress` grows with each.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Progress<'a> {
    pub progress: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<&'a str>,
}

#[derive(Clone, Copy, Debug)]
pub struct ProviderInfo {
    /// Name, and slug of the registration at first boot.
    pub name: &'static str,
    pub title: &'static str,
    pub version: &'static str,
    pub description: &'static str,
}

/// One tool as `tools/list` shows it (MCP 2025-11-25, server/tools).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolDefinition {
    pub name: Cow<'static, str>,
    pub title: Cow<'static, str>,
    pub description: Cow<'static, str>,
    pub input_schema: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
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

/// Result of a tool: a text for the model and the same as structured content.
#[derive(Clone, Debug)]
pub struct ToolOutput {
    pub text: String,
    pub structured: Option<Value>,
}

#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// Absence of such a tool, resource or prompt.
    #[error("not found")]
    NotFound,
    /// Failure that the client, and for a tool the model, reads and may retry.
    #[error("{0}")]
    Failed(String),
    /// Refusal with a code and facts, which a tool's result carries as structured content.
    #[error("{}", .0.reason)]
    Refused(Box<Refusal>),
}

impl From<Refusal> for ProviderError {
    fn from(refusal: Refusal) -> Self {
        ProviderError::Refused(Box::new(refusal))
    }
}
