//! `POST /tools/{name}`: a tool of `collab` as plain JSON.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use protocol::{Code, Refusal, RequestId};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::app::App;
use crate::http::execute::{call_once, failed, refused};
use crate::mcp::builtin_names::{COLLAB, earlier};
use crate::mcp::endpoint::Endpoint;
use crate::mcp::request::{Call, Request as McpRequest, RequestBatch, Target, short_enough};
use crate::mcp::response::{Answer, Reply};
use crate::pipeline::refused::Refused;
use crate::rest::Name;
use crate::rest::describe::{Always, Asked, Contested, Filtered, Named, Sent};

/// Calls one tool of the built-in server `collab`.
///
/// Needs `tools:call`, and `tasks:read` or `tasks:write`. The body is the tool's arguments, the answer its
/// structured result. Names of earlier gateways (`mcp_file_read`) work too.
#[utoipa::path(
    post, path = "/tools/{name}", tag = "tasks",
    params(("name" = String, Path, description = "The tool, such as `file_read`.")),
    request_body = Object,
    responses((status = 200, description = "The tool's structured result.", body = Object), Always, Named, Filtered, Sent, Contested, Asked)
)]
pub async fn call_tool(State(app): State<Arc<App>>, Name(name): Name, request: Request) -> Response {
    call_once(&app, request, &reader(earlier(&name).unwrap_or(&name)), answered).await
}

/// Returns the reader of a body that calls this tool.
fn reader(
    name: &str,
) -> impl for<'b> Fn(&Endpoint, &'b [u8], usize) -> Result<RequestBatch<'b>, Refused> + Send + Sync + 'static
{
    let name = name.to_owned();
    move |_, body, _| read(&name, body)
}

fn read<'b>(name: &str, body: &'b [u8]) -> Result<RequestBatch<'b>, Refused> {
    #[derive(Deserialize)]
    struct Acting<'b> {
        #[serde(borrow)]
        agent_id: Option<Cow<'b, str>>,
    }
    short_enough("name", name)?;
    let arguments: &RawValue = serde_json::from_slice(body)
        .map_err(|error| Refusal::new(Code::ParseError, format!("the body is not JSON: {error}")))?;
    if !arguments.get().starts_with('{') {
        return Err(
            Refusal::new(Code::ValidationFailed, "the body is an object: the tool's arguments").into()
        );
    }
    let Acting { agent_id } = serde_json::from_str(arguments.get())
        .map_err(|error| Refusal::new(Code::ValidationFailed, format!("the body cannot be read: {error}")))?;
    let call = Call {
        target: Target::Own { server: COLLAB.into(), name: name.to_owned().into() },
        agent: agent_id,
        ..Call::of_tool(None, Cow::Borrowed(arguments))
    };
    Ok(RequestBatch::One(McpRequest::Call(call), None))
}

/// Returns the structured result, or the problem that the tool's refusal is.
fn answered(reply: Reply, request: RequestId) -> Response {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct ToolResult {
        structured_content: Option<Value>,
        #[serde(default)]
        is_error: bool,
        #[serde(default)]
        content: Vec<Value>,
    }
    let unreadable = |error: serde_json::Error| {
        refused(Refusal::new(Code::UnreadableAnswer, format!("the answer is not JSON: {error}")), request)
    };
    match reply.answer {
        Answer::Refused(refusal) => refused(refusal, request),
        Answer::Error(error) => match serde_json::from_slice::<Value>(&error) {
            Ok(error) => refused(of_error(&error), request),
            Err(error) => unreadable(error),
        },
        Answer::Result(result) => match serde_json::from_slice::<ToolResult>(&result) {
            Ok(ToolResult { structured_content: Some(content), is_error: false, .. }) => {
                Json(content).into_response()
            }
            Ok(ToolResult { structured_content: Some(Value::Object(facts)), is_error: true, .. }) => {
                failed(of_facts(facts), request)
            }
            Ok(ToolResult { content, .. }) => {
                let text = content.first().and_then(|block| block["text"].as_str()).unwrap_or_default();
                failed(Refusal::new(Code::ValidationFailed, text.to_owned()), request)
            }
            Err(error) => unreadable(error),
        },
    }
}

/// Returns the refusal that a tool's structured result describes.
fn of_facts(mut facts: Map<String, Value>) -> Refusal {
    let mut text = |name: &str| match facts.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    let code = text("code").and_then(|word| Code::ALL.iter().find(|code| code.as_str() == word).copied());
    let reason = text("reason").unwrap_or_else(|| "the tool failed".to_owned());
    let hint = text("hint");
    let mut refusal = Refusal::new(code.unwrap_or(Code::ToolFailed), reason);
    refusal.hint = hint.map(Cow::Owned);
    refusal.facts = (!facts.is_empty()).then(|| Box::new(facts));
    refusal
}

/// Returns the refusal that a JSON-RPC error of a tool call is.
pub fn of_error(error: &Value) -> Refusal {
    let message = error["message"].as_str().unwrap_or("the tool could not be called").to_owned();
    let code = match error["code"].as_i64() == Some(Code::UnknownTool.rpc().into()) {
        true => Code::UnknownTool,
        false => Code::UpstreamFailed,
    };
    Refusal::new(code, message)
}
