//! Ways around the rules that were found once, and stay closed.

use tests::{Backend, Case, Code, Settings, TestApp, cases, json};

pub const CASES: &[Case] = cases![
    Every: a_deleted_agent_stays_deleted, an_agent_with_an_operators_key_is_the_operators;
    Once: a_chosen_name_is_no_way_around_the_limit, a_stranger_is_refused_before_its_body,
        an_allowed_tool_is_allowed_in_every_spelling, a_parameter_is_given_once, a_name_has_a_length;
];

async fn a_deleted_agent_stays_deleted(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    operator.post("/v1/agents", json!({ "slug": "bob", "name": "Bob" })).await.status(201);
    let answer = operator.post("/v1/tokens", json!({ "agentId": "bob" })).await;
    let token = answer.json_of(201)["token"].as_str().unwrap_or_default().to_owned();
    app.with_bearer(&token).rpc("ping", json!({})).await.result();
    operator.delete("/v1/agents/bob").await.status(204);
    let answer = app.with_bearer(&token).rpc("ping", json!({})).await;
    answer.must(matches!(answer.status, 401 | 403), "the token ends with its agent");
    operator.get("/v1/agents/bob").await.problem(Code::NotFound);
}

async fn an_agent_with_an_operators_key_is_the_operators(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    operator.post("/v1/agents", json!({ "slug": "root", "name": "Root" })).await.status(201);
    let (root, _) = operator.make_key(json!({ "name": "root", "agentId": "root", "role": "operator" })).await;
    let (admin, _) = operator.make_key(json!({ "name": "admin", "role": "tenant-admin" })).await;
    app.with_key(&admin).delete("/v1/agents/root").await.problem(Code::MissingScope);
    app.with_key(&root).rpc("ping", json!({})).await.result();
}

async fn a_chosen_name_is_no_way_around_the_limit(backend: Backend) {
    let settings = Settings::new().env("RATE_LIMIT_MAX_REQUESTS", 5).env("RATE_LIMIT_WINDOW_MS", 60_000);
    let app = TestApp::start(backend, settings).await;
    let (secret, _) = app.as_operator().make_key(json!({ "name": "any", "role": "agent" })).await;
    let mut passed = 0;
    for number in 0..12 {
        let answer = app
            .with_key(&secret)
            .header("x-agent-id", format!("a{number}"))
            .rpc("tools/list", json!({}))
            .await;
        passed += usize::from(answer.status == 200);
    }
    assert_eq!(passed, 5, "one key has one limit, whatever names it gives");
}

async fn a_stranger_is_refused_before_its_body(backend: Backend) {
    let app = TestApp::start(backend, Settings::new().env("MAX_BODY_BYTES", 2048)).await;
    let stranger = app.with_key("mcp_live_nobody");
    let answer = stranger.rpc_text(&"x".repeat(4096)).await;
    answer.must(answer.status == 401, "who it is comes before what it sends");
}

async fn an_allowed_tool_is_allowed_in_every_spelling(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let config = json!({ "serverId": "calculator", "allowedTools": ["add"] });
    operator.post("/v1/mcp/configs", config).await.status(201);
    let call = json!({ "service": "calculator", "operation": "Add", "a": 1, "b": 2 });
    let answer = operator.rpc("mcp.execute", call).await;
    answer.must(answer.result()["status"] == "success", "also before anybody has listed the tools");
    let call = json!({ "service": "calculator", "operation": "Subtract", "a": 1, "b": 2 });
    let answer = operator.rpc("mcp.execute", call).await;
    answer.must(answer.text().contains("denied_by_policy"), "and what is not allowed is not");
}

async fn a_parameter_is_given_once(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"mcp.execute","params":{"service":"calculator","operation":"add","params":{"a":1,"b":2,"b":30}}}"#;
    let answer = app.as_operator().rpc_text(body).await;
    answer.must(answer.text().contains("given twice"), "two readers could take different ones");
}

async fn a_name_has_a_length(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let name = format!("calculator__{}", "x".repeat(100_000));
    let answer = app.as_operator().rpc("tools/call", json!({ "name": name, "arguments": {} })).await;
    answer.must(answer.text().len() < 4096, "it is not given back");
    answer.must(answer.text().contains("-32602"), "and it is refused");
    assert!(app.as_operator().executions("limit=10").await.is_empty(), "nothing of it is kept");
}
