//! HTTP with SSE, as it was before Streamable HTTP.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use protocol::Code;
use protocol::mcp::{Era, Eras};
use proxy::http::{RemotePlan, eras};
use proxy::upstream::Listener;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::app::{App, Ears, egress, error, refused, remote, text, until};
use crate::server::{Answer, Seen, Server, Step};

/// A place on the stream: when it is due, and what comes then.
type Slot = (Arc<Notify>, Arc<Mutex<String>>);

/// A server with one stream, on which the answers of `reply` come in the order of the requests.
async fn start(
    endpoint: &'static str,
    reply: impl Fn(&Seen) -> Vec<Value> + Send + Sync + 'static,
) -> Server {
    let queue: Arc<Mutex<Vec<Slot>>> = Arc::default();
    let slots = queue.clone();
    let next = Mutex::new(0);
    Server::start(move |seen| match (seen.verb.as_str(), seen.path.as_str()) {
        ("GET", "/mcp") => {
            let mut steps = vec![Step::Write(format!("event: endpoint\ndata: {endpoint}\n\n"))];
            let mut slots = slots.lock();
            slots.clear();
            *next.lock() = 0;
            for _ in 0..10 {
                let slot = (Arc::new(Notify::new()), Arc::new(Mutex::new(String::new())));
                steps.push(Step::Wait(slot.0.clone()));
                steps.push(Step::Later(slot.1.clone()));
                slots.push(slot);
            }
            steps.push(Step::Hold);
            Answer::events(steps)
        }
        ("POST", "/message?session=1") => {
            let slots = queue.lock();
            for message in reply(seen) {
                let mut next = next.lock();
                let (notify, text) = &slots[*next];
                *next += 1;
                *text.lock() = format!("event: message\ndata: {message}\n\n");
                notify.notify_one();
            }
            Answer::text(202, "text/plain", "Accepted")
        }
        _ => Answer::status(404),
    })
    .await
}

fn usual(seen: &Seen) -> Vec<Value> {
    match seen.method() {
        "initialize" => vec![seen.result(json!({ "protocolVersion": "2024-11-05", "capabilities": {} }))],
        "tools/call" => vec![
            json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": { "progressToken": 41 } }),
            json!({ "jsonrpc": "2.0", "id": 9, "method": "roots/list" }),
            seen.result(json!({ "content": [{ "text": "older" }] })),
        ],
        "tools/list" => vec![seen.error(-32601, json!(null))],
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn it_is_spoken_to_where_nothing_newer_is() {
    let server = start("/message?session=1", usual).await;
    let app = App::new(&server.url(), Era::Legacy);
    assert_eq!(error(app.ask("tools/list", json!({})).await.unwrap())["code"], -32601);
    let ears = Arc::new(Ears::default());
    let listener: Arc<dyn Listener> = ears.clone();
    let call = app.ask_for("tools/call", json!({}), Some(&listener), Duration::from_secs(5));
    assert_eq!(text(call.await.unwrap()), "older");
    assert_eq!(ears.methods(), ["notifications/progress", "roots/list"]);
    until("the answer was sent", || {
        server.seen().iter().any(|seen| seen.body["result"]["asked"] == "roots/list")
    })
    .await;
    assert_eq!(server.of("notifications/initialized").len(), 1);
    for seen in server.seen() {
        assert_eq!(seen.header("authorization"), Some("Bearer own"));
    }
    let plan = RemotePlan::for_probe("probed", egress(&["127.0.0.0/8"]), "trunkline", "1");
    let deadline = std::time::Instant::now() + Duration::from_secs(3);
    assert_eq!(eras(&plan, &remote(&server.url(), &[]), deadline).await.unwrap(), Some(Eras::LEGACY));
}

#[tokio::test]
async fn messages_go_nowhere_else() {
    let server = start("http://127.0.0.2:9/message?session=1", usual).await;
    let app = App::new(&server.url(), Era::Legacy);
    refused(app.call().await, Code::UpstreamUnavailable, "HTTP status 404");
    assert!(server.of("tools/call").is_empty());
}
