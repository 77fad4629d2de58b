//! `POST /v1/mcp/execute`: one tool call as plain REST.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use protocol::{Code, ExecutionId, Outcome, Refusal, RequestId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::app::App;
use crate::config::MAX_MILLIS;
use crate::http::problem::Problem;
use crate::http::{request, response};
use crate::mcp::endpoint::Endpoint;
use crate::mcp::inbound::Reader;
use crate::mcp::request::{Call, Request as McpRequest, RequestBatch, Target, short_enough};
use crate::mcp::response::{Answer, Facts, Handled, Replies, Reply};
use crate::ops::metrics;
use crate::pipeline::refused::Refused;
use crate::rest::describe::{AgentSlug, Always, ExecutionIdText, Filtered, Named, Sent};

/// Calls one tool, as plain REST.
///
/// Needs `tools:call`. A failed tool, a time-out and an unavailable server are answered with 200 and that
/// outcome.
#[utoipa::path(
    post, path = "/v1/mcp/execute", tag = "call", request_body = Execute,
    responses((status = 200, description = "How it ended.", body = Executed), Always, Named, Filtered, Sent)
)]
pub async fn execute_tool(State(app): State<Arc<App>>, request: Request) -> Response {
    call_once(&app, request, &read, answered).await
}

/// Serves a request that is one call, in the form that `answered` gives its reply.
pub async fn call_once(
    app: &App,
    request: Request,
    reader: &Reader,
    answered: fn(Reply, RequestId) -> Response,
) -> Response {
    let (parts, body) = request.into_parts();
    let id = request::connection_info(&parts).request;
    let (mut response, rate_limit) =
        match app.gateway.handle(request::inbound(app, &parts, body, reader, &Endpoint::Plain)).await {
            Ok(Handled { rate_limit, replies: Replies::One(Some(reply)), .. }) => {
                (answered(reply, id), rate_limit)
            }
            Ok(handled) => {
                let refusal = Refusal::new(Code::Internal, "one call has one reply");
                (refused(refusal, id), handled.rate_limit)
            }
            Err(Refused { refusal, rate_limit, .. }) => {
                (refused(refusal, id), rate_limit.unwrap_or_default())
            }
        };
    response::set_rate_limit(&mut response, rate_limit);
    response
}

/// The body of `POST /v1/mcp/execute`: one call.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({"server": "calculator", "tool": "add", "arguments": {"a": 2, "b": 3}}))]
struct Execute<'a> {
    /// The server's slug or id.
    #[serde(borrow)]
    server: Cow<'a, str>,
    /// The server's own name of the tool.
    #[serde(borrow)]
    tool: Cow<'a, str>,
    #[serde(borrow)]
    #[schema(value_type = Option<Object>)]
    arguments: Option<&'a RawValue>,
    /// The agent that calls, for a caller without an agent of its own.
    #[serde(borrow)]
    #[schema(value_type = Option<AgentSlug>)]
    agent_id: Option<Cow<'a, str>>,
    /// A shorter time-out than the configured one.
    #[schema(minimum = 1, maximum = 86_400_000)]
    timeout_ms: Option<u64>,
}

/// Reads the body of `POST /v1/mcp/execute`.
fn read<'a>(_: &Endpoint, body: &'a [u8], _: usize) -> Result<RequestBatch<'a>, Refused> {
    let execute: Execute<'_> = serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => {
            Refusal::new(Code::ValidationFailed, format!("the body cannot be read: {error}"))
                .hint("{server, tool, arguments, agentId?, timeoutMs?}")
        }
        _ => Refusal::new(Code::ParseError, format!("the body is not JSON: {error}")),
    })?;
    short_enough("tool", &execute.tool)?;
    let arguments = match execute.arguments {
        None => Cow::Owned(serde_json::value::to_raw_value(&serde_json::Map::new()).expect("a map is JSON")),
        Some(arguments) if arguments.get().starts_with('{') => Cow::Borrowed(arguments),
        Some(_) => return Err(Refusal::new(Code::ValidationFailed, "arguments is an object").into()),
    };
    if let Some(timeout) = execute.timeout_ms.filter(|timeout| !(1..=MAX_MILLIS).contains(timeout)) {
        let reason = format!("timeoutMs is a whole number from 1 to {MAX_MILLIS}, not {timeout}");
        return Err(Refusal::new(Code::ValidationFailed, reason).into());
    }
    let call = Call {
        target: Target::Own { server: execute.server, name: execute.tool },
        timeout: execute.timeout_ms.map(Duration::from_millis),
        agent: execute.agent_id,
        ..Call::of_tool(None, arguments)
    };
    Ok(RequestBatch::One(McpRequest::Call(call), None))
}

/// The result of a call.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Executed<'a> {
    #[schema(value_type = ExecutionIdText)]
    execution_id: ExecutionId,
    #[schema(value_type = String, pattern = "^(ok|tool_error|protocol_error|timed_out|cancelled|unavailable)$", example = "ok")]
    outcome: Outcome,
    /// The tool's result, byte for byte.
    #[schema(value_type = Option<Object>)]
    result: Option<&'a RawValue>,
    #[schema(value_type = Option<Object>)]
    error: Option<&'a RawValue>,
    #[schema(example = 1.7)]
    duration_ms: f64,
    /// Tokens of arguments and result, estimated: one for four bytes. The record of the execution has the number of
    /// a tokenizer where it says `"tokensEstimated": false`.
    #[schema(example = 24)]
    tokens_used: u32,
}

fn answered(reply: Reply, request: RequestId) -> Response {
    let facts = match (&reply.facts, &reply.answer) {
        (Some(facts), _) => *facts,
        (None, Answer::Refused(refusal)) => return refused(refusal.clone(), request),
        (None, Answer::Result(_) | Answer::Error(_)) => {
            return refused(Refusal::new(Code::Internal, "a call without facts"), request);
        }
    };
    match reply.answer {
        // An unknown tool or server is 404, found before the call or only by it.
        Answer::Refused(refusal) if matches!(refusal.code.http(), 403 | 404 | 422 | 429) => {
            refused(refusal, request)
        }
        Answer::Refused(refusal) => {
            let error = serde_json::value::to_raw_value(&refusal.data(&request)).expect("plain data");
            executed(&facts, None, Some(&error))
        }
        Answer::Error(error) => match serde_json::from_slice(&error) {
            Ok(error) => executed(&facts, None, Some(error)),
            Err(error) => refused(unreadable(&error), request),
        },
        Answer::Result(result) => match serde_json::from_slice(&result) {
            Ok(result) => executed(&facts, Some(result), None),
            Err(error) => refused(unreadable(&error), request),
        },
    }
}

fn unreadable(error: &serde_json::Error) -> Refusal {
    Refusal::new(Code::UnreadableAnswer, format!("the server's answer is no JSON: {error}"))
}

fn executed(facts: &Facts, result: Option<&RawValue>, error: Option<&RawValue>) -> Response {
    Json(Executed {
        execution_id: facts.execution,
        outcome: facts.outcome,
        result,
        error,
        duration_ms: facts.duration.as_micros() as f64 / 1000.0,
        tokens_used: facts.tokens_in + facts.tokens_out,
    })
    .into_response()
}

pub fn refused(refusal: Refusal, request: RequestId) -> Response {
    metrics::refused(refusal.code);
    failed(refusal, request)
}

/// Returns the problem of a tool that failed, which is no refusal of the request.
pub fn failed(refusal: Refusal, request: RequestId) -> Response {
    let mut response = Problem::new(refusal.clone(), request).into_response();
    response::set_refusal_headers(&mut response, &refusal);
    response
}
