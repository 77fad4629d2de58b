//! Calls of a provider in tests: through the validation and the methods of MCP, without a transport.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::TenantId;
use protocol::mcp::method;
use protocol::provider::{Cancellation, RequestContext, ToolProvider};
use serde_json::{Value, json};

use crate::answers::{Answers, Problem};

/// Returns the result of `tools/call`.
///
/// # Errors
/// The JSON-RPC error, as for an unknown tool. A failure of the tool is a result with `isError`.
pub async fn call(provider: &Arc<dyn ToolProvider>, tool: &str, arguments: Value) -> Result<Value, String> {
    request(provider, method::TOOLS_CALL, json!({ "name": tool, "arguments": arguments })).await
}

/// Returns the result of a request.
///
/// # Errors
/// The JSON-RPC error.
pub async fn request(provider: &Arc<dyn ToolProvider>, asked: &str, params: Value) -> Result<Value, String> {
    let (settings, secrets) = (json!({}), BTreeMap::new());
    let context = RequestContext {
        tenant: TenantId::new(),
        caller: None,
        deadline: Instant::now() + Duration::from_secs(60),
        cancellation: Cancellation::default(),
        progress: &|_| {},
        settings: &settings,
        secrets: &secrets,
    };
    let answers = Answers::new(Arc::clone(provider));
    match answers.answer(&context, asked, params.to_string().as_bytes()).await {
        Ok(result) => serde_json::from_slice(&result).map_err(|error| error.to_string()),
        Err(Problem(code, message)) => Err(format!("{code}: {message}")),
    }
}
