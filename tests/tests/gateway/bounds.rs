//! Ways around the rules that a reading as an attacker found in the MCP doors, and what one caller may
//! take of what all share.

use tests::{Backend, Case, McpClient, cases, json};

use crate::pair::{DOORS, Door, Pair};

pub const CASES: &[Case] = cases![
    Once: a_request_without_an_id_is_not_carried_out, an_escaped_meta_is_seen, a_doubled_meta_is_refused,
        methods_of_servers_go_nowhere, long_words_are_refused, capabilities_in_other_words_start_nothing;
];

async fn a_request_without_an_id_is_not_carried_out(backend: Backend) {
    let pair = Pair::start(backend, &[]).await;
    let legacy = pair.legacy(Door::One, "2025-11-25", json!({ "sampling": {} })).await;
    for client in [pair.modern(Door::One, json!({})), legacy] {
        client.call("test_simple_text").await.result().await;
        let before = pair.logged("tools/call");
        client.notify("tools/call", json!({ "name": "test_simple_text", "arguments": {} })).await;
        client.notify("notifications/of/somebody", json!({})).await;
        pair.until_logged("notifications/of/somebody", 1).await;
        assert_eq!(pair.logged("tools/call"), before, "no permit, no record, no call");
    }
}

/// What is classified by its `_meta` must be classified however the name is written.
async fn an_escaped_meta_is_seen(backend: Backend) {
    let pair = Pair::start(backend, &[]).await;
    for door in DOORS {
        let client = pair.legacy(door, "2025-11-25", json!({})).await;
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
        let text = r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_\u006deta":{
            "io.modelcontextprotocol/protocolVersion":"2026-07-28",
            "io.modelcontextprotocol/clientCapabilities":{}}}}"#;
        let mut sent = client.send_text(&message, text).await;
        let error = sent.error().await;
        assert_eq!((sent.status, &error["code"]), (400, &json!(-32020)), "it is modern: {error}");
    }
}

async fn a_doubled_meta_is_refused(backend: Backend) {
    let pair = Pair::start(backend, &[]).await;
    let client = pair.legacy(Door::One, "2025-11-25", json!({})).await;
    let message = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call" });
    let text = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"test_tool_with_progress",
        "_meta":{"progressToken":1},"_meta":{"progressToken":2}}}"#;
    let error = client.send_text(&message, text).await.error().await;
    assert_eq!(error["code"], -32602, "{error}");
    assert_eq!(pair.logged("test_tool_with_progress"), 0);
}

async fn methods_of_servers_go_nowhere(backend: Backend) {
    let pair = Pair::start(backend, &[]).await;
    let client = pair.modern(Door::One, json!({}));
    client.call("test_simple_text").await.result().await;
    for method in ["sampling/createMessage", "elicitation/create", "roots/list", "notifications/cancelled"] {
        let error = client.error(method, json!({ "requestId": 1 })).await;
        assert_eq!(error["code"], -32601, "{method}: {error}");
        assert_eq!(pair.logged(method), 0, "{method} reached the server");
    }
}

async fn long_words_are_refused(backend: Backend) {
    let pair = Pair::start(backend, &[]).await;
    let long = "x".repeat(20_000);
    let client = McpClient::modern(&pair.alice, "/mcp").speaking("2025-11-25");
    let words = json!({
        "protocolVersion": "2025-11-25",
        "capabilities": { "experimental": { "x": long } },
        "clientInfo": { "name": "trial", "version": "1" },
    });
    let error = client.error("initialize", words).await;
    assert_eq!(error["code"], -32602, "{error}");
    let modern = pair.modern(Door::All, json!({}));
    let mut message = modern.request("tools/list", json!({}));
    message["id"] = json!("i".repeat(2_000));
    let mut sent = modern.send(&message).await;
    let error = sent.error().await;
    assert_eq!((sent.status, &error["code"]), (400, &json!(-32600)), "{error}");
}

/// What a client can be asked makes upstreams, not how it says so.
async fn capabilities_in_other_words_start_nothing(backend: Backend) {
    let pair = Pair::start(backend, &["--era", "legacy"]).await;
    let list = async |number: u32| {
        let words = json!({ "sampling": { "n": number }, "experimental": { "n": number } });
        pair.modern(Door::One, words).result("tools/list", json!({})).await;
    };
    list(0).await;
    let before = pair.logged(r#""method":"initialize""#);
    for number in 1..6 {
        list(number).await;
    }
    assert_eq!(pair.logged(r#""method":"initialize""#), before, "no child more");
}
