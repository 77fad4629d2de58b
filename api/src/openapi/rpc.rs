//! JSON-RPC 2.0 in the OpenAPI document. The gateway reads and writes these messages byte by byte
//! (`protocol::jsonrpc`), so no type of it has their form.

use std::collections::BTreeMap;

use serde_json::json;
use utoipa::IntoResponses;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};

use crate::rest::describe::shared;
use crate::rest::reference;

shared! {
    RpcRequest json!({
        "type": "object", "description": "A JSON-RPC 2.0 request; without `id` it is a notification.",
        "required": ["jsonrpc", "method"],
        "properties": {
            "jsonrpc": {"type": "string", "pattern": "^2\\.0$", "example": "2.0"},
            "id": reference("RpcId"),
            "method": {"type": "string", "example": "tools/call", "description": METHODS},
            "params": {"type": ["object", "array", "null"], "description": "An object; a list is refused as parameters are named."},
        },
    });
    RpcBody json!({
        "description": "One request, or a batch of at most 100.",
        "oneOf": [reference("RpcRequest"), {"type": "array", "items": reference("RpcRequest")}],
    });
    RpcId json!({
        "description": "A text or a number.",
        "oneOf": [{"type": "string"}, {"type": "number"}],
    });
    RpcAnswer json!({
        "type": "object", "required": ["jsonrpc"],
        "description": "A JSON-RPC 2.0 answer: `result`, or `error`. A batch is answered by a list of them.",
        "properties": {
            "jsonrpc": {"type": "string", "example": "2.0"},
            "id": id("The request's id, as it was written; null when it could not be read."),
            "result": {"type": ["object", "null"], "description": "What the server answered, byte for byte."},
            "error": {"oneOf": [reference("RpcError"), {"type": "null"}]},
        },
    });
    RpcAnswers json!({
        "description": "One answer, or those of a batch.",
        "oneOf": [reference("RpcAnswer"), {"type": "array", "items": reference("RpcAnswer")}],
    });
    RpcError json!({
        "type": "object", "required": ["code", "message"],
        "properties": {
            "code": {"type": "integer", "format": "int32", "example": 40300, "description": CODES},
            "message": {"type": "string"},
            "data": {"oneOf": [reference("RpcErrorFacts"), {"type": "null"}]},
        },
    });
    RpcErrorFacts json!({
        "type": "object", "description": "Why, in the words of a problem.",
        "required": ["code", "reason", "requestId"],
        "properties": {
            "code": {"type": "string", "example": "denied_by_policy"},
            "reason": {"type": "string"},
            "rule": {"type": ["string", "null"]},
            "since": {"type": ["string", "null"]},
            "hint": {"type": ["string", "null"]},
            "retryAfterMs": {"type": ["integer", "null"], "format": "int64", "minimum": 0},
            "requestId": {"type": "string"},
        },
    });
}

const METHODS: &str = "`ping`, `initialize`, `tools/list`, `tools/call`, `resources/list`, \
    `resources/templates/list`, `resources/read`, `prompts/list`, `prompts/get`, `completion/complete`, \
    `mcp.listServices`, `mcp.describeService`, `mcp.execute`.";

const CODES: &str = "JSON-RPC's own, or 40100 unauthenticated, 40300 denied, 40400 not found, 40900 conflict, \
    42900 limited, 49900 cancelled, 50200 upstream failed, 50300 unavailable, 50400 timed out.";

fn id(about: &str) -> serde_json::Value {
    json!({"oneOf": [{"$ref": reference("RpcId")["$ref"], "description": about}, {"type": "null"}]})
}

/// Responses of each JSON-RPC endpoint.
pub struct RpcAlways;

impl IntoResponses for RpcAlways {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        errors([
            (401, "No credential, or one that is not valid: 40100."),
            (403, "Host, Origin, or the scope `tools:call` is missing: 40300."),
            (429, "Too often; `Retry-After` says when it may be tried again: 42900."),
            (503, "Something that is needed is away: 50300."),
        ])
    }
}

/// Responses of JSON-RPC endpoints that take a body.
pub struct RpcSent;

impl IntoResponses for RpcSent {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        errors([
            (413, "The body is larger than the gateway takes."),
            (415, "The body is not `application/json`."),
        ])
    }
}

fn errors<const N: usize>(statuses: [(u16, &str); N]) -> BTreeMap<String, RefOr<Response>> {
    let answer = || ContentBuilder::new().schema(Some(Ref::from_schema_name("RpcAnswer"))).build();
    let error =
        |about| ResponseBuilder::new().description(about).content("application/json", answer()).build();
    statuses.map(|(status, about)| (status.to_string(), error(about).into())).into()
}
