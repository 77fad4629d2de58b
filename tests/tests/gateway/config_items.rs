//! What a config says of resources, prompts and limits, and the settings in force with the rows that decided.

use std::time::Duration;

use tests::{Actor, Backend, Case, Code, Registration, Settings, TestApp, Value, cases, json};

pub const CASES: &[Case] = cases![
    Every: resources_and_prompts_are_selected_at_every_door, calls_per_minute_are_counted_per_row;
    Once: a_switched_off_server_is_not_discovered, calls_at_the_same_time, results_have_a_size,
        the_settings_in_force_name_their_rows, each_check_of_a_call_is_explained;
];

async fn server(app: &TestApp) -> (Actor, String) {
    let operator = app.as_operator();
    let id = operator.register(Registration::rmcp("fix")).await.id.to_string();
    (operator, id)
}

async fn config(operator: &Actor, server: &str, mut body: Value) -> String {
    body["serverId"] = server.into();
    operator.post("/v1/mcp/configs", body).await.json_of(201)["id"].as_str().unwrap().to_owned()
}

/// Texts of everything that lists the server's items.
async fn listed(actor: &Actor) -> String {
    let mut all = String::new();
    for method in ["resources/list", "resources/templates/list", "prompts/list"] {
        all += &actor.rpc(method, json!({})).await.text();
    }
    all + &actor.get("/v1/mcp/servers/fix/discover").await.text()
}

async fn resources_and_prompts_are_selected_at_every_door(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (operator, id) = server(&app).await;
    let alice = app.as_agent("alice").await;
    let read = |uri: &str| json!({ "uri": format!("fix+{uri}") });
    let greet = json!({ "name": "fix__greet", "arguments": { "name": "A" } });
    let before = listed(&alice).await;
    for item in ["fixture://greeting", "fixture://number/{n}", "greet"] {
        assert!(before.contains(item), "{item}");
    }
    let row =
        config(&operator, &id, json!({ "allowedResources": ["fixture://number/*"], "allowedPrompts": [] }))
            .await;
    let after = listed(&alice).await;
    assert!(after.contains("fixture://number/{n}") && !after.contains("fixture://greeting"), "{after}");
    assert!(!after.contains("Asks for a greeting"), "{after}");
    let answer = alice.rpc("resources/read", read("fixture://number/7")).await;
    answer.must(answer.json_of(200)["result"].is_object(), "what a template makes is judged by its own URI");
    let completes = json!({ "ref": { "type": "ref/prompt", "name": "fix__greet" }, "argument": { "name": "name", "value": "" } });
    for (method, params) in [
        ("resources/read", read("fixture://greeting")),
        ("resources/read", read("fixture://number/../greeting")),
        ("prompts/get", greet.clone()),
        ("completion/complete", completes),
    ] {
        let answer = alice.rpc(method, params).await;
        let error = answer.refused(&[Code::DeniedByPolicy]);
        let rule = error["data"]["rule"].as_str().unwrap_or_default().to_owned();
        answer.must(rule.contains(&row) && rule.contains("allowed"), &rule);
        answer
            .must(error["data"]["since"].is_string() && error["data"]["hint"].is_string(), "since and hint");
    }
    let denied = operator.executions("outcome=denied").await;
    assert!(denied.len() >= 3, "reads and prompts that are refused are rows: {denied:#?}");
    operator.patch(&format!("/v1/mcp/configs/{row}"), json!({ "allowedPrompts": null })).await.status(200);
    let answer = alice.rpc("prompts/get", greet).await;
    answer.must(answer.json_of(200)["result"].is_object(), "null inherits again");
}

async fn a_switched_off_server_is_not_discovered(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (operator, id) = server(&app).await;
    let alice = app.as_agent("alice").await;
    let agents = operator.get("/v1/agents?pageSize=100").await.json_of(200);
    let agent = agents["items"].as_array().unwrap().iter().find(|agent| agent["slug"] == "alice").unwrap();
    config(&operator, &id, json!({ "agentId": agent["id"], "enabled": false })).await;
    alice.get("/v1/mcp/servers/fix/discover").await.problem(Code::DeniedByPolicy);
    operator.get("/v1/mcp/servers/fix/discover").await.status(200);
}

async fn calls_per_minute_are_counted_per_row(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (operator, id) = server(&app).await;
    let (alice, bob) = (app.as_agent("alice").await, app.as_agent("bob").await);
    let row = config(&operator, &id, json!({ "callsPerMinute": 5 })).await;
    let echo = async |actor: &Actor| actor.call("fix__echo", json!({ "nonce": "n" })).await;
    for actor in [&alice, &bob, &alice, &bob, &alice] {
        echo(actor).await.result();
    }
    let refused = echo(&bob).await;
    let error = refused.refused(&[Code::RateLimited]);
    assert_eq!(error["data"]["rule"], format!("config {row} callsPerMinute"));
    assert!(error["data"]["retryAfterMs"].as_u64().is_some_and(|wait| wait > 1000), "{error}");
    let body = json!({ "server": "fix", "tool": "echo", "arguments": {} });
    alice.post("/v1/mcp/execute", body).await.problem(Code::RateLimited);
    alice.call("calculator__add", json!({ "a": 1, "b": 2 })).await.result();
    assert_eq!(operator.executions("outcome=limited").await.len(), 2);
    operator.patch(&format!("/v1/mcp/configs/{row}"), json!({ "callsPerMinute": 0 })).await.status(200);
    echo(&bob).await.result();
}

async fn calls_at_the_same_time(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (operator, id) = server(&app).await;
    let row = config(&operator, &id, json!({ "maxConcurrency": 2 })).await;
    let alice = app.as_agent("alice").await;
    let sleep = || async { alice.call("fix__sleep", json!({ "ms": 1500 })).await };
    let third = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        alice.call("fix__echo", json!({ "nonce": "n" })).await
    };
    let (one, two, third) = tokio::join!(sleep(), sleep(), third);
    one.result();
    two.result();
    let error = third.refused(&[Code::ConcurrencyLimited]);
    assert_eq!(error["data"]["rule"], format!("config {row} maxConcurrency"));
    alice.call("fix__echo", json!({ "nonce": "n" })).await.result();
}

async fn results_have_a_size(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (operator, id) = server(&app).await;
    let row = config(&operator, &id, json!({ "maxResultBytes": 1000 })).await;
    let alice = app.as_agent("alice").await;
    alice.call("fix__echo", json!({ "nonce": "x".repeat(500) })).await.result();
    let answer = alice.call("fix__echo", json!({ "nonce": "x".repeat(2000) })).await;
    let error = answer.refused(&[Code::ResultTooLarge]);
    assert_eq!((&error["code"], &error["data"]["limit"]), (&json!(50200), &json!(1000)));
    assert_eq!(error["data"]["rule"], format!("config {row} maxResultBytes"));
    assert_eq!(operator.executions("outcome=protocol_error").await.len(), 1);
}

async fn the_settings_in_force_name_their_rows(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (operator, id) = server(&app).await;
    let alice = app.as_agent("alice").await;
    let agents = operator.get("/v1/agents?pageSize=100").await.json_of(200);
    let agent = agents["items"].as_array().unwrap().iter().find(|agent| agent["slug"] == "alice").unwrap();
    let of_tenant = config(
        &operator,
        &id,
        json!({ "timeoutMs": 5000, "blockedTools": ["a*"], "callsPerMinute": 9, "allowedTools": ["x"] }),
    )
    .await;
    let of_agent =
        json!({ "agentId": agent["id"], "allowedTools": ["e*"], "callsPerMinute": 3, "blockedTools": ["b"] });
    let of_agent = config(&operator, &id, of_agent).await;
    let path = "/v1/mcp/configs/effective?server=fix&agent=alice";
    let shown = alice.get(path).await.json_of(200);
    let decided = |value: Value, source: &str, row: Option<&String>| json!([value, source, row]);
    let field = |name: &str| {
        let field = &shown["fields"][name];
        json!([field["value"], field["source"], field["configId"]])
    };
    assert_eq!(field("timeoutMs"), decided(json!(5000), "tenant", Some(&of_tenant)));
    assert_eq!(field("allowedTools"), decided(json!(["e*"]), "agent", Some(&of_agent)));
    assert_eq!(field("enabled"), decided(json!(true), "server", None));
    assert_eq!(field("allowedPrompts"), decided(json!(null), "default", None));
    assert!(shown["fields"]["timeoutMs"]["since"].is_string());
    let all = |list: &str| -> Vec<Value> {
        let items = shown[list].as_array().unwrap();
        items.iter().map(|item| json!([item["field"], item["value"], item["source"]])).collect()
    };
    assert_eq!(
        all("blocks"),
        [json!(["blockedTools", "b", "agent"]), json!(["blockedTools", "a*", "tenant"])]
    );
    assert_eq!(
        all("limits"),
        [json!(["callsPerMinute", 3, "agent"]), json!(["callsPerMinute", 9, "tenant"])]
    );
    let plain = alice.get("/v1/mcp/configs/effective?server=calculator").await.json_of(200);
    assert_eq!((&plain["agentId"], &plain["blocks"]), (&json!(null), &json!([])));
    for wrong in ["server=nothing", "server=fix&agent=nobody"] {
        alice.get(&format!("/v1/mcp/configs/effective?{wrong}")).await.problem(Code::NotFound);
    }
    alice.get("/v1/mcp/configs/effective").await.problem(Code::ValidationFailed);
    let theirs = app.as_tenant_admin("other").await;
    theirs.get("/v1/mcp/configs/effective?server=fix").await.problem(Code::NotFound);
    theirs.get("/v1/mcp/configs/effective?server=calculator&agent=alice").await.problem(Code::NotFound);
}

async fn each_check_of_a_call_is_explained(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (operator, id) = server(&app).await;
    let alice = app.as_agent("alice").await;
    let explain = async |actor: &Actor, query: &str| {
        let shown = actor.get(&format!("/v1/mcp/explain?{query}")).await.json_of(200);
        let checks = shown["checks"].as_array().unwrap();
        let failed: Vec<Value> = checks.iter().filter(|check| check["passed"] == false).cloned().collect();
        for check in &failed {
            assert!(
                check["code"].is_string() && check["reason"].is_string() && check["hint"].is_string(),
                "{check}"
            );
        }
        let names =
            failed.iter().map(|check| check["check"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        (shown, names.join(" "), failed)
    };
    let (shown, failed, _) = explain(&alice, "tool=fix__echo").await;
    assert_eq!((&shown["callable"], failed.as_str(), &shown["agent"]), (&json!(true), "", &json!("alice")));
    let state = operator.get("/v1/mcp/servers/fix").await.json_of(200)["state"].clone();
    assert_eq!(state, "unknown", "nothing was started for the answer");
    alice.get("/v1/mcp/servers/fix/discover").await.status(200);
    assert_eq!(explain(&alice, "tool=fix__nothing").await.1, "listed");
    assert_eq!(explain(&alice, "tool=nothing__echo").await.1, "server");
    assert_eq!(explain(&alice, "prompt=fix__greet").await.1, "");
    let row = config(
        &operator,
        &id,
        json!({ "blockedTools": ["e*"], "allowedResources": [], "callsPerMinute": 7 }),
    )
    .await;
    let (shown, failed, checks) = explain(&operator, "tool=fix__echo&agent=alice").await;
    assert_eq!(
        (failed.as_str(), &shown["visible"], &shown["callable"]),
        ("policy", &json!(false), &json!(false))
    );
    assert_eq!(checks[0]["rule"], format!("config {row} blockedTools `e*`"));
    assert!(checks[0]["since"].is_string());
    assert_eq!(
        (&shown["limits"][0]["field"], &shown["limits"][0]["value"]),
        (&json!("callsPerMinute"), &json!(7))
    );
    assert_eq!(explain(&alice, "server=fix&resource=fixture://greeting").await.1, "policy");
    operator.post(&format!("/v1/mcp/servers/{id}/stop"), json!({})).await;
    assert_eq!(explain(&alice, "tool=fix__add").await.1, "state");
    operator.patch(&format!("/v1/mcp/servers/{id}"), json!({ "enabled": false })).await.status(200);
    assert!(explain(&alice, "tool=fix__add").await.1.starts_with("enabled"));
    let agent = operator.post("/v1/agents", json!({ "slug": "reader", "name": "Reader" })).await.json_of(201);
    operator.make_key(json!({ "agentId": agent["id"], "name": "r", "scopes": ["servers:read"] })).await;
    let (shown, failed, checks) = explain(&operator, "tool=calculator__add&agent=reader").await;
    assert_eq!(
        (failed.as_str(), &shown["visible"], &shown["callable"]),
        ("scope", &json!(true), &json!(false))
    );
    assert_eq!(checks[0]["rule"], "scope tools:call");
    for wrong in ["", "tool=a__b&prompt=c", "tool=calculator__add&colour=red"] {
        alice.get(&format!("/v1/mcp/explain?{wrong}")).await.problem(Code::ValidationFailed);
    }
    app.as_tenant_admin("other")
        .await
        .get("/v1/mcp/explain?tool=fix__echo&agent=alice")
        .await
        .problem(Code::NotFound);
    let other = app.as_tenant_admin("other").await;
    assert_eq!(explain(&other, "tool=fix__echo").await.1, "server", "of another tenant");
}
