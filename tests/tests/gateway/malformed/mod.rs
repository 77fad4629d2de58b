//! Answers that no client can read: the caller hears at once, by a well-formed error that holds the
//! original, on every transport; what can be read is read.

mod definitions;
mod lists;
mod rows;
mod whose;

use std::time::{Duration, Instant};

use tests::raw_server::{self, Form, Raw};
use tests::{Actor, Backend, Case, McpClient, Registration, Settings, TestApp, Value, cases, json};

use self::definitions::{definitions_with_one_reading_are_repaired, malformed_definitions_are_left_out};
use self::lists::{
    a_cursor_that_does_not_move_ends_a_list, a_handshake_that_cannot_be_translated_is_refused,
    a_list_that_cannot_be_filtered_is_refused, an_empty_cursor_ends_a_list, lists_that_are_none,
    odd_capabilities_empty_no_list,
};
pub use self::rows::Way;
use self::rows::{CALL, Gets, Row};
use self::whose::{
    a_failure_without_a_text_is_shown, a_frame_that_is_no_text, a_handshake_that_cannot_be_read,
    anothers_answer_is_not_shown, violations_are_logged,
};

pub const CASES: &[Case] = cases![
    Once: stdio, body, event, held_open, websocket, violations_are_logged, anothers_answer_is_not_shown,
        a_failure_without_a_text_is_shown, a_frame_that_is_no_text,
        a_handshake_that_cannot_be_read, an_empty_cursor_ends_a_list, a_cursor_that_does_not_move_ends_a_list,
        malformed_definitions_are_left_out, definitions_with_one_reading_are_repaired,
        lists_that_are_none, odd_capabilities_empty_no_list, a_list_that_cannot_be_filtered_is_refused,
        a_handshake_that_cannot_be_translated_is_refused;
];

/// What "at once" is: the issue's measure for a call.
const AT_ONCE: Duration = Duration::from_secs(1);
/// The most bytes of an original, however long it is.
const MOST_HELD: usize = 8192;

/// A gateway that may talk to this machine.
pub async fn gateway(backend: Backend) -> TestApp {
    TestApp::start(backend, Settings::new().env("EGRESS_ALLOW", "127.0.0.0/8")).await
}

/// A raw server that is reached this way.
pub async fn registration(slug: &str, way: Way, raw: Raw) -> Value {
    let remote =
        |kind: &str, url: String| json!({ "slug": slug, "name": slug, "transport": kind, "url": url });
    match way {
        Way::Stdio => {
            let arguments = raw.arguments();
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            Registration::stdio(slug, tests::programs::programs().fixture_raw, &arguments).body()
        }
        Way::Json => remote("streamable-http", raw_server::serve_http(raw, Form::Json).await),
        Way::Event => remote("streamable-http", raw_server::serve_http(raw, Form::Event).await),
        Way::HeldOpen => remote("streamable-http", raw_server::serve_http(raw, Form::HeldOpen).await),
        Way::Sse => remote("streamable-http", raw_server::serve_sse(raw).await),
        Way::WebSocket => remote("websocket", raw_server::serve_websocket(raw).await),
    }
}

/// Every row at the server's own endpoint; calls also among all servers and as plain JSON-RPC. After each,
/// the server is asked something that it answers well. All rows that are wrong are told.
async fn all_rows(backend: Backend, way: Way) {
    let app = gateway(backend).await;
    let operator = app.as_operator();
    let registration = registration("raw", way, Raw::default()).await;
    operator.post("/v1/mcp/servers", registration).await.status(201);
    let own = McpClient::modern(&operator, "/mcp/s/raw");
    let all = McpClient::legacy(&operator, "/mcp", "2025-11-25", json!({})).await;
    own.result("tools/list", json!({})).await;
    all.result("tools/list", json!({})).await;
    let begun = process(&own).await;
    let fine = rows::fine();
    let mut wrong = Vec::new();
    for row in rows::all().iter().filter(|row| row.is_for(way)) {
        let mut check = |place: &str, row: &Row, answered: &Answered| {
            let told = |fault| format!("{place}: {}: {fault}: {}", row.name, answered.answer);
            wrong.extend(row.fault(answered, way).map(told));
        };
        check("/mcp/s/raw", row, &own.answer_to(row.method, row.params()).await);
        check(row.name, &fine, &own.answer_to(CALL, fine.params()).await);
        if row.method == CALL {
            check("/mcp", row, &all.answer_to(CALL, among_all(row)).await);
            check("/mcp/rpc", row, &plain(&operator, among_all(row)).await);
            check(row.name, &fine, &plain(&operator, among_all(&fine)).await);
        }
    }
    assert!(wrong.is_empty(), "{way:?}: {} wrong answers:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(process(&own).await, begun, "it runs on whatever it wrote");
}

/// The process that answers.
async fn process(client: &McpClient) -> Value {
    let text = r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[],"pid":$PID}}"#;
    let params = json!({ "name": "raw", "arguments": { "text": raw_server::packed(text.as_bytes()) } });
    let pid = client.result(CALL, params).await["pid"].clone();
    assert!(pid.is_number(), "{pid}");
    pid
}

/// An answer, and how long it took.
struct Answered {
    answer: Value,
    took: Duration,
}

trait Answers {
    async fn answer_to(&self, method: &str, params: Value) -> Answered;
}

impl Answers for McpClient {
    async fn answer_to(&self, method: &str, params: Value) -> Answered {
        let begun = Instant::now();
        let answer = self.open(method, params).await.answer().await;
        Answered { answer, took: begun.elapsed() }
    }
}

fn among_all(row: &Row) -> Value {
    let mut params = row.params();
    params["name"] = json!("raw__raw");
    params
}

async fn plain(operator: &Actor, params: Value) -> Answered {
    let begun = Instant::now();
    let answer = operator.rpc(CALL, params).await.json();
    Answered { answer, took: begun.elapsed() }
}

impl Row {
    /// Says what is wrong with an answer; none if it is what it should be, and came at once.
    fn fault(&self, answered: &Answered, way: Way) -> Option<String> {
        let Answered { answer, took } = answered;
        if *took >= AT_ONCE {
            return Some(format!("it took {took:?}"));
        }
        let error = &answer["error"];
        let original = &error["data"]["original"];
        let gets = match self.gets(way) {
            Gets::Text(text) => answer["result"]["content"][0]["text"] == *text,
            Gets::Own(code, message) => *error == json!({ "code": code, "message": message }),
            Gets::Broken => error["code"] == 50200,
            Gets::Error(code, expected) => error["code"] == *code && original == expected,
            Gets::Line => error["code"] == 50200 && original.to_string().len() < MOST_HELD,
        };
        let told = matches!(self.gets(way), Gets::Error(..) | Gets::Line);
        fault_of_envelope(answer)
            .or_else(|| (!gets).then(|| "it is another answer".to_owned()))
            .or_else(|| told.then(|| fault_of_unreadable(error)).flatten())
    }
}

/// One of `result` and `error`, and an `error` as JSON-RPC 2.0 has it (section 5.1).
fn fault_of_envelope(answer: &Value) -> Option<String> {
    let one = answer.get("result").is_some() != answer.get("error").is_some();
    if answer["jsonrpc"] != "2.0" || !answer["id"].is_number() || !one {
        return Some("it is no answer of JSON-RPC".to_owned());
    }
    let error = answer.get("error")?;
    let has_message = error["message"].as_str().is_some_and(|message| !message.is_empty());
    (!error["code"].is_i64() || !has_message).then(|| "its `error` is none".to_owned())
}

/// The members that refusals have, and the original.
fn fault_of_unreadable(error: &Value) -> Option<String> {
    let data = &error["data"];
    let has = |member: &&str| data[*member].as_str().is_some_and(|text| !text.is_empty());
    if data["code"] != "unreadable_answer" || data.get("original").is_none() {
        return Some("it is no unreadable answer with its original".to_owned());
    }
    let missing = ["reason", "hint", "requestId"].into_iter().find(|member| !has(member));
    missing.map(|member| format!("`data` has no `{member}`"))
}

async fn stdio(backend: Backend) {
    all_rows(backend, Way::Stdio).await;
}

async fn body(backend: Backend) {
    all_rows(backend, Way::Json).await;
}

async fn event(backend: Backend) {
    all_rows(backend, Way::Event).await;
}

async fn held_open(backend: Backend) {
    all_rows(backend, Way::HeldOpen).await;
}

async fn websocket(backend: Backend) {
    all_rows(backend, Way::WebSocket).await;
}
