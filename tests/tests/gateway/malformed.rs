//! Answers that no client can read: the caller hears at once, by a well-formed error that holds the
//! original, on every transport; what can be read is read.

use std::time::{Duration, Instant};

use tests::raw_server::{self, packed};
use tests::{Actor, Backend, Case, McpClient, Registration, Settings, TestApp, Value, cases, json};

pub const CASES: &[Case] = cases![
    Once: stdio, streamable_http, events, websocket;
];

/// What the caller gets.
enum Gets {
    /// This text of a tool.
    Text(&'static str),
    /// An error with this code; `data.original` is this.
    Error(i64, Value),
    /// An error of 50200 whose `data.original` is the line, as JSON or as text.
    Line,
}
use Gets::{Error, Line, Text};

struct Row {
    name: &'static str,
    method: &'static str,
    text: &'static [u8],
    gets: Gets,
}

const CALL: &str = "tools/call";

fn rows() -> Vec<Row> {
    let row = |name, method, text, gets| Row { name, method, text, gets };
    let call = |name, text: &'static str, gets| Row { name, method: CALL, text: text.as_bytes(), gets };
    vec![
        call("usual", r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[{"type":"text","text":"a"}]}}"#, Text("a")),
        call("error: a string", r#"{"jsonrpc":"2.0","id":$ID,"error":"no luck"}"#, Error(50200, json!("no luck"))),
        call(
            "error: a string as code",
            r#"{"jsonrpc":"2.0","id":$ID,"error":{"code":"E_NO","message":"no"}}"#,
            Error(50200, json!({ "code": "E_NO", "message": "no" })),
        ),
        call(
            "error: a null message",
            r#"{"jsonrpc":"2.0","id":$ID,"error":{"code":8,"message":null}}"#,
            Error(8, json!({ "code": 8, "message": null })),
        ),
        call("error: no message", r#"{"jsonrpc":"2.0","id":$ID,"error":{"code":7}}"#, Error(7, json!({ "code": 7 }))),
        call("error: empty", r#"{"jsonrpc":"2.0","id":$ID,"error":{}}"#, Error(50200, json!({}))),
        call("error: an array", r#"{"jsonrpc":"2.0","id":$ID,"error":[1]}"#, Error(50200, json!([1]))),
        call("error: a number", r#"{"jsonrpc":"2.0","id":$ID,"error":7}"#, Error(50200, json!(7))),
        call("error: true", r#"{"jsonrpc":"2.0","id":$ID,"error":true}"#, Error(50200, json!(true))),
        call("result: null", r#"{"jsonrpc":"2.0","id":$ID,"result":null}"#, Error(50200, json!(null))),
        call("result: a string", r#"{"jsonrpc":"2.0","id":$ID,"result":"a"}"#, Error(50200, json!("a"))),
        call("result: an array", r#"{"jsonrpc":"2.0","id":$ID,"result":["a"]}"#, Error(50200, json!(["a"]))),
        call("result: a number", r#"{"jsonrpc":"2.0","id":$ID,"result":7}"#, Error(50200, json!(7))),
        call("result: true", r#"{"jsonrpc":"2.0","id":$ID,"result":true}"#, Error(50200, json!(true))),
        call(
            "content: a string",
            r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":"a"}}"#,
            Error(50200, json!({ "content": "a" })),
        ),
        call("neither", r#"{"jsonrpc":"2.0","id":$ID}"#, Line),
        call("NaN", r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[],"x":NaN}}"#, Line),
        call("NaN after a space", r#"{"jsonrpc": "2.0", "id": $ID, "result": {"content": [], "x": NaN}}"#, Line),
        call("Infinity", r#"{"jsonrpc": "2.0", "id": $ID, "result": {"content": [], "x": [Infinity]}}"#, Line),
        call("-Infinity", r#"{"result": {"content": [], "x": -Infinity}, "id": $ID, "jsonrpc": "2.0"}"#, Line),
        call("an id that is a string", r#"{"jsonrpc":"2.0","id":"$ID","result":{"content":[]}}"#, Line),
        call("an id that is no integer", r#"{"jsonrpc":"2.0","id":$ID.0,"result":{"content":[]}}"#, Line),
        call("a result without an id", r#"{"jsonrpc":"2.0","result":{"content":[]}}"#, Line),
        call("a result under null", r#"{"jsonrpc":"2.0","id":null,"result":{"content":[]}}"#, Line),
        call("a member twice", r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[]},"result":{}}"#, Line),
        call("a comma too many", r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[],}}"#, Line),
        call("cut off", r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[{"type":"te"#, Line),
        call("single quotes", "{'jsonrpc': '2.0', 'id': $ID, 'result': {'content': []}}", Line),
        row("not UTF-8", CALL, b"{\"jsonrpc\":\"2.0\",\"id\":$ID,\"result\":{\"content\":[],\"x\":\"\xff\"}}", Line),
        row(
            "a byte-order mark",
            CALL,
            b"\xef\xbb\xbf{\"jsonrpc\":\"2.0\",\"id\":$ID,\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"a\"}]}}",
            Text("a"),
        ),
        call(
            "two messages in one line",
            r#"{"jsonrpc":"2.0","method":"notifications/x"}{"jsonrpc":"2.0","id":$ID,"result":{"content":[{"type":"text","text":"a"}]}}"#,
            Text("a"),
        ),
        call("no version", r#"{"id":$ID,"result":{"content":[{"type":"text","text":"a"}]}}"#, Text("a")),
        call(
            "an error of null beside a result",
            r#"{"jsonrpc":"2.0","id":$ID,"error":null,"result":{"content":[{"type":"text","text":"a"}]}}"#,
            Text("a"),
        ),
        call(
            "a large number",
            r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[{"type":"text","text":"a"}],"x":123456789012345678901234567890}}"#,
            Text("a"),
        ),
        row("no contents", "resources/read", br#"{"jsonrpc":"2.0","id":$ID,"result":{}}"#, Error(50200, json!({}))),
        row(
            "messages: null",
            "prompts/get",
            br#"{"jsonrpc":"2.0","id":$ID,"result":{"messages":null}}"#,
            Error(50200, json!({ "messages": null })),
        ),
        row("a prompt that is null", "prompts/get", br#"{"jsonrpc":"2.0","id":$ID,"result":null}"#, Error(50200, json!(null))),
        row(
            "completion: an array",
            "completion/complete",
            br#"{"jsonrpc":"2.0","id":$ID,"result":{"completion":[]}}"#,
            Error(50200, json!({ "completion": [] })),
        ),
    ]
}

impl Row {
    fn params(&self) -> Value {
        let text = packed(self.text);
        match self.method {
            "tools/call" => json!({ "name": "raw", "arguments": { "text": text } }),
            "prompts/get" => json!({ "name": text }),
            "resources/read" => json!({ "uri": format!("raw:{text}") }),
            _ => {
                json!({ "ref": { "type": "ref/prompt", "name": text }, "argument": { "name": "a", "value": "" } })
            }
        }
    }

    /// Whether the answer is what it should be, in which the line is written under the server's own id.
    fn is_right(&self, answer: &Value, transport: &str) {
        let what = format!("{transport}: {}: {answer}", self.name);
        let error = &answer["error"];
        match &self.gets {
            Text(text) => return assert_eq!(answer["result"]["content"][0]["text"], *text, "{what}"),
            Error(code, original) => {
                assert_eq!(error["code"], *code, "{what}");
                assert_eq!(error["data"]["original"], *original, "{what}");
            }
            Line => {
                assert_eq!(error["code"], 50200, "{what}");
                let original = &error["data"]["original"];
                assert!(original.is_string() || original["jsonrpc"] == "2.0", "{what}");
            }
        }
        assert_eq!(error["data"]["code"], "unreadable_answer", "{what}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{what}");
        assert!(error["data"]["reason"].is_string(), "{what}");
    }
}

/// Calls at the server's own endpoint and as plain JSON-RPC.
async fn all_rows(app: &TestApp, transport: &str, registration: Value) {
    let operator = app.as_operator();
    operator.post("/v1/mcp/servers", registration).await.status(201);
    let client = McpClient::modern(&operator, "/mcp/s/raw");
    client.result("tools/list", json!({})).await;
    for row in rows() {
        // An event and a frame are text; what is none becomes U+FFFD, and that is read.
        if row.name == "not UTF-8" && matches!(transport, "events" | "websocket") {
            continue;
        }
        let begun = Instant::now();
        let answer = client.open(row.method, row.params()).await.answer().await;
        row.is_right(&answer, transport);
        if row.method == CALL {
            row.is_right(&plain(&operator, row.params()).await, transport);
        }
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(5), "{transport}: {}: it took {took:?}", row.name);
    }
}

async fn plain(operator: &Actor, mut params: Value) -> Value {
    params["name"] = json!("raw__raw");
    operator.rpc("tools/call", params).await.json()
}

async fn stdio(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let program = tests::programs::programs().fixture_raw;
    all_rows(&app, "stdio", Registration::stdio("raw", program, &[]).body()).await;
}

async fn remote(backend: Backend, transport: &str, kind: &str, url: String) {
    let app = TestApp::start(backend, Settings::new().env("EGRESS_ALLOW", "127.0.0.0/8")).await;
    all_rows(&app, transport, json!({ "slug": "raw", "name": "raw", "transport": kind, "url": url })).await;
}

async fn streamable_http(backend: Backend) {
    remote(backend, "json", "streamable-http", raw_server::serve_http(false).await).await;
}

async fn events(backend: Backend) {
    remote(backend, "events", "streamable-http", raw_server::serve_http(true).await).await;
}

async fn websocket(backend: Backend) {
    remote(backend, "websocket", "websocket", raw_server::serve_websocket().await).await;
}
