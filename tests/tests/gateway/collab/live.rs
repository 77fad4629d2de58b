//! Live: server-sent events that resume, WebSockets, resources that tell of changes in both eras.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use protocol::Code;
use tests::mcp_client::everything;
use tests::{Actor, Backend, Case, McpClient, Settings, TestApp, Value, cases, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::{done, make_task, until};

pub const CASES: &[Case] = cases![
    Every: events_are_followed_and_resumed, a_websocket_has_the_same_events, resources_tell_of_changes,
        a_stream_ends_with_its_task_and_its_key, a_stop_ends_streams_and_waits, a_task_of_the_same_name_begins_again;
];

const SOON: Duration = Duration::from_secs(10);

/// Server-sent events as they come.
struct Sse {
    response: reqwest::Response,
    text: String,
}

impl Sse {
    async fn open(actor: &Actor, path: &str, last: Option<i64>) -> Sse {
        let mut request = reqwest::Client::new().get(actor.url(path));
        for (name, value) in actor.headers() {
            request = request.header(name, value);
        }
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Sse { response, text: String::new() }
    }

    /// The next event: its number, kind and data; none at the end of the stream.
    async fn next(&mut self) -> Option<(i64, String, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                let field =
                    |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                if let Some(id) = field("id: ") {
                    let data = serde_json::from_str(&field("data: ").unwrap()).unwrap();
                    return Some((id.parse().unwrap(), field("event: ").unwrap(), data));
                }
                continue;
            }
            let chunk = tokio::time::timeout(SOON, self.response.chunk())
                .await
                .expect("there is an event")
                .ok()??;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

async fn events_are_followed_and_resumed(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let ada = app.as_agent("ada").await;
    make_task(&ada, "t").await;
    let mut events = Sse::open(&ada, "/v1/tasks/t/events", None).await;
    let (seq, kind, data) = events.next().await.unwrap();
    assert_eq!((seq, kind.as_str(), data["agent"].as_str()), (1, "task_created", Some("ada")));
    done(&ada, "claim_file", json!({ "task_id": "t", "path": "a" })).await;
    done(&ada, "file_write", json!({ "task_id": "t", "path": "a", "content": "x" })).await;
    done(&ada, "log_step", json!({ "task_id": "t", "step": "did\nit" })).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let (seq, kind, data) = events.next().await.unwrap();
        seen.push((seq, kind, data["data"]["step"].as_str().map(str::to_owned)));
    }
    let step = Some("did\nit".to_owned());
    assert_eq!(
        seen,
        [(2, "lease_granted".into(), None), (3, "file_written".into(), None), (4, "step".into(), step)]
    );
    drop(events);
    done(&ada, "release_file", json!({ "task_id": "t", "path": "a" })).await;
    let mut resumed = Sse::open(&ada, "/v1/tasks/t/events", Some(3)).await;
    assert_eq!(resumed.next().await.unwrap().0, 4);
    assert_eq!(resumed.next().await.unwrap().1, "lease_released");
    assert_eq!(Sse::open(&ada, "/v1/tasks/t/events?after=4", None).await.next().await.unwrap().0, 5);
    ada.header("Last-Event-ID", "x").get("/v1/tasks/t/events").await.problem(Code::BadRequest);
    ada.get("/v1/tasks/t/events?after=-1").await.problem(Code::ValidationFailed);
    ada.get("/v1/tasks/u/events").await.problem(Code::NotFound);
    drop(resumed);
    until(SOON, async || super::metric(&app, "mcp_task_followers").await == 0.0).await;
}

async fn a_websocket_has_the_same_events(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let ada = app.as_agent("ada").await;
    make_task(&ada, "t").await;
    let url = ada.url("/v1/tasks/t/events?after=1").replacen("http", "ws", 1);
    let mut request = url.as_str().into_client_request().unwrap();
    for (name, value) in ada.headers() {
        let name: reqwest::header::HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let (mut socket, response) = tokio_tungstenite::client_async(
        request,
        tokio::net::TcpStream::connect(ada.url("").trim_start_matches("http://").trim_end_matches('/'))
            .await
            .unwrap(),
    )
    .await
    .unwrap();
    assert_eq!(response.status(), 101);
    for number in 2..40 {
        done(&ada, "log_step", json!({ "task_id": "t", "step": number.to_string() })).await;
        let message = tokio::time::timeout(SOON, socket.next()).await.unwrap().unwrap().unwrap();
        let event: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        assert_eq!(
            (event["seq"].as_i64(), event["data"]["step"].as_str()),
            (Some(number), Some(&*number.to_string()))
        );
    }
    socket.send(Message::Ping("x".into())).await.unwrap();
    assert!(tokio::time::timeout(SOON, socket.next()).await.unwrap().unwrap().unwrap().is_pong());
    socket.send(Message::Close(None)).await.unwrap();
    until(SOON, async || super::metric(&app, "mcp_task_followers").await == 0.0).await;
    let plain = ada.header("Upgrade", "websocket").get("/v1/tasks/t/events").await;
    plain.problem(Code::BadRequest);
    let odd = ada
        .header("Upgrade", "websocket")
        .header("Connection", "Upgrade")
        .header("Sec-WebSocket-Version", 13);
    odd.header("Sec-WebSocket-Key", "x").get("/v1/tasks/t/events").await.problem(Code::BadRequest);
}

async fn resources_tell_of_changes(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let ada = app.as_agent("ada").await;
    make_task(&ada, "t").await;
    done(&ada, "file_write", json!({ "task_id": "t", "path": "a b", "content": "x" })).await;
    for (path, prefix) in [("/mcp", "collab+"), ("/mcp/s/collab", "")] {
        let legacy = McpClient::legacy(&ada, path, "2025-11-25", everything()).await;
        let modern = McpClient::modern(&ada, path);
        let templates = legacy.result("resources/templates/list", json!({})).await;
        assert!(templates.to_string().contains("workspace://{taskId}/{+path}"), "{templates}");
        let uri = |own: &str| format!("{prefix}{own}");
        let state = legacy.result("resources/read", json!({ "uri": uri("tasks://t/state") })).await;
        assert_eq!(state["contents"][0]["uri"], uri("tasks://t/state"));
        let file = uri("workspace://t/a%20b");
        let read = modern.result("resources/read", json!({ "uri": file })).await;
        assert!(read["contents"][0]["text"].is_string(), "{read}");
        legacy.result("resources/subscribe", json!({ "uri": file })).await;
        let mut told = legacy.listen(None).await;
        let mut listening = modern
            .open(
                "subscriptions/listen",
                json!({ "notifications": { "resourcesListChanged": true, "resourceSubscriptions": [uri("tasks://t/logs")] } }),
            )
            .await;
        let acknowledged = listening.next_of("notifications/subscriptions/acknowledged").await;
        assert_eq!(
            acknowledged["params"]["notifications"]["resourceSubscriptions"][0],
            uri("tasks://t/logs")
        );
        done(&ada, "log_step", json!({ "task_id": "t", "step": path })).await;
        let updated = listening.next_of("notifications/resources/updated").await;
        assert_eq!(updated["params"]["uri"], uri("tasks://t/logs"));
        done(&ada, "file_write", json!({ "task_id": "t", "path": "other", "content": path })).await;
        // An earlier change of the list may still be told.
        while let Ok(message) = told.next_within(Duration::from_millis(1200)).await {
            let method = &message["method"];
            assert_eq!(method, "notifications/resources/list_changed", "another file changed: {message}");
        }
        done(&ada, "file_write", json!({ "task_id": "t", "path": "a b", "content": path })).await;
        let updated = told.next_of("notifications/resources/updated").await;
        assert_eq!(updated["params"]["uri"], file);
        make_task(&ada, &format!("new-{}", prefix.len())).await;
        listening.next_of("notifications/resources/list_changed").await;
        let listed = modern.result("resources/list", json!({})).await;
        assert!(listed.to_string().contains(&format!("tasks://new-{}/state", prefix.len())), "{listed}");
    }
    let missing = McpClient::legacy(&ada, "/mcp/s/collab", "2025-11-25", everything()).await;
    missing.error("resources/subscribe", json!({ "uri": "tasks://nothing/state" })).await;
}

async fn a_task_of_the_same_name_begins_again(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let ada = app.as_agent("ada").await;
    for round in 0..3 {
        make_task(&ada, "t").await;
        for number in 0..5 {
            done(&ada, "log_step", json!({ "task_id": "t", "step": format!("{round} {number}") })).await;
        }
        let mut events = Sse::open(&ada, "/v1/tasks/t/events?after=5", None).await;
        assert_eq!(events.next().await.unwrap().0, 6);
        // At once, so that the reader may not see that it was gone.
        ada.delete("/v1/tasks/t").await.status(204);
        make_task(&ada, "t").await;
        if let Some((seq, kind, _)) = events.next().await {
            assert_eq!((seq, kind.as_str()), (1, "task_created"), "the new one from its begin");
        }
        let later =
            done(&ada, "subscribe_logs", json!({ "task_id": "t", "after": 6, "wait_seconds": 5 })).await;
        assert_eq!((later["events"][0]["seq"].as_i64(), later["after"].as_i64()), (Some(1), Some(1)));
        ada.delete("/v1/tasks/t").await.status(204);
    }
}

async fn a_stop_ends_streams_and_waits(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    let (ada, bob) = (app.as_agent("ada").await, app.as_agent("bob").await);
    make_task(&ada, "t").await;
    done(&ada, "claim_file", json!({ "task_id": "t", "path": "a" })).await;
    let mut events = Sse::open(&ada, "/v1/tasks/t/events?after=2", None).await;
    let waits = tokio::spawn({
        let bob = bob.clone();
        async move {
            let follow = json!({ "task_id": "t", "after": 2, "wait_seconds": 60 });
            let claim = json!({ "task_id": "t", "path": "a", "wait_seconds": 60 });
            tokio::join!(super::tool(&bob, "subscribe_logs", follow), super::tool(&bob, "claim_file", claim))
        }
    });
    until(SOON, async || super::metric(&app, "mcp_lease_waiters").await == 1.0).await;
    until(SOON, async || super::metric(&app, "mcp_task_followers").await == 3.0).await;
    assert!(app.terminate(Duration::from_secs(5)).await.success());
    let (followed, claimed) = waits.await.unwrap();
    assert_eq!(followed.json_of(200)["events"], json!([]));
    claimed.problem(Code::LeaseHeld);
    assert_eq!(events.next().await, None);
}

async fn a_stream_ends_with_its_task_and_its_key(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let ada = app.as_agent("ada").await;
    let operator = app.as_operator();
    for task in ["t", "u"] {
        make_task(&ada, task).await;
    }
    let mut events = Sse::open(&ada, "/v1/tasks/t/events?after=1", None).await;
    ada.delete("/v1/tasks/t").await.status(204);
    assert_eq!(events.next().await, None, "the task is gone");
    let (secret, id) = operator.make_key(json!({ "name": "short", "role": "agent" })).await;
    let mut events = Sse::open(&app.with_key(&secret), "/v1/tasks/u/events?after=1", None).await;
    operator.delete(&format!("/v1/keys/{id}")).await;
    assert_eq!(events.next().await, None, "the key is revoked");
}
