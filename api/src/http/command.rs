//! `POST /mcp/execute`: a slash command.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use protocol::{Code, Refusal, RequestId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::execute::{call_once, failed, refused};
use crate::http::tools::of_error;
use crate::mcp::endpoint::Endpoint;
use crate::mcp::execute::of_command;
use crate::mcp::request::{Call, Request as McpRequest, RequestBatch};
use crate::mcp::response::{Answer, Reply};
use crate::pipeline::refused::Refused;
use crate::rest::describe::{AgentSlug, Always, Asked, Contested, Filtered, Named, Sent};

/// Carries a slash command out.
///
/// Needs `tools:call`. `/mcp-SERVICE OPERATION VALUE… --OPTION=VALUE…` calls a tool of any registered server: the
/// service is its slug, the operation its tool in kebab, snake, spaced or camel case. Values without an option
/// fill the required parameters in their order. Without an operation the answer lists them.
#[utoipa::path(
    post, path = "/mcp/execute", tag = "call", request_body = Command,
    responses((status = 200, description = "What the tool answered.", body = Carried), Always, Named, Filtered, Sent, Contested, Asked)
)]
pub async fn execute_command(State(app): State<Arc<App>>, request: Request) -> Response {
    call_once(&app, request, &read, answered).await
}

/// The body of `POST /mcp/execute`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"command": "/mcp-calculator add 2 3"}))]
struct Command<'a> {
    #[serde(borrow)]
    #[schema(max_length = 65_536, pattern = "^[ \\t\\n]*/mcp-[a-z][a-z0-9-]*([ \\t\\n]|$)")]
    command: Cow<'a, str>,
    /// The agent that calls, for a caller without an agent of its own.
    #[serde(borrow)]
    #[schema(value_type = Option<AgentSlug>)]
    agent_id: Option<Cow<'a, str>>,
}

/// The answer to a slash command, as `mcp.execute` gives it.
#[derive(Serialize, ToSchema)]
struct Carried {
    #[schema(pattern = "^success$")]
    status: String,
    data: Value,
    metadata: CarriedMetadata,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CarriedMetadata {
    /// Milliseconds.
    #[schema(minimum = 0)]
    execution_time: u64,
    #[schema(minimum = 0)]
    tokens_used: u64,
}

fn read<'a>(_: &Endpoint, body: &'a [u8], _: usize) -> Result<RequestBatch<'a>, Refused> {
    let Command { command, agent_id } =
        serde_json::from_slice(body).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => {
                Refusal::new(Code::ValidationFailed, format!("the body cannot be read: {error}"))
                    .hint(r#"{"command": "/mcp-SERVICE OPERATION …"}"#)
            }
            _ => Refusal::new(Code::ParseError, format!("the body is not JSON: {error}")),
        })?;
    let call = Call { agent: agent_id, ..of_command(None, &command)? };
    Ok(RequestBatch::One(McpRequest::Call(call), None))
}

fn answered(reply: Reply, request: RequestId) -> Response {
    match reply.answer {
        Answer::Result(result) => ([(CONTENT_TYPE, "application/json")], result).into_response(),
        // The call is on record; the failure is the tool's or the server's.
        Answer::Refused(refusal) if reply.facts.is_some() => failed(refusal, request),
        Answer::Refused(refusal) => refused(refusal, request),
        Answer::Error(error) => match serde_json::from_slice::<Value>(&error) {
            Ok(error) => failed(of_error(&error), request),
            Err(error) => {
                let reason = format!("the server's answer is no JSON: {error}");
                failed(Refusal::new(Code::UnreadableAnswer, reason), request)
            }
        },
    }
}
