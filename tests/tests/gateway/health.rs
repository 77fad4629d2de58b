//! States of servers: since when, why, and the last success; checks in the background, which start nothing and
//! delay nothing; success that is none.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::cut::{Cut, Line};
use tests::raw_server::{Form, Raw, serve_http, serve_websocket};
use tests::{
    Actor, Answer, Backend, Case, Registered, Registration, Settings, TestApp, Value, cases, json, proc,
    programs,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

pub const CASES: &[Case] = cases![
    Every: a_remote_goes_and_comes_back, the_last_success_outlives_the_gateway;
    Once: a_server_that_lists_nothing_says_so, servers_that_hang_delay_no_other, checks_keep_no_child_running,
        a_child_that_stands_still_is_noticed, a_remote_that_asks_for_credentials, a_global_server_is_checked_once,
        checks_can_be_off;
];

/// Time for a state to be seen on a loaded machine.
const SOON: Duration = Duration::from_secs(20);

const EMPTY_TOOLS: &str = r#"{"jsonrpc":"2.0","id":$ID,"result":{"tools":[]}}"#;
const ONE_PROMPT: &str = r#"{"jsonrpc":"2.0","id":$ID,"result":{"prompts":[{"name":"greet"}]}}"#;

/// Settings with a check every so many milliseconds.
fn checked_every(millis: u64) -> Settings {
    Settings::new().env("EGRESS_ALLOW", "127.0.0.0/8").env("HEALTH_CHECK_INTERVAL_MS", millis)
}

async fn register(actor: &Actor, slug: &str, url: &str, further: Value) -> Registered {
    let transport = if url.starts_with("ws") { "websocket" } else { "streamable-http" };
    let mut body = json!({ "slug": slug, "name": slug, "transport": transport, "url": url });
    body.as_object_mut().unwrap().extend(further.as_object().cloned().unwrap_or_default());
    let answer = actor.post("/v1/mcp/servers", body).await;
    let body = answer.json_of(201);
    Registered { id: body["id"].as_str().unwrap().to_owned(), body }
}

/// Waits for a state of a server.
async fn until(actor: &Actor, server: &Registered, state: &str) -> Value {
    let is_so = |answer: &Answer| answer.json_of(200)["state"] == state;
    actor.until(&server.path(""), SOON, is_so).await.json()
}

fn said(server: &Value) -> &str {
    server["stateReason"].as_str().unwrap_or_default()
}

fn port(url: &str) -> u16 {
    url.split(':').nth(2).and_then(|rest| rest.split('/').next()?.parse().ok()).unwrap()
}

/// The value of a figure, 0 if it is not shown.
async fn figure(app: &TestApp, line: &str) -> f64 {
    let text = reqwest::get(format!("{}/metrics", app.metrics_url())).await.unwrap().text().await.unwrap();
    let value = text.lines().find_map(|shown| shown.strip_prefix(line)?.trim().parse().ok());
    value.unwrap_or_default()
}

async fn a_remote_goes_and_comes_back(backend: Backend) {
    let app = TestApp::start(backend, checked_every(150)).await;
    let admin = app.as_tenant_admin("acme").await;
    let (http, socket) =
        (serve_http(Raw::default(), Form::Json).await, serve_websocket(Raw::default()).await);
    for (slug, url, path) in [("far", http, "http"), ("socket", socket, "ws")] {
        let cut = Cut::before(port(&url)).await;
        let url = format!("{path}://127.0.0.1:{}/mcp", cut.port);
        let server = register(&admin, slug, &url, json!({ "startTimeoutMs": 3_000 })).await;
        let there = until(&admin, &server, "healthy").await;
        assert!(there["lastSuccessAt"].is_string() && there["lastUsedAt"].is_null(), "no use: {there}");

        cut.set(Line::Drops);
        let away = until(&admin, &server, "unhealthy").await;
        assert!(
            !said(&away).is_empty() && away["stateSince"].as_str() > there["stateSince"].as_str(),
            "{away}"
        );
        let since = away["stateSince"].clone();
        let more = |answer: &Answer| said(&answer.json()).contains("failures in a row");
        let later = admin.until(&server.path(""), SOON, more).await.json();
        assert_eq!(later["stateSince"], since, "it is away since the first failure");
        assert_eq!(later["lastSuccessAt"], away["lastSuccessAt"], "and has answered nothing since");
        assert!(figure(&app, r#"mcp_upstream_state{state="unhealthy"}"#).await >= 1.0);

        cut.set(Line::Passes);
        let back = until(&admin, &server, "healthy").await;
        assert!(back["stateSince"].as_str() > since.as_str(), "{back}");
        assert!(back["lastSuccessAt"].as_str() > away["lastSuccessAt"].as_str(), "{back}");

        // The same with a connection that calls use.
        let text = r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[{"type":"text","text":"here"}]}}"#;
        let arguments = json!({ "text": tests::raw_server::packed(text.as_bytes()) });
        let tool = format!("{slug}__raw");
        assert_eq!(admin.call(&tool, arguments.clone()).await.tool_text(), "here");
        cut.set(Line::Drops);
        until(&admin, &server, "unhealthy").await;
        cut.set(Line::Passes);
        until(&admin, &server, "healthy").await;
        assert_eq!(admin.call(&tool, arguments).await.tool_text(), "here");
    }
    assert_eq!(figure(&app, r#"mcp_upstream_state{state="unhealthy"}"#).await, 0.0);
    for outcome in ["ok", "failed"] {
        assert!(figure(&app, &format!(r#"mcp_upstream_checks_total{{outcome="{outcome}"}}"#)).await > 0.0);
    }
    assert_eq!(admin.executions("").await.len(), 4, "only the calls are on record");
}

async fn the_last_success_outlives_the_gateway(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let server = operator.register(Registration::rmcp("fix")).await;
    let before = operator.get(&server.path("")).await.json_of(200);
    assert_eq!((&before["state"], &before["lastSuccessAt"]), (&json!("unknown"), &Value::Null));
    let health = operator.post(&server.path("/health"), json!({})).await.json_of(200);
    let last = health["lastSuccessAt"].clone();
    assert!(health["state"] == "healthy" && last.is_string() && health["stateSince"].is_string(), "{health}");
    let other = app.as_operator_for("beta").await;
    let global = operator.register(Registration::rmcp("shared").with("scope", "global")).await;
    operator.call("shared__echo", json!({ "nonce": "n" })).await.tool_text();
    app.terminate(Duration::from_secs(10)).await;
    app.boot(None).await;

    let shown = app.as_operator().get(&server.path("")).await.json_of(200);
    assert_eq!(shown["state"], "unknown", "nothing was asked since the start");
    assert!(shown["lastSuccessAt"].as_str() >= last.as_str(), "{shown}");
    let listed = app.as_operator().get("/v1/mcp/servers").await.json_of(200);
    let shown = listed["items"].as_array().unwrap().iter().find(|shown| shown["slug"] == "shared");
    assert!(shown.is_some_and(|shown| shown["lastSuccessAt"].is_string()), "{listed}");
    let other = app.with_key(&other.make_key(json!({ "name": "b", "role": "tenant-admin" })).await.0);
    let theirs = other.get(&global.path("")).await.json_of(200);
    assert_eq!(theirs["lastSuccessAt"], Value::Null, "another tenant's success is not this one's");
}

async fn a_server_that_lists_nothing_says_so(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let raw = |slug, raw: Raw| {
        let arguments = raw.arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Registration::stdio(slug, programs::programs().fixture_raw, &arguments)
    };
    let nothing =
        operator.register(raw("nothing", Raw::default().saying("tools/list", &[EMPTY_TOOLS]))).await;
    let prompts = Raw::default().saying("tools/list", &[EMPTY_TOOLS]).saying("prompts/list", &[ONE_PROMPT]);
    let prompts = operator.register(raw("prompts", prompts)).await;
    for (server, note, reason) in [
        (
            &nothing,
            "lists no tools, resources or prompts",
            "it answers, but lists no tools, resources or prompts",
        ),
        (&prompts, "lists no tools", "it declares `tools`, but lists none"),
    ] {
        let found = operator.get(&server.path("/discover")).await;
        found.must(found.json_of(200)["notes"][0].to_string().contains(note), "a note says so");
        let shown = operator.get(&server.path("")).await.json_of(200);
        assert_eq!((shown["state"].as_str(), said(&shown)), (Some("degraded"), reason));
        let health = operator.post(&server.path("/health"), json!({})).await.json_of(200);
        assert_eq!((&health["state"], said(&health)), (&json!("degraded"), reason));
        assert_eq!(health["stateSince"], shown["stateSince"], "it is so since it was found");
        assert!(health["code"].is_null() && health["latencyMs"].is_number(), "it answers: {health}");
    }
    let degraded = operator.get("/v1/mcp/servers?status=degraded").await.json_of(200);
    assert_eq!(degraded["total"], 2, "{degraded}");
    let full = operator.register(raw("full", Raw::default())).await;
    operator.get(&full.path("/discover")).await.status(200);
    assert_eq!(operator.get(&full.path("")).await.json_of(200)["state"], "healthy");
}

async fn servers_that_hang_delay_no_other(backend: Backend) {
    let app = TestApp::start(backend, checked_every(300)).await;
    let operator = app.as_operator();
    let url = serve_http(Raw::default(), Form::Json).await;
    let cut = Cut::before(port(&url)).await;
    cut.set(Line::Holds);
    let held = format!("http://127.0.0.1:{}/mcp", cut.port);
    let mut hanging = Vec::new();
    for number in 0..20 {
        let slug = format!("hangs-{number}");
        hanging.push(register(&operator, &slug, &held, json!({ "startTimeoutMs": 60_000 })).await);
    }
    let given_up = register(&operator, "late", &held, json!({ "startTimeoutMs": 1_500 })).await;
    let good = register(&operator, "good", &url, json!({})).await;
    let mut last = String::new();
    for _ in 0..5 {
        let begun = Instant::now();
        let answers = |answer: &Answer| answer.json()["lastSuccessAt"].as_str().is_some_and(|at| *at > *last);
        let shown = operator.until(&good.path(""), SOON, answers).await.json();
        // Its own interval, the look, and places that those that hang hold for a second each.
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?} for one check", begun.elapsed());
        last = shown["lastSuccessAt"].as_str().unwrap().to_owned();
    }
    let late = until(&operator, &given_up, "unhealthy").await;
    assert!(said(&late).contains("in time"), "{late}");
    assert_eq!(until(&operator, &hanging[0], "unknown").await["lastSuccessAt"], Value::Null);
}

async fn checks_keep_no_child_running(backend: Backend) {
    let app = TestApp::start(backend, checked_every(100)).await;
    let operator = app.as_operator();
    let server = operator.register(Registration::rmcp("fix").with("idleTimeoutMs", 1_500)).await;
    let unused = operator.register(Registration::rmcp("unused")).await;
    let pid: u32 = operator.call("fix__pid", json!({})).await.tool_text().parse().unwrap();
    let used = operator.get(&server.path("")).await.json_of(200);
    let answers = |answer: &Answer| answer.json()["lastSuccessAt"].as_str() > used["lastSuccessAt"].as_str();
    operator.until(&server.path(""), SOON, answers).await;
    let end = Instant::now() + SOON;
    while proc::is_running(pid) {
        assert!(Instant::now() < end, "checks keep the child running");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let shown = until(&operator, &server, "healthy").await;
    assert!(said(&shown).contains("ended after a long time without a request"), "{shown}");
    let before = figure(&app, r#"mcp_upstream_checks_total{outcome="ok"}"#).await;
    assert!(before > 0.0, "it was checked while it ran");
    assert_eq!(until(&operator, &unused, "unknown").await["lastSuccessAt"], Value::Null);
    assert!(app.children().is_empty(), "a check starts nothing: {:?}", app.children());
    assert_eq!(operator.executions("").await.len(), 1);
}

async fn a_child_that_stands_still_is_noticed(backend: Backend) {
    let app = TestApp::start(backend, checked_every(100).env("LIST_TIMEOUT_MS", 1_200)).await;
    let operator = app.as_operator();
    let server = operator.register(Registration::rmcp("fix")).await;
    let pid: u32 = operator.call("fix__pid", json!({})).await.tool_text().parse().unwrap();
    // A server is in use, and not checked, while the lists after its start are requested.
    operator.get(&server.path("/discover")).await.status(200);
    proc::signal(pid, Signal::STOP);
    let still = until(&operator, &server, "degraded").await;
    assert!(said(&still).contains("did not answer within"), "{still}");
    proc::signal(pid, Signal::CONT);
    let again = until(&operator, &server, "healthy").await;
    assert!(again["stateSince"].as_str() > still["stateSince"].as_str(), "{again}");
    assert_eq!(
        operator.call("fix__pid", json!({})).await.tool_text(),
        pid.to_string(),
        "it was not replaced"
    );
}

async fn a_remote_that_asks_for_credentials(backend: Backend) {
    let app = TestApp::start(backend, checked_every(200)).await;
    let operator = app.as_operator();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 8192];
            if !matches!(stream.read(&mut request).await, Ok(1..)) {
                continue;
            }
            let answer = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.ok();
        }
    });
    for era in ["auto", "legacy", "modern"] {
        let server = register(&operator, &format!("closed-{era}"), &url, json!({ "era": era })).await;
        let shown = until(&operator, &server, "unhealthy").await;
        assert!(said(&shown).contains("asks for credentials"), "{shown}");
        assert_eq!(shown["lastSuccessAt"], Value::Null);
        let health = operator.post(&server.path("/health"), json!({})).await.json_of(200);
        assert!(health["state"] == "unhealthy" && said(&health).contains("asks for credentials"), "{health}");
    }
}

async fn a_global_server_is_checked_once(backend: Backend) {
    let app = TestApp::start(backend, checked_every(150)).await;
    let operator = app.as_operator();
    let url = serve_http(Raw::default(), Form::Json).await;
    let cut = Cut::before(port(&url)).await;
    let url = format!("http://127.0.0.1:{}/mcp", cut.port);
    let shared =
        register(&operator, "shared", &url, json!({ "scope": "global", "startTimeoutMs": 2_000 })).await;
    let tenants = [app.as_tenant_admin("acme").await, app.as_tenant_admin("beta").await];
    for tenant in &tenants {
        until(tenant, &shared, "healthy").await;
    }
    // One tenant has a connection, the other has none.
    tenants[0].post(&shared.path("/health"), json!({})).await.status(200);
    cut.set(Line::Drops);
    for tenant in &tenants {
        until(tenant, &shared, "unhealthy").await;
    }
    cut.set(Line::Passes);
    for tenant in &tenants {
        until(tenant, &shared, "healthy").await;
    }
}

async fn checks_can_be_off(backend: Backend) {
    let app = TestApp::start(backend, checked_every(0)).await;
    let operator = app.as_operator();
    let url = serve_http(Raw::default(), Form::Json).await;
    let server = register(&operator, "far", &url, json!({})).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let shown = operator.get(&server.path("")).await.json_of(200);
    assert_eq!((&shown["state"], &shown["lastSuccessAt"]), (&json!("unknown"), &Value::Null));
    assert_eq!(figure(&app, r#"mcp_upstream_checks_total{outcome="ok"}"#).await, 0.0);
}
