//! The doors and the health routes, as the document shows them. Their code is elsewhere; the functions
//! here carry descriptions and are never called.

use serde_json::Value;
use utoipa::{OpenApi, ToSchema};

use crate::http::problem::ProblemBody;
use crate::rest::describe::{AgentSlug, Always, ExecutionIdText, Filtered, Named, Sent};

/// What stands beside the routes of REST.
#[derive(OpenApi)]
#[openapi(
    paths(
        call_mcp, listen_mcp, end_mcp, call_mcp_server, listen_mcp_server, end_mcp_server,
        call_rpc, execute_tool, crate::ops::endpoints::health, crate::ops::endpoints::ready),
    components(schemas(RpcRequest, RpcAnswer, RpcError, RpcErrorFacts, ProblemBody<'static>))
)]
pub struct Doors;

/// A JSON-RPC 2.0 request; without `id` it is a notification.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the door reads the envelope itself; this describes it")]
struct RpcRequest {
    #[schema(pattern = "^2\\.0$", example = "2.0")]
    jsonrpc: String,
    /// A text or a number.
    #[schema(value_type = Option<RpcId>)]
    id: Option<Value>,
    /// `ping`, `initialize`, `tools/list`, `tools/call`, `resources/list`, `resources/templates/list`,
    /// `resources/read`, `prompts/list`, `prompts/get`, `completion/complete`, `mcp.listServices`,
    /// `mcp.describeService`, `mcp.execute`.
    #[schema(example = "tools/call")]
    method: String,
    #[schema(value_type = Option<Object>)]
    params: Option<Value>,
}

/// One request, or a batch of at most 100.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "the door reads the envelope itself; this describes it")]
enum RpcBody {
    One(RpcRequest),
    Batch(Vec<RpcRequest>),
}

/// A text or a number.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "the door reads the envelope itself; this describes it")]
enum RpcId {
    Text(String),
    Number(i64),
}

/// A JSON-RPC 2.0 answer: `result`, or `error`. A batch is answered by a list of them.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the door writes the answer itself; this describes it")]
struct RpcAnswer {
    #[schema(example = "2.0")]
    jsonrpc: String,
    /// The request's id, as it was written; null when it could not be read.
    #[schema(value_type = Option<RpcId>)]
    id: Option<Value>,
    /// What the server answered, byte for byte.
    #[schema(value_type = Option<Object>)]
    result: Option<Value>,
    error: Option<RpcError>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "the door writes the answer itself; this describes it")]
struct RpcError {
    /// JSON-RPC's own, or 40100 unauthenticated, 40300 denied, 40400 not found, 40900 conflict, 42900
    /// limited, 49900 cancelled, 50200 upstream failed, 50300 unavailable, 50400 timed out.
    #[schema(example = 40300)]
    code: i32,
    message: String,
    data: Option<RpcErrorFacts>,
}

/// Why, in the words of a problem.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "the door writes the answer itself; this describes it")]
struct RpcErrorFacts {
    #[schema(example = "denied_by_policy")]
    code: String,
    reason: String,
    rule: Option<String>,
    since: Option<String>,
    hint: Option<String>,
    retry_after_ms: Option<u64>,
    request_id: String,
}

/// Serves JSON-RPC 2.0: JSON in, JSON out, no session.
///
/// Needs `tools:call`. Tools are called `slug__tool`. Errors are JSON-RPC errors with HTTP 200, but for
/// what is no request at all, is not allowed in, or comes too often.
#[utoipa::path(
    post, path = "/mcp/rpc", tag = "call",
    request_body(content = RpcBody, description = "One request or a batch.", examples(
        ("call a tool" = (value = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "calculator__add", "arguments": {"a": 2, "b": 3}}}))),
        ("list tools" = (value = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}))),
        ("execute an operation" = (value = json!({"jsonrpc": "2.0", "id": 1, "method": "mcp.execute", "params": {"service": "calculator", "operation": "add", "params": {"a": 2, "b": 3}}}))),
        ("a batch" = (value = json!([{"jsonrpc": "2.0", "id": 1, "method": "ping"}, {"jsonrpc": "2.0", "id": 2, "method": "mcp.listServices"}])))
    )),
    responses(
        (status = 200, description = "The answer, or a list of answers to a batch.", body = RpcAnswer),
        (status = 202, description = "Nothing but notifications: taken, and not answered."),
        (status = 400, description = "Not JSON, or not a request: -32700, -32600.", body = RpcAnswer),
        (status = 401, description = "No credential, or one that is not valid: 40100.", body = RpcAnswer),
        (status = 403, description = "Host, Origin, or the scope `tools:call` is missing: 40300.", body = RpcAnswer),
        (status = 413, description = "The body is larger than the gateway takes.", body = RpcAnswer),
        (status = 415, description = "The body is not `application/json`.", body = RpcAnswer),
        (status = 429, description = "Too often; `Retry-After` says when it may be tried again: 42900.", body = RpcAnswer),
        (status = 503, description = "Something that is needed is away: 50300.", body = RpcAnswer)
    )
)]
#[expect(dead_code, reason = "a description; the door is crate::http::rpc")]
fn call_rpc() {}

macro_rules! mcp_door {
    ($path:literal, $call:ident, $listen:ident, $end:ident $(, $slug:tt)?) => {
        /// Takes one message of an MCP client, over Streamable HTTP.
        ///
        /// Revisions 2024-11-05 to 2025-11-25 begin with `initialize` and then name their `Mcp-Session-Id`;
        /// 2026-07-28 says all in each request's `_meta` and headers. The answer is JSON, or a stream of
        /// server-sent events when something is said before it. Needs `tools:call`.
        #[utoipa::path(
            post, path = $path, tag = "mcp", request_body = RpcBody,
            $(params(("slug" = $slug, Path, description = "The server's slug.", example = "calculator")),)?
            responses(
                (status = 200, description = "The answer, as JSON or as a stream.", body = RpcAnswer),
                (status = 202, description = "A notification, or an answer to a question: taken."),
                (status = 400, description = "No message, no session, or (2026-07-28) headers or `_meta` that are wrong: -32700, -32600, -32602, -32020, -32021, -32022.", body = RpcAnswer),
                (status = 401, description = "No credential, or one that is not valid: 40100.", body = RpcAnswer),
                (status = 403, description = "Host, Origin, or the scope `tools:call` is missing: 40300.", body = RpcAnswer),
                (status = 404, description = "The session is gone, or (2026-07-28) there is no such method: -32601.", body = RpcAnswer),
                (status = 406, description = "The header `Accept` lists neither JSON nor event streams.", body = RpcAnswer),
                (status = 413, description = "The body is larger than the gateway takes.", body = RpcAnswer),
                (status = 415, description = "The body is not `application/json`.", body = RpcAnswer),
                (status = 429, description = "Too often; `Retry-After` says when it may be tried again: 42900.", body = RpcAnswer),
                (status = 503, description = "Something that is needed is away: 50300.", body = RpcAnswer)
            )
        )]
        #[expect(dead_code, reason = "a description; the door is crate::http::streamable")]
        fn $call() {}

        /// Reads what a legacy session is told outside its requests.
        ///
        /// A stream of server-sent events; `Last-Event-ID` goes on with one that was cut off.
        #[utoipa::path(
            get, path = $path, tag = "mcp",
            params(
                $(("slug" = $slug, Path, description = "The server's slug.", example = "calculator"),)?
                ("Mcp-Session-Id" = Option<String>, Header, description = "The session.")
            ),
            responses(
                (status = 200, description = "The stream.", content_type = "text/event-stream", body = String),
                (status = 400, description = "A header that cannot be read, or a stream that is not here any more.", body = RpcAnswer),
                (status = 401, description = "No credential, or one that is not valid: 40100.", body = RpcAnswer),
                (status = 403, description = "Host, Origin, or the scope `tools:call` is missing: 40300.", body = RpcAnswer),
                (status = 404, description = "The session is gone.", body = RpcAnswer),
                (status = 405, description = "No session was named: there is nothing to be read.", body = RpcAnswer),
                (status = 406, description = "The header `Accept` does not list `text/event-stream`.", body = RpcAnswer),
                (status = 429, description = "Too often: 42900.", body = RpcAnswer),
                (status = 503, description = "Something that is needed is away: 50300.", body = RpcAnswer)
            )
        )]
        #[expect(dead_code, reason = "a description; the door is crate::http::streamable")]
        fn $listen() {}

        /// Ends a legacy session.
        #[utoipa::path(
            delete, path = $path, tag = "mcp",
            params(
                $(("slug" = $slug, Path, description = "The server's slug.", example = "calculator"),)?
                ("Mcp-Session-Id" = Option<String>, Header, description = "The session.")
            ),
            responses(
                (status = 204, description = "It is over, on every replica."),
                (status = 400, description = "A header that cannot be read.", body = RpcAnswer),
                (status = 401, description = "No credential, or one that is not valid: 40100.", body = RpcAnswer),
                (status = 403, description = "Host, Origin, or the scope `tools:call` is missing: 40300.", body = RpcAnswer),
                (status = 404, description = "There is no such session for this caller.", body = RpcAnswer),
                (status = 405, description = "No session was named.", body = RpcAnswer),
                (status = 429, description = "Too often: 42900.", body = RpcAnswer),
                (status = 503, description = "Something that is needed is away: 50300.", body = RpcAnswer)
            )
        )]
        #[expect(dead_code, reason = "a description; the door is crate::http::streamable")]
        fn $end() {}
    };
}

mcp_door!("/mcp", call_mcp, listen_mcp, end_mcp);
mcp_door!("/mcp/s/{slug}", call_mcp_server, listen_mcp_server, end_mcp_server, String);

/// One call.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Execute, example = json!({"server": "calculator", "tool": "add", "arguments": {"a": 2, "b": 3}}))]
#[expect(dead_code, reason = "the door reads the body itself; this describes it")]
struct ExecuteBody {
    /// The server's slug or id.
    server: String,
    /// The server's own name of the tool.
    tool: String,
    #[schema(value_type = Option<Object>)]
    arguments: Option<Value>,
    /// Who calls, of a caller without an agent of its own.
    #[schema(value_type = Option<AgentSlug>)]
    agent_id: Option<String>,
    /// Less than the time-out that is set, when the caller wants less.
    #[schema(minimum = 1, maximum = 86_400_000)]
    timeout_ms: Option<u64>,
}

/// How a call ended.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Executed)]
#[expect(dead_code, reason = "the door writes the answer itself; this describes it")]
struct ExecutedBody {
    #[schema(value_type = ExecutionIdText)]
    execution_id: String,
    #[schema(pattern = "^(ok|tool_error|protocol_error|timed_out|cancelled|unavailable)$", example = "ok")]
    outcome: String,
    /// What the tool answered, byte for byte.
    #[schema(value_type = Option<Object>)]
    result: Option<Value>,
    #[schema(value_type = Option<Object>)]
    error: Option<Value>,
    #[schema(example = 1.7)]
    duration_ms: f64,
    #[schema(example = 24)]
    tokens_used: u32,
}

/// Calls one tool, as plain REST.
///
/// Needs `tools:call`. A tool that failed, a time-out and a server that is away are answers of this:
/// 200 with that outcome.
#[utoipa::path(
    post, path = "/v1/mcp/execute", tag = "call", request_body = ExecuteBody,
    responses((status = 200, description = "How it ended.", body = ExecutedBody), Always, Named, Filtered, Sent)
)]
#[expect(dead_code, reason = "a description; the door is crate::http::execute")]
fn execute_tool() {}
