//! Streamable HTTP with a handshake and sessions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use protocol::Code;
use protocol::mcp::Era;
use proxy::pool::UpstreamEvent;
use proxy::upstream::Listener;
use serde_json::json;
use tokio::sync::Notify;

use crate::app::{App, Ears, error, refused, text, until};
use crate::server::{Answer, Seen, Server, Step};

/// What every legacy server here answers where a test says nothing else.
pub fn usual(seen: &Seen) -> Answer {
    match (seen.verb.as_str(), seen.method()) {
        ("GET" | "DELETE", _) => Answer::status(405),
        (_, "initialize") => {
            let capabilities = json!({ "tools": { "listChanged": true } });
            let result = json!({ "protocolVersion": "2025-06-18", "capabilities": capabilities, "serverInfo": { "name": "x", "version": "1" } });
            Answer::json(200, seen.result(result)).with("mcp-session-id", "session-1")
        }
        (_, method) if method.starts_with("notifications/") => Answer::status(202),
        (_, "tools/call") => seen.text("well"),
        (_, "") => Answer::status(202),
        _ => Answer::json(200, seen.error(-32601, json!(null))),
    }
}

#[tokio::test]
async fn a_session_from_its_beginning_to_its_end() {
    let server = Server::start(usual).await;
    let app = App::new(&server.url(), Era::Legacy);
    assert_eq!(app.call().await.unwrap(), "well");
    assert_eq!(error(app.ask("tools/list", json!({})).await.unwrap())["code"], -32601);
    until("the stream was asked for", || !server.of("GET").is_empty()).await;
    app.pool.stop(app.key.tenant, &app.spec).await;

    let hello = &server.of("initialize")[0];
    assert_eq!(hello.header("mcp-session-id"), None);
    assert_eq!(hello.header("mcp-protocol-version"), None);
    assert_eq!(hello.header("accept"), Some("application/json, text/event-stream"));
    assert_eq!(hello.header("content-type"), Some("application/json"));
    assert_eq!(hello.header("authorization"), Some("Bearer own"));
    assert_eq!(hello.body["params"]["protocolVersion"], "2025-11-25");
    assert_eq!(hello.body["params"]["capabilities"], json!({}));
    assert_eq!(hello.body["params"]["clientInfo"]["name"], "trunkline");
    for method in ["notifications/initialized", "tools/call", "GET", "DELETE"] {
        let seen = &server.of(method)[0];
        assert_eq!(seen.header("mcp-session-id"), Some("session-1"), "{method}");
        assert_eq!(seen.header("mcp-protocol-version"), Some("2025-06-18"), "{method}");
        assert_eq!(seen.header("authorization"), Some("Bearer own"), "{method}");
        assert_eq!(seen.header("mcp-method"), None, "{method}");
    }
    assert_eq!(server.of("GET")[0].header("accept"), Some("text/event-stream"));
    let order: Vec<_> = server.seen().iter().map(|seen| seen.method().to_owned()).take(2).collect();
    assert_eq!(order, ["initialize", "notifications/initialized"]);
}

#[tokio::test]
async fn the_client_is_introduced() {
    let server = Server::start(usual).await;
    let mut app = App::new(&server.url(), Era::Legacy);
    app.introduce(json!({ "sampling": {} }), None);
    app.call().await.unwrap();
    let hello = &server.of("initialize")[0].body["params"];
    assert_eq!(hello["capabilities"], json!({ "sampling": {} }));
    assert_eq!(hello["clientInfo"], json!({ "name": "theirs", "version": "9" }));
}

#[tokio::test]
async fn what_comes_on_a_requests_stream_is_for_that_request() {
    let answered = Arc::new(Notify::new());
    let tell = answered.clone();
    let server = Server::start(move |seen| match seen.method() {
        "tools/call" => Answer::events(vec![
            Step::Write(": keep-alive\n\nevent: message\r\n".to_owned()),
            Step::event(&json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": { "progressToken": 41, "progress": 1 } })),
            Step::event(&json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": { "level": "info" } })),
            Step::event(&json!({ "jsonrpc": "2.0", "id": "q1", "method": "ping" })),
            Step::event(&json!({ "jsonrpc": "2.0", "id": "q2", "method": "elicitation/create", "params": { "a": 1 } })),
            Step::Wait(tell.clone()),
            Step::event(&seen.result(json!({ "content": [{ "type": "text", "text": "after the answer" }] }))),
            Step::Hold,
        ]),
        "" if seen.id() == "q2" => {
            tell.notify_one();
            Answer::status(202)
        }
        _ => usual(seen),
    })
    .await;
    let app = App::new(&server.url(), Era::Legacy);
    let ears = Arc::new(Ears::default());
    let listener: Arc<dyn Listener> = ears.clone();
    let params = json!({ "name": "x" });
    let answer = app.ask_for("tools/call", params, Some(&listener), Duration::from_secs(5)).await.unwrap();
    assert_eq!(text(answer), "after the answer");
    assert_eq!(ears.methods(), ["notifications/progress", "notifications/message", "elicitation/create"]);
    let answers: Vec<_> = server.of("").into_iter().filter(|seen| seen.verb == "POST").collect();
    let answer = |id: &str| answers.iter().find(|seen| seen.id() == id).unwrap().body.clone();
    assert_eq!(answer("q1")["result"], json!({}));
    assert_eq!(answer("q2")["result"], json!({ "asked": "elicitation/create" }));
}

#[tokio::test]
async fn nobody_is_asked_where_nobody_listens() {
    let server = Server::start(|seen| match seen.method() {
        "tools/call" => Answer::events(vec![
            Step::event(
                &json!({ "jsonrpc": "2.0", "id": 5, "method": "sampling/createMessage", "params": {} }),
            ),
            Step::Sleep(100),
            Step::event(&seen.result(json!({ "content": [{ "type": "text", "text": "alone" }] }))),
        ]),
        _ => usual(seen),
    })
    .await;
    let app = App::new(&server.url(), Era::Legacy);
    assert_eq!(app.call().await.unwrap(), "alone");
    until("it was refused", || server.of("").iter().any(|seen| seen.body["error"]["code"] == -32601)).await;
}

#[tokio::test]
async fn a_question_is_withdrawn() {
    let server = Server::start(|seen| match seen.method() {
        "tools/call" => Answer::events(vec![
            Step::event(&json!({ "jsonrpc": "2.0", "id": 5, "method": "roots/list" })),
            Step::event(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 5 } })),
            Step::Hold,
        ]),
        _ => usual(seen),
    })
    .await;
    let app = App::new(&server.url(), Era::Legacy);
    let ears = Arc::new(Ears { kept: Some(Default::default()), ..Ears::default() });
    let listener: Arc<dyn Listener> = ears.clone();
    let call = app.ask_for("tools/call", json!({}), Some(&listener), Duration::from_secs(5));
    let withdrawn = async {
        until("it was asked", || !ears.kept.as_ref().unwrap().lock().is_empty()).await;
        let mut question = ears.kept.as_ref().unwrap().lock().pop().unwrap();
        tokio::time::timeout(Duration::from_secs(3), question.withdrawn()).await.expect("it is withdrawn");
    };
    tokio::select! {
        _ = call => panic!("there is no answer"),
        () = withdrawn => {}
    }
}

#[tokio::test]
async fn the_standing_stream_brings_news_and_goes_on() {
    let connections = Arc::new(AtomicUsize::new(0));
    let server = Server::start(move |seen| match seen.verb.as_str() {
        "GET" => match connections.fetch_add(1, Ordering::Relaxed) {
            0 => Answer::events(vec![
                Step::Write("retry: 10\n\n".to_owned()),
                Step::event_id("e1", &json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" }).to_string()),
                Step::Break,
            ]),
            _ => Answer::events(vec![
                Step::Sleep(300),
                Step::event(&json!({ "jsonrpc": "2.0", "method": "notifications/resources/updated", "params": { "uri": "file:///a", "x": 1 } })),
                Step::event(&json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": { "data": "home" } })),
                Step::Hold,
            ]),
        },
        _ if seen.method() == "resources/subscribe" => Answer::json(200, seen.result(json!({}))),
        _ => usual(seen),
    })
    .await;
    let mut app = App::new(&server.url(), Era::Legacy);
    let ears = Arc::new(Ears::default());
    app.introduce(json!({ "roots": {} }), Some(ears.clone()));
    let mut events = app.pool.events();
    app.call().await.unwrap();
    let soon = Instant::now() + Duration::from_secs(3);
    let _subscribed = app.pool.subscribe(&app.selected(), "file:///a", soon).await.unwrap().unwrap();
    assert_eq!(events.recv().await.unwrap().event, UpstreamEvent::ToolsChanged);
    let updated = events.recv().await.unwrap();
    assert_eq!(updated.key, app.key);
    assert!(
        matches!(updated.event, UpstreamEvent::ResourceUpdated { uri, params } if &*uri == "file:///a" && params.contains("\"x\":1"))
    );
    until("home heard it", || ears.methods() == ["notifications/message"]).await;
    assert_ne!(app.pool.changes(&app.key) & UpstreamEvent::ToolsChanged.list_bit(), 0);
    assert_eq!(server.of("GET")[1].header("last-event-id"), Some("e1"));
}

#[tokio::test]
async fn a_broken_answer_is_resumed_where_there_are_ids() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let server = Server::start(move |seen| match (seen.verb.as_str(), seen.method()) {
        (_, "tools/call") => {
            Answer::events(vec![Step::Write("retry: 20\nid: p1\ndata:\n\n".to_owned()), Step::Sleep(10)])
        }
        ("GET", _) if seen.header("last-event-id").is_some() => match counted.fetch_add(1, Ordering::Relaxed)
        {
            0 => Answer::status(503),
            1 => Answer::events(vec![Step::event_id("p2", r#"{"method":"notifications/x"}"#), Step::Break]),
            _ => {
                let answer =
                    json!({ "jsonrpc": "2.0", "id": 2, "result": { "content": [{ "text": "late" }] } });
                Answer::events(vec![Step::event(&answer), Step::Hold])
            }
        },
        _ => usual(seen),
    })
    .await;
    let app = App::new(&server.url(), Era::Legacy);
    assert_eq!(app.call().await.unwrap(), "late");
    let ids: Vec<_> =
        server.of("GET").iter().filter_map(|seen| seen.header("last-event-id").map(str::to_owned)).collect();
    assert_eq!(ids, ["p1", "p1", "p2"]);
}

#[tokio::test]
async fn a_broken_answer_without_ids_is_lost() {
    let server = Server::start(|seen| match seen.method() {
        "tools/call" => Answer::events(vec![Step::Write(": x\n\n".to_owned()), Step::Sleep(10)]),
        _ => usual(seen),
    })
    .await;
    let app = App::new(&server.url(), Era::Legacy);
    refused(app.call().await, Code::UpstreamFailed, "closed the stream without an answer");
    assert_eq!(server.of("tools/call").len(), 1, "it is not sent twice");
}
