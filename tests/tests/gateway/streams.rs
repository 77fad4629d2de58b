//! Many open streams, slow readers and those that vanished: what they cost, and that they cost nobody
//! else anything.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tests::{
    Actor, Backend, Case, Code, Exchange, McpClient, Registration, Settings, Silence, TestApp, Value, cases,
    json, proc,
};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::pair::{Door, Pair};

pub const CASES: &[Case] = cases![
    Every: a_revoked_keys_streams_end, a_deleted_agents_streams_end;
    Once: a_thousand_sessions_listen, a_thousand_subscriptions, nobody_waits_for_a_slow_reader,
        nobody_waits_for_who_is_gone, an_expired_tokens_stream_ends, a_revoked_key_among_a_thousand,
        a_silent_stream_is_kept_alive, only_new_clients_read_empty_events;
];

const STREAMS: usize = 1_000;
const SECRET: &str = "a secret of more than thirty-two characters";

/// How soon a stream ends after its credential.
const ENDS_WITHIN: Duration = Duration::from_secs(2);
const DEAREST: u64 = 30 * 1024;

fn resident(app: &TestApp) -> u64 {
    proc::resident_bytes(app.process().pid()).expect("the gateway runs")
}

/// Opens streams, measures what they cost, and lets all of them hear of one change.
async fn cost(app: &TestApp, what: &str, open: impl AsyncFn() -> Exchange, change: impl AsyncFn()) {
    // Some first, so that what is needed once is not counted.
    let mut streams = join_all((0..50).map(|_| open())).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (before, begun) = (resident(app), Instant::now());
    for _ in 0..STREAMS / 50 {
        streams.extend(join_all((0..50).map(|_| open())).await);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let each = resident(app).saturating_sub(before) / STREAMS as u64;
    println!("{STREAMS} {what}: {each} bytes each, opened in {:?}", begun.elapsed());
    assert!(streams.iter().all(|stream| stream.status == 200 && stream.is_stream()));
    let begun = Instant::now();
    change().await;
    join_all(streams.iter_mut().map(|stream| stream.next_of("notifications/tools/list_changed"))).await;
    println!("{STREAMS} {what}: all told in {:?}", begun.elapsed());
    assert!(each < DEAREST, "{what}: {each} bytes each");
    assert!(begun.elapsed() < Duration::from_secs(10), "all are told in time: {:?}", begun.elapsed());
}

async fn a_thousand_sessions_listen(backend: Backend) {
    let pair = Pair::start(backend, &["--era", "legacy"]).await;
    let open = async || pair.legacy(Door::One, "2025-11-25", json!({})).await.listen(None).await;
    let caller = pair.modern(Door::One, json!({}));
    let change = async || drop(caller.call("test_trigger_tool_change").await.result().await);
    change().await;
    cost(&pair.app, "sessions with a stream", open, change).await;
}

async fn a_thousand_subscriptions(backend: Backend) {
    let pair = Pair::start(backend, &["--era", "modern"]).await;
    let client = pair.modern(Door::One, json!({}));
    let wanted = json!({ "notifications": { "toolsListChanged": true } });
    let open = async || {
        let mut stream = client.open("subscriptions/listen", wanted.clone()).await;
        stream.next_of("notifications/subscriptions/acknowledged").await;
        stream
    };
    let change = async || drop(client.call("test_trigger_tool_change").await.result().await);
    change().await;
    cost(&pair.app, "subscriptions", open, change).await;
}

/// Sends a request on a connection of its own with next to no room for an answer, and never reads.
async fn ignorant(client: &McpClient, request: Option<&Value>) -> TcpStream {
    let url = client.actor.url("");
    let address = url.strip_prefix("http://").unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(1_024).unwrap();
    let mut stream = socket.connect(address.parse().unwrap()).await.unwrap();
    let body = request.map(Value::to_string).unwrap_or_default();
    let method = if request.is_some() { "POST" } else { "GET" };
    let mut head =
        format!("{method} {} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n", client.path, body.len());
    let mut headers = client.headers();
    headers.extend(client.actor.headers().iter().cloned());
    headers.extend(request.into_iter().filter(|_| client.is_modern()).flat_map(tests::mcp_client::mirrored));
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).await.unwrap();
    stream
}

/// How long calls take: the middle one and the longest.
async fn pace(client: &McpClient, calls: usize) -> (Duration, Duration) {
    let one = async || {
        let begun = Instant::now();
        let mut call = client.call("test_simple_text").await;
        call.result().await;
        begun.elapsed()
    };
    let mut times = Vec::new();
    for _ in 0..calls / 4 {
        times.extend(join_all((0..4).map(|_| one())).await);
    }
    times.sort();
    (times[times.len() / 2], times[times.len() - 1])
}

async fn nobody_waits_for_a_slow_reader(backend: Backend) {
    for era in ["legacy", "modern"] {
        let pair = Pair::start(backend, &["--era", era, "--chatty"]).await;
        let quick = pair.modern(Door::One, json!({}));
        pace(&quick, 40).await;
        let before = pace(&quick, 400).await;
        let session = pair.legacy(Door::One, "2025-11-25", json!({})).await;
        session.result("logging/setLevel", json!({ "level": "debug" })).await;
        let mut slow = vec![ignorant(&session, None).await];
        let all =
            json!({ "toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true });
        for client in [&quick, &pair.modern(Door::All, json!({}))] {
            let listen = client.request("subscriptions/listen", json!({ "notifications": all }));
            slow.push(ignorant(client, Some(&listen)).await);
        }
        // The answer of this one has log messages before it, and many are never read either.
        for _ in 0..20 {
            let call = session.request("tools/call", Door::One.call("test_tool_with_logging"));
            slow.push(ignorant(&session, Some(&call)).await);
        }
        let memory = resident(&pair.app);
        let after = pace(&quick, 3_000).await;
        let grown = resident(&pair.app).saturating_sub(memory);
        println!("{era}: calls took {before:?} before and {after:?} beside slow readers; {grown} bytes more");
        assert!(after.0 < before.0 * 3 + Duration::from_millis(10), "{before:?} became {after:?}");
        assert!(after.1 < Duration::from_secs(2), "{before:?} became {after:?}");
        assert!(grown < 24 << 20, "what nobody reads is not kept for ever: {grown} bytes");
        drop(slow);
    }
}

async fn nobody_waits_for_who_is_gone(backend: Backend) {
    let pair = Pair::start(backend, &["--era", "legacy", "--chatty"]).await;
    let session = pair.legacy(Door::One, "2025-11-25", tests::mcp_client::everything()).await;
    let quick = pair.modern(Door::One, json!({}));
    let before = pace(&quick, 200).await;
    for _ in 0..50 {
        drop(session.listen(None).await);
        let asks = session.request("tools/call", Door::One.call("test_elicitation"));
        drop(ignorant(&session, Some(&asks)).await);
        let asks = quick.declaring(json!({ "elicitation": {} }));
        let asks = asks.request("tools/call", Door::One.call("test_elicitation"));
        drop(ignorant(&quick, Some(&asks)).await);
    }
    let after = pace(&quick, 400).await;
    println!("calls took {before:?} before and {after:?} after a hundred clients went away");
    assert!(after.0 < before.0 * 3 + Duration::from_millis(10), "{before:?} became {after:?}");
    assert_eq!(session.result("ping", json!({})).await, json!({}));
}

/// A stream of a session and a subscription of this caller, both open.
async fn both_streams(actor: &Actor) -> [Exchange; 2] {
    let session = McpClient::legacy(actor, "/mcp", "2025-11-25", json!({})).await;
    let modern = McpClient::modern(actor, "/mcp");
    let wanted = json!({ "notifications": { "toolsListChanged": true } });
    let mut listen = modern.open("subscriptions/listen", wanted).await;
    listen.next_of("notifications/subscriptions/acknowledged").await;
    [session.listen(None).await, listen]
}

/// Nothing is told on it any more, and it ends in time.
#[track_caller]
fn ends(stream: &mut Exchange, at_most: Duration) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        let until = Instant::now() + at_most;
        loop {
            match stream.next_within(until.saturating_duration_since(Instant::now())).await {
                Ok(told) if told["method"].is_null() => {}
                Ok(told) => panic!("{place}: {told} was told to who may not hear it any more"),
                Err(silence) => {
                    assert_eq!(silence, Silence::Ended, "{place}: {stream:?}");
                    return;
                }
            }
        }
    }
}

async fn a_revoked_keys_streams_end(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let agent = operator.post("/v1/agents", json!({ "slug": "eve", "name": "eve" })).await.json_of(201);
    let body = json!({ "agentId": agent["id"], "name": "eve", "role": "agent" });
    let (secret, id) = operator.make_key(body.clone()).await;
    let (kept, _) = operator.make_key(body).await;
    let mut streams = both_streams(&app.with_key(&secret)).await;
    let mut others = both_streams(&app.with_key(&kept)).await;
    let revoked = operator.delete(&format!("/v1/keys/{id}")).await;
    revoked.must(revoked.status < 300, "the key is revoked");
    let begun = Instant::now();
    for stream in &mut streams {
        ends(stream, ENDS_WITHIN.saturating_sub(begun.elapsed())).await;
    }
    println!("streams of a revoked key ended after {:?}", begun.elapsed());
    operator.register(Registration::conformance("fix", &[])).await;
    for stream in &mut others {
        stream.next_of("notifications/tools/list_changed").await;
    }
}

async fn an_expired_tokens_stream_ends(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let agent = operator.post("/v1/agents", json!({ "slug": "eve", "name": "eve" })).await.json_of(201);
    let body = json!({ "agentId": agent["id"], "expiresIn": 3 });
    let token = operator.post("/v1/tokens", body).await.json();
    let mut streams = both_streams(&app.with_bearer(token["token"].as_str().unwrap())).await;
    let expires: jiff::Timestamp = token["expiresAt"].as_str().unwrap().parse().unwrap();
    let left = Duration::try_from(jiff::Timestamp::now().duration_until(expires)).unwrap();
    let until = Instant::now() + left;
    for stream in &mut streams {
        ends(stream, (until + ENDS_WITHIN).saturating_duration_since(Instant::now())).await;
    }
    assert!(Instant::now() >= until, "they are open until then");
}

/// Each way in which an agent may have come in ends with it, and nothing makes the agent again.
async fn a_deleted_agents_streams_end(backend: Backend) {
    let app = TestApp::start(backend, Settings::new().env("JWT_SECRET", SECRET)).await;
    let operator = app.as_operator();
    operator.post("/v1/agents", json!({ "slug": "eve", "name": "eve" })).await.status(201);
    let key = operator.make_key(json!({ "agentId": "eve", "name": "eve", "role": "agent" })).await.0;
    let any = operator.make_key(json!({ "name": "any", "role": "agent" })).await.0;
    let claims = json!({ "sub": "eve", "tenant": "default", "exp": tests::jwt::in_seconds(600) });
    let made = operator.post("/v1/tokens", json!({ "agentId": "eve" })).await.json_of(201);
    let mut streams = Vec::new();
    for actor in [
        app.with_key(&key),
        app.with_key(&any).header("x-agent-id", "eve"),
        app.with_bearer(&tests::jwt::hs256(SECRET, &claims)),
        app.with_bearer(made["token"].as_str().unwrap_or_default()),
        app.anonymous_from_loopback().header("x-agent-id", "eve"),
    ] {
        streams.extend(both_streams(&actor).await);
    }
    let mut others = both_streams(&app.with_key(&any)).await;
    operator.delete("/v1/agents/eve").await.status(204);
    let begun = Instant::now();
    for stream in &mut streams {
        ends(stream, ENDS_WITHIN.saturating_sub(begun.elapsed())).await;
    }
    operator.get("/v1/agents/eve").await.problem(Code::NotFound);
    operator.register(Registration::conformance("fix", &[])).await;
    for stream in &mut others {
        stream.next_of("notifications/tools/list_changed").await;
    }
}

/// A thousand streams are looked at at once, and those of one key end.
async fn a_revoked_key_among_a_thousand(backend: Backend) {
    let app = TestApp::start(backend, Settings::new().env("RATE_LIMIT_MAX_REQUESTS", 0)).await;
    let operator = app.as_operator();
    let mut streams = Vec::new();
    for _ in 0..10 {
        let (secret, _) = operator.make_key(json!({ "name": "k", "role": "agent" })).await;
        let actor = app.with_key(&secret);
        streams.extend(join_all((0..50).map(|_| both_streams(&actor))).await.into_iter().flatten());
    }
    let (secret, id) = operator.make_key(json!({ "name": "k", "role": "agent" })).await;
    let mut ending = both_streams(&app.with_key(&secret)).await;
    operator.delete(&format!("/v1/keys/{id}")).await.status(204);
    let begun = Instant::now();
    for stream in &mut ending {
        ends(stream, ENDS_WITHIN.saturating_sub(begun.elapsed())).await;
    }
    println!("two streams of a revoked key among {} ended after {:?}", streams.len(), begun.elapsed());
    operator.register(Registration::conformance("fix", &[])).await;
    join_all(streams.iter_mut().map(|stream| stream.next_of("notifications/tools/list_changed"))).await;
}

async fn a_silent_stream_is_kept_alive(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let alice = app.as_agent("alice").await;
    let mut streams = both_streams(&alice).await;
    for stream in &mut streams {
        let told = stream.next_within(Duration::from_secs(25)).await;
        assert_eq!(told, Err(Silence::TimedOut), "{stream:?}");
        let alive = format!("{stream:?}").lines().any(|line| line.starts_with(':'));
        assert!(alive, "a comment within 25 s: {stream:?}");
    }
}

/// 2025-11-25 lets a stream begin with an event of empty data; clients of earlier revisions (Gemini CLI 0.61
/// among them) parse that as JSON.
async fn only_new_clients_read_empty_events(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let alice = app.as_agent("alice").await;
    for version in tests::mcp_client::LEGACY {
        let client = McpClient::legacy(&alice, "/mcp", version, json!({})).await;
        let mut home = client.listen(None).await;
        assert_eq!(home.next_within(Duration::from_secs(1)).await, Err(Silence::TimedOut), "{home:?}");
        let begins = format!("{home:?}").contains("retry: 1000");
        assert_eq!(begins, version == "2025-11-25", "{version}: {home:?}");
    }
}
