//! What identifies a request is read strictly: headers of a token, its times, the host, headers that are
//! there twice; and what a body names must be what the caller acts for.

use std::time::Duration;

use reqwest::Method;
use tests::jwt::{hs256, in_seconds, under};
use tests::{Actor, Answer, Backend, Case, Code, Registration, Settings, TestApp, Value, cases, json};

pub const CASES: &[Case] = cases![
    Every: an_agent_is_made_where_its_maker_acts;
    Once: nothing_critical_in_a_token, a_token_ends_at_its_exp, clocks_may_differ_as_far_as_is_set,
        a_host_is_a_name_and_a_port, a_header_of_one_value_is_sent_once, times_have_a_maximum,
        an_address_has_a_host;
];

const SECRET: &str = "a secret of more than thirty-two characters";

fn claims(further: &Value) -> Value {
    let mut claims = json!({ "sub": "jack", "tenant": "default", "exp": in_seconds(600) });
    claims.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
    claims
}

async fn secured(backend: Backend) -> TestApp {
    let settings = Settings::new().env("JWT_SECRET", SECRET).env("LOOPBACK_ROLE", "none");
    TestApp::start(backend, settings).await
}

async fn nothing_critical_in_a_token(backend: Backend) {
    let app = secured(backend).await;
    let with = |header: Value| app.with_bearer(&under(&header, SECRET, &claims(&json!({}))));
    with(json!({ "alg": "HS256", "x": 1 })).rpc("ping", json!({})).await.result();
    for crit in [
        json!(["exp"]),
        json!(["b64"]),
        json!(["x", "alg"]),
        json!([]),
        json!("exp"),
        json!([7]),
        Value::Null,
    ] {
        let header = json!({ "alg": "HS256", "crit": crit, "b64": true, "x": 1 });
        let answer = with(header).rpc("ping", json!({})).await;
        answer.must(answer.status == 401, "no extension is implemented (RFC 7515, section 4.1.11)");
        answer.refused(&[Code::InvalidCredential]);
        answer.must(answer.text().contains("crit"), "it says why");
    }
}

/// Seconds since the epoch, with their fraction.
fn now() -> f64 {
    jiff::Timestamp::now().as_microsecond() as f64 / 1e6
}

async fn a_token_ends_at_its_exp(backend: Backend) {
    let app = secured(backend).await;
    // The end of a whole second, and the middle of one; the second time it is known already.
    for exp in [json!(now().ceil() + 1.0), json!(now().floor() + 2.5)] {
        let jack = app.with_bearer(&hs256(SECRET, &claims(&json!({ "exp": exp }))));
        jack.rpc("ping", json!({})).await.result();
        let left = exp.as_f64().unwrap() - now();
        tokio::time::sleep(Duration::from_secs_f64(left.max(0.0) + 0.01)).await;
        let answer = jack.rpc("ping", json!({})).await;
        answer.status(401);
        answer.refused(&[Code::CredentialExpired]);
    }
    for (further, said) in [
        (json!({ "exp": now() - 0.01 }), "expired"),
        (json!({ "nbf": now() + 2.0 }), "not valid yet"),
        (json!({ "exp": 1e300 }), "exp is no time"),
        (json!({ "nbf": 1e300 }), "nbf is no time"),
        (json!({ "exp": "tomorrow" }), "not valid"),
        (json!({ "exp": null }), "no `exp`"),
        (json!({ "nbf": "today" }), "not valid"),
    ] {
        let answer = app.with_bearer(&hs256(SECRET, &claims(&further))).rpc("ping", json!({})).await;
        answer.status(401);
        answer.must(answer.text().contains(said), &format!("{further}: {said}"));
    }
    let begun = claims(&json!({ "nbf": now() - 0.01 }));
    app.with_bearer(&hs256(SECRET, &begun)).rpc("ping", json!({})).await.result();
}

async fn clocks_may_differ_as_far_as_is_set(backend: Backend) {
    let settings = Settings::new().env("JWT_SECRET", SECRET).env("JWT_LEEWAY_SECONDS", 60);
    let app = TestApp::start(backend, settings).await;
    let status = async |further: Value| {
        app.with_bearer(&hs256(SECRET, &claims(&further))).rpc("ping", json!({})).await.status
    };
    assert_eq!(status(json!({ "exp": in_seconds(-30) })).await, 200);
    assert_eq!(status(json!({ "nbf": in_seconds(30) })).await, 200);
    assert_eq!(status(json!({ "exp": in_seconds(-61) })).await, 401);
    assert_eq!(status(json!({ "nbf": in_seconds(90) })).await, 401);
}

async fn ping(actor: &Actor, headers: &[(&str, &str)]) -> Answer {
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(headers);
    let body = br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#.to_vec();
    actor.send(Method::POST, "/mcp/rpc", &all, Some(body)).await
}

async fn a_host_is_a_name_and_a_port(backend: Backend) {
    let app = TestApp::start(backend, Settings::new().env("ALLOWED_HOSTS", "gw.example")).await;
    let operator = app.as_operator();
    for host in [
        "user@localhost",
        "user:secret@localhost:80",
        "@localhost",
        "gw.example@localhost",
        "localhost:abc",
        "localhost:",
        "localhost:0",
        "localhost:99999",
        "localhost:-1",
        "localhost:80:80",
        "[::1]:",
        "[::1]x",
        "::1",
        "localhost/",
        "localhost,localhost",
    ] {
        let answer = ping(&operator, &[("host", host)]).await;
        answer.must(answer.status == 400, &format!("`{host}` is no host (RFC 9112, section 3.2)"));
        answer.must(answer.text().contains("Host"), "it says so");
        operator
            .send(Method::GET, "/v1/mcp/servers", &[("host", host)], None)
            .await
            .problem(Code::BadRequest);
    }
    let answer = ping(&operator, &[("host", "localhost"), ("host", "localhost")]).await;
    answer.must(answer.status == 400, "a request has one host");
    for host in ["localhost", "gw.example:443", "127.0.0.1:1", "[::1]:65535"] {
        ping(&operator, &[("host", host)]).await.status(200);
    }
}

async fn a_header_of_one_value_is_sent_once(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let key = operator.headers().iter().find(|(name, _)| name == "x-mcp-key").map(|(_, key)| key.clone());
    let bearer = format!("Bearer {}", key.unwrap_or_default());
    let nobody = app.anonymous_from_loopback();
    for (name, value) in [
        ("authorization", bearer.as_str()),
        ("x-mcp-key", "mcp_live_x"),
        ("x-agent-id", "bob"),
        ("x-tenant-id", "default"),
    ] {
        let twice = [(name, value), (name, value)];
        let answer = ping(&nobody, &twice).await;
        answer.must(answer.status == 400 && answer.text().contains(name), &format!("{name} twice"));
        nobody.send(Method::GET, "/v1/mcp/servers", &twice, None).await.problem(Code::BadRequest);
    }
    for (name, value) in [("mcp-session-id", "x"), ("mcp-protocol-version", "2025-11-25")] {
        let answer = ping(&nobody, &[(name, value), (name, value)]).await;
        let said = answer.text().to_ascii_lowercase();
        answer.must(said.contains("error") && said.contains(name), &format!("{name} twice"));
    }
    let answer = ping(&nobody, &[("content-type", "application/json")]).await;
    answer.must(answer.status == 400 && answer.text().contains("content-type"), "one content type");
    let server = operator.register(Registration::rmcp("fix")).await;
    let path = format!("/v1/mcp/servers/{}", server.id);
    let tag = operator.get(&path).await.header("etag").unwrap_or_default().to_owned();
    let kind = ("content-type", "application/json");
    let patch = br#"{"name":"other"}"#.to_vec();
    let headers = [kind, ("if-match", tag.as_str()), ("if-match", "\"0-0\"")];
    let answer = operator.send(Method::PATCH, &path, &headers, Some(patch.clone())).await;
    let problem = answer.problem(Code::BadRequest);
    answer.must(problem.to_string().contains("if-match"), "it names the header");
    let answer = operator.send(Method::PATCH, &path, &[kind, kind], Some(patch.clone())).await;
    answer.problem(Code::BadRequest);
    let list = format!("\"0-0\", {tag}");
    operator.send(Method::PATCH, &path, &[kind, ("if-match", &list)], Some(patch)).await.status(200);
}

async fn an_agent_is_made_where_its_maker_acts(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (operator, acme) = (app.as_operator(), app.tenant("acme").await);
    for tenant in ["acme", &acme] {
        let body = json!({ "slug": "bob", "name": "Bob", "tenantId": tenant });
        let answer = operator.post("/v1/agents", body).await;
        let problem = answer.problem(Code::TenantMismatch);
        answer.must(problem.to_string().contains("X-Tenant-Id: acme"), "it says how");
    }
    let listed = operator.get("/v1/agents?tenantId=acme").await.json_of(200);
    assert_eq!(listed["total"], 0, "nothing was made: {listed}");
    let nowhere = json!({ "slug": "bob", "name": "Bob", "tenantId": "nowhere" });
    operator.post("/v1/agents", nowhere).await.problem(Code::NotFound);
    let own = json!({ "slug": "own", "name": "Own", "tenantId": "default" });
    operator.post("/v1/agents", own).await.status(201);
    let there = app.as_operator_for("acme").await;
    let body = json!({ "slug": "bob", "name": "Bob", "tenantId": "acme" });
    let made = there.post("/v1/agents", body).await.json_of(201);
    there.get(&format!("/v1/agents/{}", made["id"].as_str().unwrap_or_default())).await.status(200);
    let admin = app.as_tenant_admin("acme").await;
    let body = json!({ "slug": "eve", "name": "Eve", "tenantId": "default" });
    admin.post("/v1/agents", body).await.problem(Code::NotFound);
}

async fn times_have_a_maximum(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let most: u64 = 86_400_000;
    for name in ["timeoutMs", "startTimeoutMs", "idleTimeoutMs"] {
        let body = Registration::rmcp("fix").with(name, most + 1).body();
        let problem = operator.post("/v1/mcp/servers", body).await.problem(Code::ValidationFailed);
        assert!(problem.to_string().contains("to 86400000"), "{problem}");
    }
    let config = json!({ "serverId": "calculator", "timeoutMs": most + 1 });
    operator.post("/v1/mcp/configs", config).await.problem(Code::ValidationFailed);
    for (timeout, status) in [(most + 1, 422), (u64::MAX, 422), (0, 422), (most, 200)] {
        let body = json!({
            "server": "calculator", "tool": "add", "arguments": { "a": 1, "b": 2 }, "timeoutMs": timeout,
        });
        let answer = operator.post("/v1/mcp/execute", body).await;
        answer.must(answer.status == status, &format!("timeoutMs {timeout}"));
        answer.must(status == 200 || answer.text().contains("from 1 to 86400000"), "it states the range");
    }
    let document = operator.get("/openapi.json").await.json_of(200);
    let schemas = document["components"]["schemas"].as_object().cloned().unwrap_or_default();
    for (schema, described) in &schemas {
        for (name, member) in described["properties"].as_object().into_iter().flatten() {
            let takes = ["New", "Patch", "Execute"].iter().any(|part| schema.contains(part));
            if takes && (name.ends_with("TimeoutMs") || name == "timeoutMs") {
                assert_eq!(member["maximum"], most, "{schema}.{name} says its maximum");
            }
        }
    }
}

async fn an_address_has_a_host(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    for (transport, url) in [
        ("streamable-http", "http:///mcp"),
        ("streamable-http", "https://"),
        ("streamable-http", "http://:80/mcp"),
        ("streamable-http", "http://?x"),
        ("websocket", "ws://"),
        ("websocket", "ws:///mcp"),
    ] {
        let body = json!({ "slug": "far", "name": "Far", "transport": transport, "url": url });
        let problem = operator.post("/v1/mcp/servers", body).await.problem(Code::ValidationFailed);
        assert!(problem.to_string().contains("has no host"), "{url}: {problem}");
    }
}
