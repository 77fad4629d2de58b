#!/usr/bin/env bash
# rmcp 3.9.0 (crate): the kind of a result is told by its members, in a fixed order, and not by the request that
# it answers. MCP lets results have members of their own; a tool's result with the member `messages` or `tools`
# is therefore read as a prompt or a list of tools, and its `content` is gone. A list of resources in which one
# `size` is written as 1.5e3 is no list any more but a custom result.
#
# Seen: "content: CallToolResult, content and messages: GetPromptResult, content and tools: ListToolsResult,
# resources with size 1500: ListResourcesResult, resources with size 1.5e3: CustomResult".
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "finding"
version = "1.0.0"
edition = "2021"

[dependencies]
rmcp = { version = "=3.9.0", default-features = false }
serde_json = "=1.0.154"

[profile.dev]
debug = false
TOML

cat >src/main.rs <<'RUST'
use rmcp::model::{JsonRpcMessage, ServerJsonRpcMessage};
use serde_json::{json, Value};

fn kind(result: &Value) -> String {
    let text = r#"{"jsonrpc":"2.0","id":1,"result":RESULT}"#.replace("RESULT", &result.to_string());
    read(&text)
}

fn read(text: &str) -> String {
    match serde_json::from_str::<ServerJsonRpcMessage>(text) {
        Ok(JsonRpcMessage::Response(answer)) => {
            let shown = format!("{:?}", answer.result);
            shown.split('(').next().unwrap_or_default().to_owned()
        }
        other => format!("{other:?}"),
    }
}

fn main() {
    let content = json!([{ "type": "text", "text": "two messages" }]);
    let resources = r#"{"jsonrpc":"2.0","id":1,"result":{"resources":[{"uri":"a:b","name":"n","size":SIZE}]}}"#;
    println!(
        "content: {}, content and messages: {}, content and tools: {}, \
         resources with size 1500: {}, resources with size 1.5e3: {}",
        kind(&json!({ "content": content })),
        kind(&json!({ "content": content, "messages": [] })),
        kind(&json!({ "content": content, "tools": [] })),
        read(&resources.replace("SIZE", "1500")),
        read(&resources.replace("SIZE", "1.5e3")),
    );
}
RUST

export CARGO_TARGET_DIR="$work/target"
timeout 600 cargo build --quiet
seen="$(timeout 30 target/debug/finding)"
echo "rmcp 3.9.0: $seen"
expected="content: CallToolResult, content and messages: GetPromptResult, content and tools: ListToolsResult, resources with size 1500: ListResourcesResult, resources with size 1.5e3: CustomResult"
[ "$seen" = "$expected" ] || { echo "this has changed; it was: $expected" >&2; exit 1; }
