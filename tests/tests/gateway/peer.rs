//! One JSON-RPC peer under all transports: what a server sends by itself is treated alike over standard
//! streams, Streamable HTTP, HTTP with SSE and WebSocket.

use std::time::Duration;

use tests::raw_server::{Raw, packed};
use tests::{Backend, Case, McpClient, TestApp, Value, cases, json};

use crate::malformed::{Way, gateway, registration};

pub const CASES: &[Case] = cases![
    Once: large_events_go_to_nobody, an_id_that_is_open_is_refused, another_revision_proves_no_era,
        a_server_without_listen_is_asked_once, a_listen_that_fails_is_tried_again;
];

const WAYS: [(Way, &str); 4] =
    [(Way::Stdio, "lines"), (Way::HeldOpen, "http"), (Way::Sse, "sse"), (Way::WebSocket, "frames")];
/// HTTP with SSE is older than the modern era.
const MODERN_WAYS: [(Way, &str); 3] =
    [(Way::Stdio, "lines"), (Way::HeldOpen, "http"), (Way::WebSocket, "frames")];

const QUIET: Duration = Duration::from_millis(300);
/// Long enough for a second try.
const AGAIN: Duration = Duration::from_millis(1500);

/// Registers a raw server, and returns its id.
async fn register(app: &TestApp, slug: &str, way: Way, raw: Raw) -> String {
    let body = registration(slug, way, raw).await;
    let registered = app.as_operator().post("/v1/mcp/servers", body).await;
    registered.json_of(201)["id"].as_str().expect("it has an id").to_owned()
}

/// The `params` of a call for which the server writes these texts.
fn writing(texts: &[&str]) -> Value {
    json!({ "name": "raw", "arguments": { "text": packed(texts.join("\n").as_bytes()) } })
}

const DONE: &str = r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[]}}"#;

/// What the server was sent besides calls.
async fn seen(client: &McpClient) -> Vec<Value> {
    let text = r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[],"seen":$SEEN}}"#;
    let result = client.result("tools/call", writing(&[text])).await;
    result["seen"].as_array().unwrap_or_else(|| panic!("it says nothing: {result}")).clone()
}

async fn large_events_go_to_nobody(backend: Backend) {
    let app = gateway(backend).await;
    let operator = app.as_operator();
    let result = json!({
        "protocolVersion": "2025-11-25",
        "capabilities": { "tools": {}, "resources": { "subscribe": true } },
        "serverInfo": { "name": "raw", "version": "1" },
    });
    let hello = format!(r#"{{"jsonrpc":"2.0","id":$ID,"result":{result}}}"#);
    let updated = |mark: &str| {
        let params = json!({ "uri": "raw:watched", "mark": mark });
        json!({ "jsonrpc": "2.0", "method": "notifications/resources/updated", "params": params }).to_string()
    };
    let large = updated(&"x".repeat(100 << 10));
    for (way, slug) in WAYS {
        let subscribed = r#"{"jsonrpc":"2.0","id":$ID,"result":{}}"#;
        let raw = Raw::default().saying("initialize", &[&hello]).saying("resources/subscribe", &[subscribed]);
        let id = register(&app, slug, way, raw).await;
        let client = McpClient::legacy(&operator, &format!("/mcp/s/{slug}"), "2025-11-25", json!({})).await;
        client.result("resources/subscribe", json!({ "uri": "raw:watched" })).await;
        let mut stream = client.listen(None).await;
        // Of what comes at once about one resource, the last counts.
        client.result("tools/call", writing(&[&updated("small"), &large, DONE])).await;
        let told = stream.next_of("notifications/resources/updated").await;
        assert_eq!(told["params"]["mark"], "small", "{way:?}: {} bytes", told.to_string().len());
        let rest = stream.rest(QUIET).await;
        assert!(rest.is_empty(), "{way:?}: {} more", rest.len());
        let logs = operator.get(&format!("/v1/mcp/servers/{id}/logs")).await;
        let noted = logs.json_of(200)["items"].to_string().contains("is dropped: its params are too long");
        logs.must(noted, &format!("{way:?}: it is noted"));
    }
}

async fn an_id_that_is_open_is_refused(backend: Backend) {
    let app = gateway(backend).await;
    let operator = app.as_operator();
    let request = r#"{"jsonrpc":"2.0","id":"open","method":"roots/list"}"#;
    for (way, slug) in WAYS {
        register(&app, slug, way, Raw::default()).await;
        let declared = json!({ "roots": {} });
        let client = McpClient::legacy(&operator, &format!("/mcp/s/{slug}"), "2025-11-25", declared).await;
        let mut call = client.open("tools/call", writing(&[request, request])).await;
        let asked = call.next_of("roots/list").await;
        let rest = call.rest(QUIET).await;
        assert!(rest.is_empty(), "{way:?}: the client is asked once: {rest:?}");
        client.reply(&asked, json!({ "roots": [] })).await;
        tokio::time::sleep(QUIET).await;
        let answers: Vec<Value> =
            seen(&client).await.into_iter().filter(|message| message["id"] == "open").collect();
        let refused = "a request under this id waits for its answer already";
        assert_eq!(answers.len(), 2, "{way:?}: {answers:?}");
        assert_eq!(answers[0]["error"], json!({ "code": -32603, "message": refused }), "{way:?}");
        assert_eq!(answers[1]["result"], json!({ "roots": [] }), "{way:?}");
    }
}

async fn another_revision_proves_no_era(backend: Backend) {
    let app = gateway(backend).await;
    let error = json!({
        "code": -32022,
        "message": "Unsupported protocol version",
        "data": { "supported": ["2027-01-01"], "requested": "2026-07-28" },
    });
    let refusal = format!(r#"{{"jsonrpc":"2.0","id":$ID,"error":{error}}}"#);
    for (way, slug) in WAYS {
        register(&app, slug, way, Raw::default().saying("server/discover", &[&refusal])).await;
        let client = McpClient::modern(&app.as_operator(), &format!("/mcp/s/{slug}"));
        client.result("tools/call", writing(&[DONE])).await;
        let seen = seen(&client).await;
        assert!(seen.contains(&json!("initialize")), "{way:?}: it is spoken to as legacy: {seen:?}");
    }
}

/// The times that a modern server was asked to listen which refuses that with this error code.
async fn listens(app: &TestApp, way: Way, slug: &str, code: i32) -> usize {
    let result = json!({
        "resultType": "complete",
        "supportedVersions": ["2026-07-28"],
        "capabilities": { "tools": { "listChanged": true } },
    });
    let discovered = format!(r#"{{"jsonrpc":"2.0","id":$ID,"result":{result}}}"#);
    let refused = format!(r#"{{"jsonrpc":"2.0","id":$ID,"error":{{"code":{code},"message":"no"}}}}"#);
    let raw = Raw::default()
        .saying("server/discover", &[&discovered])
        .saying("subscriptions/listen", &[&refused])
        .saying("initialize", &[r#"{"jsonrpc":"2.0","id":$ID,"error":{"code":-32601,"message":"no"}}"#]);
    register(app, slug, way, raw).await;
    let client = McpClient::modern(&app.as_operator(), &format!("/mcp/s/{slug}"));
    client.result("tools/call", writing(&[DONE])).await;
    tokio::time::sleep(AGAIN).await;
    seen(&client).await.iter().filter(|method| **method == "subscriptions/listen").count()
}

async fn a_server_without_listen_is_asked_once(backend: Backend) {
    let app = gateway(backend).await;
    for (way, slug) in MODERN_WAYS {
        assert_eq!(listens(&app, way, slug, -32601).await, 1, "{way:?}");
    }
}

async fn a_listen_that_fails_is_tried_again(backend: Backend) {
    let app = gateway(backend).await;
    for (way, slug) in MODERN_WAYS {
        let times = listens(&app, way, slug, -32603).await;
        assert!((2..=6).contains(&times), "{way:?}: {times} times");
    }
}
