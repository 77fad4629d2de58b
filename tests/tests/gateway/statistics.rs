//! Statistics of the record: counts, failures and latencies by server, tool, agent, outcome and time, of the caller's
//! tenant alone.

use tests::{Actor, Backend, Case, Code, Registration, Settings, TestApp, Value, cases, json};

pub const CASES: &[Case] = cases![
    Every: groups_count_every_call, a_server_has_its_own_figures;
    Once: a_wrong_query_is_refused;
];

async fn stats(actor: &Actor, query: &str) -> Vec<Value> {
    let answer = actor.get(&format!("/v1/mcp/executions/stats?{query}")).await.json_of(200);
    answer["items"].as_array().expect("a list").clone()
}

async fn groups_count_every_call(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    operator.register(Registration::rmcp("fix")).await;
    let other = app.as_tenant_admin("other").await;
    let (alice, bob) = (app.as_agent("alice").await, app.as_agent("bob").await);
    for number in 0..3 {
        alice.call("calculator__add", json!({ "a": number, "b": 1 })).await.result();
    }
    bob.call("calculator__divide", json!({ "a": 1, "b": 0 })).await.status(200);
    bob.call("fix__sleep", json!({ "ms": 60 })).await.tool_text();
    other.call("calculator__add", json!({ "a": 1, "b": 1 })).await.result();

    let servers = stats(&operator, "").await;
    let of = |groups: &[Value], name: &str, value: &str| {
        let found: Vec<Value> = groups.iter().filter(|group| group[name] == value).cloned().collect();
        assert_eq!(found.len(), 1, "{name} {value} in {groups:#?}");
        found[0].clone()
    };
    assert_eq!(servers.len(), 2, "{servers:#?}");
    assert_eq!(servers[0]["serverSlug"], "calculator", "the most calls first: {servers:#?}");
    let calculator = of(&servers, "serverSlug", "calculator");
    assert_eq!((&calculator["calls"], &calculator["failures"]), (&json!(4), &json!(1)), "{calculator:#}");
    assert_eq!(calculator["outcomes"], json!({ "ok": 3, "tool_error": 1 }));
    assert_eq!(calculator["tool"], Value::Null, "not asked for");
    let fix = of(&servers, "serverSlug", "fix");
    let latency = |name: &str| fix[name].as_f64().expect("a latency");
    assert!(latency("p50Ms") >= 59.0 && latency("p99Ms") >= latency("p50Ms"), "{fix:#}");

    let tools = stats(&operator, "by=tool,outcome").await;
    assert_eq!(tools.len(), 3, "{tools:#?}");
    assert_eq!(of(&tools, "tool", "divide")["outcome"], "tool_error");
    let agents = stats(&operator, "by=agent&server=calculator").await;
    let mut calls: Vec<u64> = agents.iter().map(|group| group["calls"].as_u64().unwrap()).collect();
    calls.sort_unstable();
    assert_eq!(calls, [1, 3], "{agents:#?}");
    let days = stats(&operator, "by=server&bucket=day&tool=add").await;
    let start: jiff::Timestamp = days[0]["start"].as_str().unwrap().parse().unwrap();
    assert_eq!(start.as_second() % 86_400, 0, "{days:#?}");

    assert_eq!(stats(&operator, "agent=nobody").await, Vec::<Value>::new());
    assert_eq!(stats(&operator, "startedBefore=2020-01-01T00:00:00Z").await, Vec::<Value>::new());
    let others = stats(&other, "by=server,tool").await;
    assert_eq!(others.len(), 1, "{others:#?}");
    assert_eq!(others[0]["calls"], 1, "{others:#?}");
}

async fn a_server_has_its_own_figures(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let usage = operator.get("/v1/mcp/servers/calculator/usage").await.json_of(200);
    assert_eq!(
        (&usage["calls"], &usage["lastUsedAt"], &usage["p50Ms"]),
        (&json!(0), &Value::Null, &Value::Null)
    );
    operator.call("calculator__add", json!({ "a": 1, "b": 1 })).await.result();
    operator.call("calculator__divide", json!({ "a": 1, "b": 0 })).await.status(200);
    let usage = operator.get("/v1/mcp/servers/calculator/usage").await.json_of(200);
    assert_eq!((&usage["calls"], &usage["failures"]), (&json!(2), &json!(1)), "{usage:#}");
    assert_eq!(usage["lastUsedAt"], usage["lastStartedAt"], "{usage:#}");
    assert!(usage["p95Ms"].is_number(), "{usage:#}");
    let earlier = operator.get("/v1/mcp/servers/calculator/usage?startedBefore=2020-01-01T00:00:00Z").await;
    let earlier = earlier.json_of(200);
    assert_eq!(earlier["calls"], 0, "{earlier:#}");
    assert_eq!(earlier["lastUsedAt"], usage["lastUsedAt"], "the last use is outside the range: {earlier:#}");
    let other = app.as_tenant_admin("other").await.get("/v1/mcp/servers/calculator/usage").await.json_of(200);
    assert_eq!((&other["calls"], &other["lastUsedAt"]), (&json!(0), &Value::Null), "{other:#}");
    operator.get("/v1/mcp/servers/nothing/usage").await.problem(Code::NotFound);
}

async fn a_wrong_query_is_refused(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    for (query, named) in [("by=colour", "by"), ("bucket=week", "bucket"), ("limit=5", "limit")] {
        let answer = operator.get(&format!("/v1/mcp/executions/stats?{query}")).await;
        let problem = answer.problem(Code::ValidationFailed);
        assert!(problem["detail"].as_str().unwrap().contains(named), "{problem:#}");
    }
}
