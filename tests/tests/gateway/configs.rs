//! What a tenant and its agents may do with a server: enforced at every door, and hidden from lists.

use std::time::Duration;

use tests::{Actor, Backend, Case, Code, Registered, Registration, Settings, TestApp, Value, cases, json};

pub const CASES: &[Case] = cases![
    Every: a_blocked_tool_is_refused_and_hidden, an_agents_config_counts_for_that_agent;
    Once: only_allowed_tools, patterns, a_server_switched_off, time_outs_are_set_per_config, one_config_for_each,
        a_config_is_changed_and_deleted, wrong_configs;
];

struct Stage {
    app: TestApp,
    operator: Actor,
    server: Registered,
    alice: Actor,
    bob: Actor,
}

impl Stage {
    async fn set(backend: Backend) -> Stage {
        let app = TestApp::start(backend, Settings::new()).await;
        let operator = app.as_operator();
        let server = operator.register(Registration::rmcp("fix")).await;
        let (alice, bob) = (app.as_agent("alice").await, app.as_agent("bob").await);
        Stage { app, operator, server, alice, bob }
    }

    /// Makes a config for the server, with these members.
    async fn config(&self, mut body: Value) -> String {
        body["serverId"] = json!(self.server.id);
        let answer = self.operator.post("/v1/mcp/configs", body).await;
        let id = answer.json_of(201)["id"].as_str().unwrap_or_default().to_owned();
        answer.must(id.starts_with("cfg_"), "an id says what it names");
        id
    }

    async fn agent_id(&self, slug: &str) -> Value {
        let listed = self.operator.get("/v1/agents?pageSize=100").await.json_of(200);
        let items = listed["items"].as_array().cloned().unwrap_or_default();
        items.iter().find(|agent| agent["slug"] == slug).expect("the agent is there")["id"].clone()
    }
}

/// The tool is refused at both doors and by `mcp.execute`, and not listed.
async fn is_denied(actor: &Actor, tool: &str) {
    let exposed = format!("fix__{tool}");
    let answer = actor.call(&exposed, json!({ "nonce": "n", "name": "A", "ms": 1, "a": 1, "b": 1 })).await;
    let error = answer.status(200).refused(&[Code::DeniedByPolicy]);
    let rule = error["data"]["rule"].as_str().unwrap_or_default().to_owned();
    answer.must(rule.contains("cfg_") || rule.contains("config"), "the refusal names the rule");
    let body = json!({ "server": "fix", "tool": tool, "arguments": {} });
    actor.post("/v1/mcp/execute", body).await.problem(Code::DeniedByPolicy);
    let answer = actor.rpc("mcp.execute", json!({ "service": "fix", "operation": tool, "params": {} })).await;
    answer.refused(&[Code::DeniedByPolicy]);
    let names = actor.tool_names().await;
    assert!(!names.contains(&exposed), "{exposed} is listed: {names:?}");
    let answer = actor.rpc("mcp.describeService", json!({ "service": "fix" })).await;
    let described = answer.result().to_string();
    answer.must(!described.contains(&format!("\"{tool}\"")), "nor is it described");
}

async fn is_allowed(actor: &Actor, tool: &str) {
    let exposed = format!("fix__{tool}");
    let answer = actor.call(&exposed, json!({ "nonce": "n", "name": "A", "ms": 1, "a": 1, "b": 1 })).await;
    answer.must(answer.json_of(200)["result"].is_object(), &format!("{tool} may be called"));
    let names = actor.tool_names().await;
    assert!(names.contains(&exposed), "{exposed} is not listed: {names:?}");
}

async fn a_blocked_tool_is_refused_and_hidden(backend: Backend) {
    let stage = Stage::set(backend).await;
    is_allowed(&stage.alice, "env").await;
    stage.config(json!({ "blockedTools": ["env"] })).await;
    is_denied(&stage.alice, "env").await;
    is_denied(&stage.bob, "env").await;
    is_allowed(&stage.alice, "echo").await;
    let rows = stage.operator.executions("outcome=denied&agent=alice").await;
    assert_eq!(rows.len(), 3, "each refused call is a row: {rows:#?}");
}

async fn only_allowed_tools(backend: Backend) {
    let stage = Stage::set(backend).await;
    stage.config(json!({ "allowedTools": ["echo", "add"], "blockedTools": ["add"] })).await;
    is_allowed(&stage.alice, "echo").await;
    is_denied(&stage.alice, "env").await;
    is_denied(&stage.alice, "add").await;
    let fixture: Vec<String> =
        stage.alice.tool_names().await.into_iter().filter(|name| name.starts_with("fix__")).collect();
    assert_eq!(fixture, ["fix__echo"]);
    assert!(stage.alice.tool_names().await.contains(&"calculator__add".to_owned()), "others are not touched");
}

async fn patterns(backend: Backend) {
    let stage = Stage::set(backend).await;
    stage.config(json!({ "allowedTools": ["e*", "p?d", "[sc]*"], "blockedTools": ["en?"] })).await;
    for tool in ["echo", "pid", "sleep", "count"] {
        is_allowed(&stage.alice, tool).await;
    }
    for tool in ["env", "add", "fail"] {
        is_denied(&stage.alice, tool).await;
    }
}

async fn an_agents_config_counts_for_that_agent(backend: Backend) {
    let stage = Stage::set(backend).await;
    let alice = stage.agent_id("alice").await;
    stage.config(json!({ "agentId": alice, "blockedTools": ["env"] })).await;
    is_denied(&stage.alice, "env").await;
    is_allowed(&stage.bob, "env").await;
    // A block always wins: what the tenant blocks, no agent's config opens.
    let bob = stage.agent_id("bob").await;
    stage.config(json!({ "blockedTools": ["add"] })).await;
    stage.config(json!({ "agentId": bob, "allowedTools": ["add", "echo"] })).await;
    is_denied(&stage.bob, "add").await;
    is_denied(&stage.alice, "add").await;
    is_allowed(&stage.bob, "echo").await;
    is_denied(&stage.bob, "env").await;
    is_allowed(&stage.alice, "echo").await;
}

async fn a_server_switched_off(backend: Backend) {
    let stage = Stage::set(backend).await;
    let bob = stage.agent_id("bob").await;
    stage.config(json!({ "agentId": bob, "enabled": false })).await;
    is_allowed(&stage.alice, "echo").await;
    let answer = stage.bob.call("fix__echo", json!({ "nonce": "n" })).await;
    answer.refused(&[Code::ServerDisabled, Code::DeniedByPolicy]);
    assert!(!stage.bob.tool_names().await.iter().any(|name| name.starts_with("fix__")));
    let answer = stage.bob.rpc("resources/list", json!({})).await;
    answer.must(!answer.result().to_string().contains("greeting"), "nor are its resources listed");
    let read = stage.bob.rpc("resources/read", json!({ "uri": "fixture://greeting" })).await;
    read.must(read.json_of(200)["error"].is_object(), "nor can they be read");
    let prompt = stage.bob.rpc("prompts/get", json!({ "name": "fix__greet" })).await;
    prompt.must(prompt.json_of(200)["error"].is_object(), "nor its prompts be had");
}

async fn time_outs_are_set_per_config(backend: Backend) {
    let stage = Stage::set(backend).await;
    let alice = stage.agent_id("alice").await;
    stage.config(json!({ "agentId": alice, "timeoutMs": 300 })).await;
    stage.alice.call("fix__count", json!({})).await.tool_text();
    let answer = stage.alice.call("fix__sleep", json!({ "ms": 3000 })).await;
    answer.refused(&[Code::TimedOut]);
    answer.must(answer.took < Duration::from_millis(2500), "alice has 300 ms");
    stage.bob.call("fix__sleep", json!({ "ms": 800 })).await.tool_text();
    let body = json!({ "server": "fix", "tool": "sleep", "arguments": { "ms": 800 }, "timeoutMs": 60_000 });
    let answer = stage.alice.post("/v1/mcp/execute", body).await;
    answer.must(answer.json_of(200)["outcome"] == "timed_out", "asking for more does not give more");
}

async fn one_config_for_each(backend: Backend) {
    let stage = Stage::set(backend).await;
    let alice = stage.agent_id("alice").await;
    stage.config(json!({})).await;
    stage.config(json!({ "agentId": alice })).await;
    for body in
        [json!({ "serverId": stage.server.id }), json!({ "serverId": stage.server.id, "agentId": alice })]
    {
        stage.operator.post("/v1/mcp/configs", body).await.problem(Code::Conflict);
    }
    let listed = stage.operator.get("/v1/mcp/configs").await;
    listed.must(listed.json_of(200)["total"] == 2, "both are listed");
}

async fn a_config_is_changed_and_deleted(backend: Backend) {
    let mut stage = Stage::set(backend).await;
    let id = stage.config(json!({ "blockedTools": ["env"] })).await;
    let path = format!("/v1/mcp/configs/{id}");
    is_denied(&stage.alice, "env").await;
    let changed = stage.operator.patch(&path, json!({ "blockedTools": ["add"] })).await.json_of(200);
    assert_eq!(changed["blockedTools"], json!(["add"]));
    is_allowed(&stage.alice, "env").await;
    is_denied(&stage.alice, "add").await;
    stage.app.kill().await;
    stage.app.boot(None).await;
    is_denied(&stage.alice, "add").await;
    let changed = stage.operator.patch(&path, json!({ "blockedTools": null })).await.json_of(200);
    assert!(changed["blockedTools"].is_null(), "null inherits: {changed}");
    is_allowed(&stage.alice, "add").await;
    stage.operator.patch(&path, json!({ "blockedTools": ["add"] })).await.status(200);
    let deleted = stage.operator.delete(&path).await;
    deleted.must(matches!(deleted.status, 200 | 204), "it can be deleted");
    is_allowed(&stage.alice, "add").await;
    stage.operator.get(&path).await.problem(Code::NotFound);
}

async fn wrong_configs(backend: Backend) {
    let stage = Stage::set(backend).await;
    let server = &stage.server.id;
    let missing = json!({ "serverId": "srv_00000000000070008000000000000000" });
    stage.operator.post("/v1/mcp/configs", missing).await.problem(Code::NotFound);
    for body in [
        json!({}),
        json!({ "serverId": "nonsense" }),
        json!({ "serverId": server, "blockedTools": "env" }),
        json!({ "serverId": server, "blockedTools": [7] }),
        json!({ "serverId": server, "blockedTools": ["[a"] }),
        json!({ "serverId": server, "timeoutMs": -5 }),
        json!({ "serverId": server, "blokedTools": ["env"] }),
    ] {
        let answer = stage.operator.post("/v1/mcp/configs", body).await;
        answer.must(matches!(answer.status, 400 | 404 | 422), "a wrong config is refused, not half taken");
    }
    let config = json!({ "serverId": server });
    stage.alice.post("/v1/mcp/configs", config).await.problem(Code::MissingScope);
}
