//! `POST /v1/mcp/execute`: one tool call as plain REST.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use protocol::{Code, ExecutionId, Outcome, Refusal, RequestId};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::problem::Problem;
use crate::http::{request, response};
use crate::mcp::endpoint::{Endpoint, Form};
use crate::mcp::execute::Execute;
use crate::mcp::response::{Answer, Facts, Handled, Replies, Reply};
use crate::ops::metrics;
use crate::rest::describe::{Always, ExecutionIdText, Filtered, Named, Sent};

/// Calls one tool, as plain REST.
///
/// Needs `tools:call`. A tool that failed, a time-out and a server that is away are answers of this:
/// 200 with that outcome.
#[utoipa::path(
    post, path = "/v1/mcp/execute", tag = "call", request_body = Execute,
    responses((status = 200, description = "How it ended.", body = Executed), Always, Named, Filtered, Sent)
)]
pub async fn execute_tool(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let connection = request::connection_info(&parts);
    match app.gateway.handle(request::inbound(&app, &parts, body, Form::Execute, &Endpoint::Plain)).await {
        Ok(Handled { rate_limit, replies: Replies::One(Some(reply)), .. }) => {
            let mut response = answered(reply, connection.request);
            response::set_rate_limit(&mut response, rate_limit);
            response
        }
        Ok(_) => refused(Refusal::new(Code::Internal, "one call has one reply"), connection.request),
        Err(turned_away) => {
            let mut response = refused(turned_away.refusal, connection.request);
            response::set_rate_limit(&mut response, turned_away.rate_limit.unwrap_or_default());
            response
        }
    }
}

/// How a call ended.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Executed<'a> {
    #[schema(value_type = ExecutionIdText)]
    execution_id: ExecutionId,
    #[schema(value_type = String, pattern = "^(ok|tool_error|protocol_error|timed_out|cancelled|unavailable)$", example = "ok")]
    outcome: Outcome,
    /// What the tool answered, byte for byte.
    #[schema(value_type = Option<Object>)]
    result: Option<&'a RawValue>,
    #[schema(value_type = Option<Object>)]
    error: Option<Box<RawValue>>,
    #[schema(example = 1.7)]
    duration_ms: f64,
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
        // What is not there is 404, known before the call or only by it.
        Answer::Refused(refusal) if matches!(refusal.code.http(), 403 | 404 | 422 | 429) => {
            refused(refusal, request)
        }
        Answer::Refused(refusal) => {
            let error = serde_json::value::to_raw_value(&refusal.data(&request)).ok();
            executed(&facts, None, error)
        }
        Answer::Error(error) => executed(&facts, None, serde_json::from_slice(&error).ok()),
        Answer::Result(result) => executed(&facts, serde_json::from_slice(&result).ok(), None),
    }
}

fn executed(facts: &Facts, result: Option<&RawValue>, error: Option<Box<RawValue>>) -> Response {
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

fn refused(refusal: Refusal, request: RequestId) -> Response {
    metrics::refused(refusal.code);
    let mut response = Problem::new(refusal.clone(), request).into_response();
    response::set_refusal_headers(&mut response, &refusal);
    response
}
