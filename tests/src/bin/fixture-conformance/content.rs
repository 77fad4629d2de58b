//! Tools that answer at once with content of one kind, and the schemas with something to keep in them.

use serde_json::{Value, json};

use crate::call::{Call, Outcome};

/// One red pixel.
pub const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";
/// A sound of no length.
const WAV: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA=";

pub fn say(text: &str) -> Value {
    json!({ "content": [{ "type": "text", "text": text }] })
}

pub fn text(_: &Call) -> Outcome {
    Ok(say("This is a simple text response for testing."))
}

pub fn image(_: &Call) -> Outcome {
    Ok(json!({ "content": [png()] }))
}

pub fn audio(_: &Call) -> Outcome {
    Ok(json!({ "content": [{ "type": "audio", "data": WAV, "mimeType": "audio/wav" }] }))
}

pub fn resource(_: &Call) -> Outcome {
    Ok(json!({ "content": [embedded("test://embedded-resource", "text/plain", "embedded in an answer")] }))
}

pub fn mixed(_: &Call) -> Outcome {
    let text = json!({ "type": "text", "text": "three kinds in one answer" });
    let resource = embedded("test://mixed-content-resource", "application/json", r#"{"kinds":3}"#);
    Ok(json!({ "content": [text, png(), resource] }))
}

pub fn failure(_: &Call) -> Outcome {
    let mut result = say("this tool fails on purpose");
    result["isError"] = json!(true);
    Ok(result)
}

/// Shows the arguments that arrived.
pub fn arguments(call: &Call) -> Outcome {
    Ok(say(&call.params["arguments"].to_string()))
}

pub fn embedded(uri: &str, kind: &str, text: &str) -> Value {
    json!({ "type": "resource", "resource": { "uri": uri, "mimeType": kind, "text": text } })
}

fn png() -> Value {
    json!({ "type": "image", "data": PNG, "mimeType": "image/png" })
}

/// Definitions, an anchor, composition and conditions: what a careless reader drops.
pub fn wide_schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "where",
                "type": "object",
                "properties": { "town": { "type": "string" }, "road": { "type": "string" } },
            },
        },
        "properties": {
            "who": { "type": "string" },
            "home": { "$ref": "#/$defs/address" },
            "by": { "enum": ["letter", "visit"] },
            "stamp": { "type": "integer" },
        },
        "allOf": [{ "anyOf": [{ "required": ["who"] }, { "required": ["home"] }] }],
        "if": { "properties": { "by": { "const": "letter" } }, "required": ["by"] },
        "then": { "required": ["stamp"] },
        "else": { "required": ["home"] },
        "additionalProperties": false,
    })
}

pub fn header_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "region": { "type": "string", "x-mcp-header": "Region" },
            "priority": { "type": "integer", "x-mcp-header": "Priority" },
            "urgent": { "type": "boolean", "x-mcp-header": "Urgent" },
            "note": { "type": "string" },
        },
        "required": ["region"],
    })
}
