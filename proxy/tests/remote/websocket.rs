//! Servers behind a WebSocket.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use protocol::Code;
use protocol::mcp::{Era, Eras};
use proxy::http::RemotePlan;
use proxy::pool::UpstreamEvent;
use proxy::server::Launch;
use proxy::upstream::Listener;
use proxy::websocket;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use crate::app::{App, Ears, egress, error, refused, remote, text, until};

struct Server {
    port: u16,
    seen: Arc<Mutex<Vec<Value>>>,
    headers: Arc<Mutex<Vec<(String, String)>>>,
    connections: Arc<Mutex<usize>>,
}

impl Server {
    /// Every message gets the replies of `handler`; a null among them ends the connection.
    async fn start(handler: impl Fn(&Value) -> Vec<Value> + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server =
            Server { port, seen: Arc::default(), headers: Arc::default(), connections: Arc::default() };
        let (seen, headers, connections, handler) =
            (server.seen.clone(), server.headers.clone(), server.connections.clone(), Arc::new(handler));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *connections.lock() += 1;
                let (seen, headers, handler) = (seen.clone(), headers.clone(), handler.clone());
                tokio::spawn(async move {
                    let look = |request: &Request, mut response: Response| {
                        for (name, value) in request.headers() {
                            headers.lock().push((name.to_string(), value.to_str().unwrap().to_owned()));
                        }
                        response.headers_mut().insert("sec-websocket-protocol", "mcp".parse().unwrap());
                        Ok(response)
                    };
                    let Ok(mut socket) = accept_hdr_async(stream, look).await else { return };
                    while let Some(Ok(message)) = socket.next().await {
                        let Message::Text(text) = message else { continue };
                        let message: Value = serde_json::from_str(&text).unwrap();
                        seen.lock().push(message.clone());
                        for reply in handler(&message) {
                            if reply.is_null() {
                                socket.close(None).await.ok();
                                return;
                            }
                            socket.send(Message::text(reply.to_string())).await.ok();
                        }
                    }
                });
            }
        });
        server
    }

    fn app(&self, era: Era) -> App {
        let url = format!("ws://127.0.0.1:{}/mcp", self.port);
        App::with(Launch::Websocket(remote(&url, &[("Authorization", "Bearer own")])), era, |settings| {
            settings.line_cap = 100_000;
        })
    }

    fn of(&self, method: &str) -> Vec<Value> {
        self.seen.lock().iter().filter(|seen| seen["method"] == method).cloned().collect()
    }
}

fn result(message: &Value, result: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": message["id"], "result": result })
}

fn legacy(message: &Value) -> Vec<Value> {
    match message["method"].as_str().unwrap_or_default() {
        "initialize" => vec![result(message, json!({ "protocolVersion": "2025-06-18", "capabilities": {} }))],
        "tools/call" => vec![
            json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": { "progressToken": 41 } }),
            json!({ "jsonrpc": "2.0", "id": "p", "method": "ping" }),
            json!({ "jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {} }),
            json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" }),
            result(message, json!({ "content": [{ "text": "framed" }] })),
        ],
        "slow" => Vec::new(),
        "end" => vec![Value::Null],
        "flood" => vec![result(message, json!("x".repeat(200_000)))],
        "" | "notifications/initialized" | "notifications/cancelled" => Vec::new(),
        _ => vec![
            json!({ "jsonrpc": "2.0", "id": message["id"], "error": { "code": -32601, "message": "no" } }),
        ],
    }
}

fn modern(message: &Value) -> Vec<Value> {
    match message["method"].as_str().unwrap_or_default() {
        "server/discover" => {
            let capabilities = json!({ "tools": { "listChanged": true } });
            vec![result(
                message,
                json!({ "supportedVersions": ["2026-07-28"], "capabilities": capabilities }),
            )]
        }
        "subscriptions/listen" => {
            let meta = json!({ "io.modelcontextprotocol/subscriptionId": message["id"] });
            let params = json!({ "_meta": meta, "notifications": message["params"]["notifications"] });
            vec![
                json!({ "jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": params }),
                json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": { "_meta": meta } }),
            ]
        }
        "tools/call" => vec![result(message, json!({ "content": [{ "text": "framed" }] }))],
        "notifications/cancelled" => Vec::new(),
        _ => vec![
            json!({ "jsonrpc": "2.0", "id": message["id"], "error": { "code": -32022, "message": "no" } }),
        ],
    }
}

#[tokio::test]
async fn the_legacy_era() {
    let server = Server::start(legacy).await;
    let app = server.app(Era::Legacy);
    let mut events = app.pool.events();
    let ears = Arc::new(Ears::default());
    let listener: Arc<dyn Listener> = ears.clone();
    let call = app.ask_for("tools/call", json!({}), Some(&listener), Duration::from_secs(5));
    assert_eq!(text(call.await.unwrap()), "framed");
    assert_eq!(ears.methods(), ["notifications/progress", "elicitation/create"]);
    assert_eq!(events.recv().await.unwrap().event, UpstreamEvent::ToolsChanged);
    until("both are answered", || {
        let seen = server.seen.lock();
        seen.iter().any(|seen| seen["id"] == "p" && seen["result"] == json!({}))
            && seen.iter().any(|seen| seen["id"] == "q" && seen["result"]["asked"] == "elicitation/create")
    })
    .await;
    assert_eq!(error(app.ask("other", json!({})).await.unwrap())["code"], -32601);
    let header = |name: &str| server.headers.lock().iter().find(|one| one.0 == name).map(|one| one.1.clone());
    assert_eq!(header("sec-websocket-protocol").as_deref(), Some("mcp"));
    assert_eq!(header("authorization").as_deref(), Some("Bearer own"));
    assert_eq!(*server.connections.lock(), 1);
    assert_eq!(server.of("initialize")[0]["params"]["clientInfo"]["name"], "trunkline");
    assert_eq!(server.of("notifications/initialized").len(), 1);
    app.pool.stop(app.key.tenant, &app.spec).await;
    refused(app.call().await, Code::ServerStopped, "stopped");
}

#[tokio::test]
async fn the_modern_era() {
    let server = Server::start(modern).await;
    let app = server.app(Era::Modern);
    let mut events = app.pool.events();
    assert_eq!(app.call().await.unwrap(), "framed");
    let event = tokio::time::timeout(Duration::from_secs(3), events.recv()).await.unwrap().unwrap();
    assert_eq!(event.event, UpstreamEvent::ToolsChanged);
    assert_eq!(
        server.of("subscriptions/listen")[0]["params"]["notifications"],
        json!({ "toolsListChanged": true })
    );
}

#[tokio::test]
async fn who_goes_away_cancels() {
    let server = Server::start(legacy).await;
    let app = server.app(Era::Legacy);
    let slow = app.ask_for("slow", json!({}), None, Duration::from_millis(200)).await;
    refused(slow, Code::TimedOut, "did not answer");
    until("it is cancelled", || !server.of("notifications/cancelled").is_empty()).await;
    assert_eq!(server.of("notifications/cancelled")[0]["params"]["requestId"], server.of("slow")[0]["id"]);
}

#[tokio::test]
async fn a_connection_that_ends_takes_its_requests_along() {
    let server = Server::start(legacy).await;
    let app = server.app(Era::Legacy);
    let other = app.ask("slow", json!({}));
    let ended = async {
        until("the other is there", || !server.of("slow").is_empty()).await;
        app.ask("end", json!({})).await
    };
    let (other, ended) = tokio::join!(other, ended);
    refused(other, Code::UpstreamFailed, "closed the connection");
    refused(ended, Code::UpstreamFailed, "closed the connection");
    assert_eq!(app.call().await.unwrap(), "framed", "the pool makes another");
    refused(app.ask("flood", json!({})).await, Code::UpstreamFailed, "too large");
}

#[tokio::test]
async fn eras_are_found_out_on_connections_of_their_own() {
    let silent_modern = |message: &Value| match message["method"].as_str() {
        Some("server/discover") => vec![Value::Null],
        _ => legacy(message),
    };
    let dual = |message: &Value| match message["method"].as_str() {
        Some("initialize") => legacy(message),
        _ => modern(message),
    };
    let plan = RemotePlan::for_probe("probed", egress(&["127.0.0.0/8"]), "trunkline", "1");
    for (server, eras) in [
        (Server::start(legacy).await, Some(Eras::LEGACY)),
        (Server::start(silent_modern).await, Some(Eras::LEGACY)),
        (Server::start(dual).await, Some(Eras::DUAL)),
        (Server::start(|_| vec![Value::Null]).await, None),
    ] {
        let launch = remote(&format!("ws://127.0.0.1:{}/", server.port), &[]);
        let deadline = std::time::Instant::now() + Duration::from_secs(3);
        assert_eq!(websocket::eras(&plan, &launch, deadline).await.unwrap(), eras);
        assert_eq!(*server.connections.lock(), 2);
    }
}

#[tokio::test]
async fn the_guard_and_odd_servers() {
    let server = Server::start(legacy).await;
    for host in ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"] {
        let url = format!("ws://{host}:{}/", server.port);
        let app = App::with(Launch::Websocket(remote(&url, &[])), Era::Legacy, |settings| {
            settings.egress = egress(&[])
        });
        refused(app.call().await, Code::UpstreamUnavailable, "loopback");
    }
    assert_eq!(*server.connections.lock(), 0);
    let url = format!("http://127.0.0.1:{}/", server.port);
    let app = App::with(Launch::Websocket(remote(&url, &[])), Era::Legacy, |_| {});
    refused(app.call().await, Code::NotConfigured, "");
    let url = format!("wss://127.0.0.1:{}/", server.port);
    let app = App::with(Launch::Websocket(remote(&url, &[])), Era::Legacy, |_| {});
    refused(app.call().await, Code::UpstreamUnavailable, "");
    let http = crate::server::Server::start(|_| crate::server::Answer::status(401)).await;
    let app = App::with(
        Launch::Websocket(remote(&format!("ws://127.0.0.1:{}/", http.port), &[])),
        Era::Legacy,
        |_| {},
    );
    let refusal = refused(app.call().await, Code::UpstreamUnavailable, "HTTP status 401");
    assert!(refusal.hint.unwrap().contains("check the server's headers"));
}
