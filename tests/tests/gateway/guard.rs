//! What is turned away before anybody is asked who they are: wrong hosts, foreign pages, bodies of
//! the wrong kind or size.

use reqwest::Method;
use tests::{Actor, Answer, Backend, Case, Code, Registration, Settings, TestApp, cases, json};

pub const CASES: &[Case] = cases![
    Once: the_host_must_be_ours, the_origin_must_be_ours, configured_hosts_and_origins_are_let_in, only_json_is_taken,
        a_body_has_a_limit, rest_bodies_that_are_wrong, unknown_paths_and_methods, a_request_has_an_id,
        a_deep_body_does_no_harm;
];

const PING: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

async fn ping(actor: &Actor, headers: &[(&str, &str)]) -> Answer {
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(headers);
    actor.send(Method::POST, "/mcp/rpc", &all, Some(PING.to_vec())).await
}

async fn the_host_must_be_ours(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let port = operator.url("").rsplit_once(':').unwrap().1.to_owned();
    for host in [
        "evil.example",
        &format!("evil.example:{port}"),
        "127.0.0.1.evil.example",
        "localhost.evil",
        "0x7f.1",
    ] {
        let answer = ping(&operator, &[("host", host)]).await;
        answer.status(403);
        answer.refused(&[Code::HostNotAllowed]);
        for path in ["/v1/mcp/servers", "/docs", "/openapi.json"] {
            let answer = operator.send(Method::GET, path, &[("host", host)], None).await;
            answer.must(answer.status == 403, "the host is checked on every route");
        }
    }
    for host in [
        format!("localhost:{port}"),
        format!("127.0.0.1:{port}"),
        format!("[::1]:{port}"),
        "LOCALHOST".into(),
    ] {
        ping(&operator, &[("host", &host)]).await.status(200);
    }
}

async fn the_origin_must_be_ours(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    for origin in ["https://evil.example", "http://127.0.0.1.evil.example", "null", "file://", "nonsense"] {
        let answer = ping(&operator, &[("origin", origin)]).await;
        answer.status(403);
        answer.refused(&[Code::OriginNotAllowed]);
        let headers = [("origin", origin), ("content-type", "application/json")];
        let body = Registration::rmcp("fix").body().to_string().into_bytes();
        let answer = operator.send(Method::POST, "/v1/mcp/servers", &headers, Some(body)).await;
        answer.problem(Code::OriginNotAllowed);
    }
    let own = operator.url("");
    ping(&operator, &[("origin", &own)]).await.status(200);
    ping(&operator, &[]).await.status(200);
}

async fn configured_hosts_and_origins_are_let_in(backend: Backend) {
    let settings = Settings::new()
        .env("ALLOWED_HOSTS", "gateway.example,other.example:8443")
        .env("ALLOWED_ORIGINS", "https://app.example");
    let app = TestApp::start(backend, settings).await;
    let operator = app.as_operator();
    ping(&operator, &[("host", "gateway.example")]).await.status(200);
    ping(&operator, &[("host", "other.example:8443")]).await.status(200);
    ping(&operator, &[("host", "third.example")]).await.refused(&[Code::HostNotAllowed]);
    ping(&operator, &[("origin", "https://app.example")]).await.status(200);
    ping(&operator, &[("origin", "http://app.example")]).await.refused(&[Code::OriginNotAllowed]);
    ping(&operator, &[("origin", "https://app.example:8443")]).await.refused(&[Code::OriginNotAllowed]);
}

async fn only_json_is_taken(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let kinds = [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
    ];
    for kind in kinds {
        let headers = [("content-type", kind)];
        let answer = operator.send(Method::POST, "/mcp/rpc", &headers, Some(PING.to_vec())).await;
        answer.status(415);
        answer.refused(&[Code::UnsupportedMediaType]);
        let body = Registration::rmcp("fix").body().to_string().into_bytes();
        let answer = operator.send(Method::POST, "/v1/mcp/servers", &headers, Some(body)).await;
        answer.problem(Code::UnsupportedMediaType);
    }
    let answer = operator.send(Method::POST, "/mcp/rpc", &[], Some(PING.to_vec())).await;
    answer.must(answer.status == 415, "a body without a type is not JSON");
    for kind in ["application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"] {
        let headers = [("content-type", kind)];
        operator.send(Method::POST, "/mcp/rpc", &headers, Some(PING.to_vec())).await.status(200);
    }
    let servers = operator.get("/v1/mcp/servers?search=fix").await.json_of(200);
    assert_eq!(servers["total"], 0, "nothing was registered by a body of another kind");
}

async fn a_body_has_a_limit(backend: Backend) {
    let app = TestApp::start(backend, Settings::new().env("MAX_BODY_BYTES", 1_000_000)).await;
    let operator = app.as_operator();
    operator.register(Registration::bad("raw", &[])).await;
    let answer = operator.call("raw__echo", json!({ "nonce": "x".repeat(990_000) })).await;
    answer.must(answer.tool_text().len() == 990_000, "a body below the limit passes");
    let ping = |size: usize| {
        let params = json!({ "x": "y".repeat(size) });
        json!({ "jsonrpc": "2.0", "id": 1, "method": "ping", "params": params })
    };
    let answer = operator.rpc_text(&ping(1_000_000).to_string()).await;
    answer.status(413);
    answer.refused(&[Code::BodyTooLarge]);
    operator.post("/v1/mcp/servers", ping(1_000_000)).await.problem(Code::BodyTooLarge);
    let headers = [("content-type", "application/json")];
    let body = ping(64 << 20).to_string().into_bytes();
    // A gateway may answer and close while we still send so much: then there is no answer to read.
    if let Ok(answer) = operator.try_send(Method::POST, "/mcp/rpc", &headers, Some(body)).await {
        answer.status(413);
    }
    operator.rpc("ping", json!({})).await.result();
    let held = tests::proc::resident_bytes(app.process().pid()).unwrap_or_default();
    assert!(held > 0 && held < 200 << 20, "the gateway holds {} MB of what it refused", held >> 20);
}

async fn rest_bodies_that_are_wrong(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let headers = [("content-type", "application/json")];
    let broken: [&[u8]; 5] = [b"", b"{", b"\xff", b"{\"slug\":\"a\xff\"}", b"{\"slug\":\"a\"}}"];
    for body in broken {
        let answer = operator.send(Method::POST, "/v1/mcp/servers", &headers, Some(body.to_vec())).await;
        answer.must(matches!(answer.status, 400 | 422), "what is not JSON is refused");
        answer.must(answer.json()["code"].is_string(), "with a code");
    }
    let wrong = [
        json!([]),
        json!("text"),
        json!({}),
        json!({ "slug": "a", "name": "A", "transport": "pigeon" }),
        json!({ "slug": "a", "name": "A", "transport": "stdio" }),
        json!({ "slug": "a", "name": "A", "transport": "stdio", "command": 7 }),
        json!({ "slug": "a", "name": "A", "transport": "stdio", "command": "" }),
        json!({ "slug": "a", "name": "A", "transport": "stdio", "command": "x\u{0}y" }),
        json!({ "slug": "a", "name": "A", "transport": "stdio", "command": "x", "args": "not a list" }),
        json!({ "slug": "a", "name": "A", "transport": "stdio", "command": "x", "env": { "A=B": "c" } }),
        json!({ "slug": "a", "name": "A", "transport": "stdio", "command": "x", "timeoutMs": -1 }),
        json!({ "slug": "A_b", "name": "A", "transport": "stdio", "command": "x" }),
        json!({ "slug": "", "name": "A", "transport": "stdio", "command": "x" }),
        json!({ "slug": "abcdefghij-abcdefghij", "name": "A", "transport": "stdio", "command": "x" }),
    ];
    for body in wrong {
        let answer = operator.post("/v1/mcp/servers", body).await;
        answer.must(matches!(answer.status, 400 | 422), "a wrong body is refused");
        let kind = answer.header("content-type").unwrap_or_default().to_owned();
        answer.must(kind.starts_with("application/problem+json"), "as a problem");
        answer.must(answer.json()["code"].is_string(), "with a code");
    }
    let twice = br#"{"slug":"one","slug":"two","name":"A","transport":"stdio","command":"x"}"#;
    let answer = operator.send(Method::POST, "/v1/mcp/servers", &headers, Some(twice.to_vec())).await;
    answer.must(matches!(answer.status, 400 | 422), "a member given twice is refused");
}

async fn unknown_paths_and_methods(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    operator.get("/v1/nothing").await.problem(Code::NotFound);
    operator.get("/nothing").await.status(404);
    operator.get("/v1/mcp/servers/not-an-id").await.problem(Code::NotFound);
    operator.get("/v1/mcp/servers/..%2f..%2fetc").await.status(404);
    operator.send(Method::PUT, "/v1/mcp/servers", &[], None).await.problem(Code::MethodNotAllowed);
    operator.send(Method::DELETE, "/health", &[], None).await.status(405);
}

async fn a_request_has_an_id(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let (one, other) = (operator.get("/health").await, operator.rpc("ping", json!({})).await);
    let id = |answer: &Answer| answer.header("x-request-id").unwrap_or_default().to_owned();
    one.must(id(&one).starts_with("req_"), "every answer carries its request's id");
    other.must(id(&other).starts_with("req_") && id(&one) != id(&other), "and each its own");
    let refused = operator.rpc("no/such", json!({})).await;
    let said = refused.json()["error"]["data"]["requestId"].clone();
    refused.must(said == id(&refused), "the id in an error is the request's");
}

async fn a_deep_body_does_no_harm(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    operator.register(Registration::bad("raw", &[])).await;
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let deep = format!("{}0{}", open.repeat(100_000), close.repeat(100_000));
        let call = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"raw__echo","arguments":{{"x":{deep}}}}}}}"#
        );
        let answer = operator.rpc_text(&call).await;
        answer.must(matches!(answer.status, 200 | 400 | 413), "a deep body is answered");
        operator.rpc("ping", json!({})).await.result();
    }
}
