//! Streamable HTTP without sessions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use protocol::Code;
use protocol::mcp::Era;
use proxy::http::{RemotePlan, Started, start};
use proxy::pool::UpstreamEvent;
use proxy::upstream::{Listener, Params, UpstreamAnswer, UpstreamRequest};
use serde_json::json;

use crate::app::{App, Ears, egress, error, refused, remote, text, until};
use crate::server::{Answer, Seen, Server, Step};

pub fn usual(seen: &Seen) -> Answer {
    match seen.method() {
        "server/discover" => Answer::json(
            200,
            seen.result(json!({ "resultType": "complete", "supportedVersions": ["2026-07-28"],
                "capabilities": { "tools": { "listChanged": true }, "resources": { "subscribe": true } } })),
        ),
        "subscriptions/listen" => {
            let subscription = json!({ "io.modelcontextprotocol/subscriptionId": seen.id() });
            let notifications = &seen.body["params"]["notifications"];
            Answer::events(vec![
                Step::event(&json!({ "jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
                    "params": { "_meta": subscription, "notifications": notifications } })),
                Step::Sleep(50),
                Step::event(
                    &json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": { "_meta": subscription } }),
                ),
                Step::Hold,
            ])
        }
        "tools/call" => seen.text("well"),
        _ if seen.verb != "POST" => Answer::status(405),
        _ => Answer::json(404, seen.error(-32601, json!(null))),
    }
}

#[tokio::test]
async fn every_request_says_what_it_is() {
    let server = Server::start(usual).await;
    let app = App::new(&server.url(), Era::Modern);
    let params = json!({ "name": "wäre", "arguments": {}, "_meta": {} }).to_string();
    let headers =
        [("mcp-param-Region".to_owned(), "us-west1".to_owned()), ("mcp-param-g".to_owned(), "世".to_owned())];
    let deadline = Instant::now() + Duration::from_secs(5);
    let request = UpstreamRequest {
        headers: &headers,
        ..UpstreamRequest::new("tools/call", Params::raw(params.as_bytes()), deadline)
    };
    assert_eq!(text(app.pool.request(&app.selected(), request).await.unwrap().answer), "well");
    let call = &server.of("tools/call")[0];
    assert_eq!(call.header("mcp-protocol-version"), Some("2026-07-28"));
    assert_eq!(call.header("mcp-method"), Some("tools/call"));
    assert_eq!(call.header("mcp-name"), Some("=?base64?d8OkcmU=?="));
    assert_eq!(call.header("mcp-param-region"), Some("us-west1"));
    assert_eq!(call.header("mcp-param-g"), Some("=?base64?5LiW?="));
    assert_eq!(call.header("authorization"), Some("Bearer own"));
    assert_eq!(call.header("mcp-session-id"), None);
    let discover = &server.of("server/discover")[0];
    assert_eq!(discover.header("mcp-method"), Some("server/discover"));
    assert_eq!(discover.body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
    assert_eq!(discover.body["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"], json!({}));
    assert!(server.of("GET").is_empty() && server.of("initialize").is_empty());
}

#[tokio::test]
async fn errors_behind_a_status_are_answers() {
    let server = Server::start(|seen| match seen.method() {
        "tools/call" => {
            Answer::json(400, seen.error(-32021, json!({ "requiredCapabilities": { "sampling": {} } })))
        }
        _ => usual(seen),
    })
    .await;
    let app = App::new(&server.url(), Era::Modern);
    let answer = error(app.ask("tools/call", json!({ "name": "x" })).await.unwrap());
    assert_eq!(answer["data"]["requiredCapabilities"], json!({ "sampling": {} }));
    assert_eq!(error(app.ask("prompts/list", json!({})).await.unwrap())["code"], -32601);
}

#[tokio::test]
async fn progress_comes_and_leaving_closes_the_stream() {
    let server = Server::start(|seen| match seen.method() {
        "tools/call" => Answer::events(vec![
            Step::event(&json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": { "progressToken": 41 } })),
            Step::event(&json!({ "jsonrpc": "2.0", "id": 1, "method": "sampling/createMessage" })),
            Step::Hold,
        ]),
        _ => usual(seen),
    })
    .await;
    let app = App::new(&server.url(), Era::Modern);
    let ears = Arc::new(Ears::default());
    let listener: Arc<dyn Listener> = ears.clone();
    let call = app.ask_for("tools/call", json!({ "name": "x" }), Some(&listener), Duration::from_millis(400));
    refused(call.await, Code::TimedOut, "did not answer");
    assert_eq!(ears.methods(), ["notifications/progress"]);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(server.of("notifications/cancelled").is_empty(), "the end of the stream says it");
    assert!(server.of("").is_empty(), "a modern server is not answered");
}

#[tokio::test]
async fn news_come_by_a_subscription() {
    let server = Server::start(usual).await;
    let app = App::new(&server.url(), Era::Modern);
    let mut events = app.pool.events();
    app.call().await.unwrap();
    let event = tokio::time::timeout(Duration::from_secs(5), events.recv()).await.unwrap().unwrap();
    assert_eq!((event.key, event.event), (app.key, UpstreamEvent::ToolsChanged));
    assert_ne!(app.pool.changes(&app.key) & UpstreamEvent::ToolsChanged.list_bit(), 0);
    let listen = &server.of("subscriptions/listen")[0];
    assert_eq!(listen.body["params"]["notifications"], json!({ "toolsListChanged": true }));
    assert_eq!(listen.header("mcp-method"), Some("subscriptions/listen"));
    assert_eq!(listen.header("mcp-name"), None);
    assert_eq!(listen.body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
}

#[tokio::test]
async fn a_subscription_that_ends_is_made_again() {
    let times = Arc::new(AtomicUsize::new(0));
    let server = Server::start(move |seen| match seen.method() {
        "subscriptions/listen" if times.fetch_add(1, Ordering::Relaxed) == 0 => Answer::events(vec![
            Step::event(&json!({ "jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": {} })),
            Step::event(&seen.result(json!({ "resultType": "complete" }))),
        ]),
        _ => usual(seen),
    })
    .await;
    let app = App::new(&server.url(), Era::Modern);
    app.call().await.unwrap();
    until("it is made again", || server.of("subscriptions/listen").len() == 2).await;
}

#[tokio::test]
async fn connections_are_used_again() {
    for delay in [0, 50] {
        let server = Server::start(move |seen| match seen.method() {
            "tools/call" => Answer::events(vec![
                Step::Sleep(1),
                Step::event(&seen.result(json!({ "content": [{ "text": "streamed" }] }))),
                Step::Sleep(delay),
            ]),
            _ => usual(seen),
        })
        .await;
        let app = App::new(&server.url(), Era::Modern);
        for _ in 0..20 {
            assert_eq!(app.call().await.unwrap(), "streamed");
            tokio::time::sleep(Duration::from_millis(delay * 2)).await;
        }
        let connections = server.connections.load(Ordering::Relaxed);
        assert!(connections < 8, "{connections} connections for 20 calls");
    }
}

/// An upstream without a pool.
async fn alone(server: &Server) -> Started {
    let mut plan = RemotePlan::for_probe("alone", egress(&["127.0.0.0/8"]), "trunkline", "1");
    plan.peer.era = Era::Modern;
    let deadline = Instant::now() + Duration::from_secs(3);
    start(&plan, &remote(&server.url(), &[]), 1, deadline).await.unwrap()
}

#[tokio::test]
async fn resources_are_subscribed_to_together() {
    let server = Server::start(|seen| match seen.method() {
        "subscriptions/listen" => {
            let mut notifications = seen.body["params"]["notifications"].clone();
            let uris = notifications["resourceSubscriptions"].as_array_mut();
            uris.into_iter().for_each(|uris| uris.retain(|uri| uri != "file:///no"));
            Answer::events(vec![
                Step::event(&json!({ "jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
                    "params": { "notifications": notifications } })),
                Step::Hold,
            ])
        }
        _ => usual(seen),
    })
    .await;
    let (upstream, _) = alone(&server).await;
    let soon = || Instant::now() + Duration::from_secs(3);
    for uri in ["file:///a", "file:///b"] {
        let answer = upstream.subscribe(uri, soon()).await.unwrap();
        assert_eq!(answer, UpstreamAnswer::Result("{}".into()));
    }
    let refused = error(upstream.subscribe("file:///no", soon()).await.unwrap());
    assert_eq!((&refused["code"], &refused["data"]["uri"]), (&json!(-32602), &json!("file:///no")));
    upstream.unsubscribe("file:///a");
    let last = || server.of("subscriptions/listen").last().unwrap().body["params"]["notifications"].clone();
    let wanted = json!({ "toolsListChanged": true, "resourceSubscriptions": ["file:///b"] });
    until("the last is for the rest", || last() == wanted).await;
    upstream.stop().await;
    assert!(!upstream.is_alive());
}

#[tokio::test]
async fn a_refused_subscription_is_an_answer() {
    let server = Server::start(|seen| match seen.method() {
        "subscriptions/listen" => Answer::json(404, seen.error(-32601, json!(null))),
        _ => usual(seen),
    })
    .await;
    let (upstream, _) = alone(&server).await;
    let answer = upstream.subscribe("file:///a", Instant::now() + Duration::from_secs(3)).await.unwrap();
    assert_eq!(error(answer)["code"], -32601);
    assert!(upstream.is_alive());
}

#[tokio::test]
async fn a_server_of_another_revision_is_not_started() {
    let server = Server::start(|seen| match seen.method() {
        "server/discover" => Answer::json(200, seen.result(json!({ "supportedVersions": ["2027-01-01"] }))),
        _ => usual(seen),
    })
    .await;
    let app = App::new(&server.url(), Era::Modern);
    refused(app.call().await, Code::UpstreamUnavailable, "does not list 2026-07-28");
}
