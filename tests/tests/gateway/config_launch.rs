//! What a config changes of a server itself: names and descriptions of tools, variables and limits of the child, and
//! headers to a remote server; for one tenant or agent alone.

use std::time::Duration;

use tests::{Actor, Backend, Case, Code, Registration, Settings, TestApp, Value, cases, json};

pub const CASES: &[Case] = cases![
    Every: tools_have_other_names, each_agent_has_its_own_variables;
    Once: headers_reach_the_remote_server_and_no_other, who_may_set_variables, limits_of_the_child, wrong_values;
];

async fn config(operator: &Actor, body: Value) -> Value {
    operator.post("/v1/mcp/configs", body).await.json_of(201)
}

async fn change(operator: &Actor, config: &Value, body: Value) -> Value {
    operator.patch(&format!("/v1/mcp/configs/{}", config["id"].as_str().unwrap()), body).await.json_of(200)
}

/// Definition of a tool in the list of all servers, or of one.
async fn definition(actor: &Actor, door: &str, name: &str) -> Option<Value> {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
    let answer = match door {
        "/mcp/rpc" => actor.rpc("tools/list", json!({})).await.result().clone(),
        door => actor.post(door, body).await.json_of(200)["result"].clone(),
    };
    let tools = answer["tools"].as_array().cloned().unwrap_or_default();
    tools.into_iter().find(|tool| tool["name"] == name)
}

async fn tools_have_other_names(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let (alice, bob) = (app.as_agent("alice").await, app.as_agent("bob").await);
    let other = app.as_tenant_admin("other").await;
    let row = config(
        &operator,
        json!({
            "serverId": "calculator",
            "rename": { "add": "sum", "power": "divide" },
            "describe": { "add": "Adds up." },
        }),
    )
    .await;
    let numbers = json!({ "a": 2, "b": 3 });
    let sum = definition(&alice, "/mcp/rpc", "calculator__sum").await.expect("the new name is listed");
    assert_eq!(sum["description"], "Adds up.");
    assert!(sum["inputSchema"]["properties"]["a"].is_object(), "the rest stays: {sum:#}");
    let names = alice.tool_names().await;
    assert!(!names.contains(&"calculator__add".to_owned()), "{names:?}");
    assert_eq!(names.iter().filter(|name| *name == "calculator__divide").count(), 1, "{names:?}");
    assert_eq!(alice.call("calculator__sum", numbers.clone()).await.tool_text(), "5");
    assert_eq!(
        alice.call("calculator__divide", numbers.clone()).await.tool_text(),
        "8",
        "`power` has that name"
    );
    let refused = alice.call("calculator__add", numbers.clone()).await;
    let error = refused.refused(&[Code::UnknownTool]);
    assert!(error["data"]["hint"].as_str().unwrap().contains("`sum`"), "{error:#}");
    // The doors of one server, of REST and of services know the same names.
    let execute =
        |tool: &str| json!({ "server": "calculator", "tool": tool, "arguments": { "a": 2, "b": 3 } });
    assert_eq!(alice.post("/v1/mcp/execute", execute("sum")).await.json_of(200)["outcome"], "ok");
    alice.post("/v1/mcp/execute", execute("add")).await.problem(Code::UnknownTool);
    let service = json!({ "service": "calculator", "operation": "sum", "params": { "a": 2, "b": 3 } });
    alice.rpc("mcp.execute", service).await.result();
    let described = alice.rpc("mcp.describeService", json!({ "service": "calculator" })).await;
    let commands = described.result()["commands"].to_string();
    assert!(commands.contains("\"sum\"") && !commands.contains("\"add\""), "{commands}");
    let explained = operator.get("/v1/mcp/explain?tool=calculator__sum").await.json_of(200);
    assert_eq!(
        (&explained["visible"], &explained["callable"]),
        (&json!(true), &json!(true)),
        "{explained:#}"
    );
    let explained = operator.get("/v1/mcp/explain?tool=calculator__add").await.json_of(200);
    assert_eq!(explained["visible"], false, "{explained:#}");
    assert!(explained.to_string().contains("`sum`"), "{explained:#}");
    let discovered = operator.get("/v1/mcp/servers/calculator/discover").await.json_of(200);
    let call_as = discovered["callAs"].to_string();
    assert!(call_as.contains("calculator__sum") && !call_as.contains("calculator__add"), "{call_as}");
    // The record and the patterns have the server's own names.
    let rows = operator.executions("tool=add&outcome=ok").await;
    assert_eq!(rows.len(), 3, "{rows:#?}");
    let bobs = json!({ "serverId": "calculator", "agentId": "bob", "blockedTools": ["add"], "rename": {} });
    config(&operator, bobs).await;
    let names = bob.tool_names().await;
    assert!(names.contains(&"calculator__power".to_owned()), "an agent's own names count alone: {names:?}");
    assert!(!names.iter().any(|name| name.ends_with("__add") || name.ends_with("__sum")), "{names:?}");
    assert!(
        definition(&other, "/mcp/rpc", "calculator__add").await.is_some(),
        "another tenant has no config"
    );
    change(&operator, &row, json!({ "rename": null, "describe": null })).await;
    assert_eq!(alice.call("calculator__add", numbers).await.tool_text(), "5");
}

async fn environment(actor: &Actor, name: &str) -> String {
    actor.call("fix__env", json!({ "name": name })).await.tool_text()
}

async fn each_agent_has_its_own_variables(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let server = operator
        .register(Registration::rmcp("fix").with("env", json!({ "REGION": "eu", "TOKEN": "base" })))
        .await;
    let (alice, bob) = (app.as_agent("alice").await, app.as_agent("bob").await);
    assert_eq!(environment(&alice, "TOKEN").await, "base");
    let row =
        config(&operator, json!({ "serverId": server.id, "env": { "TOKEN": "tenants-hunter2" } })).await;
    assert_eq!(row["env"], json!({ "TOKEN": { "set": true } }), "{row:#}");
    let of_alice = json!({ "serverId": server.id, "agentId": "alice", "env": { "TOKEN": "alices-hunter2", "EXTRA": "1" } });
    let of_alice = config(&operator, of_alice).await;
    for (actor, name, value) in [
        (&alice, "TOKEN", "alices-hunter2"),
        (&alice, "EXTRA", "1"),
        (&alice, "REGION", "eu"),
        (&bob, "TOKEN", "tenants-hunter2"),
        (&bob, "EXTRA", "(unset)"),
        (&bob, "REGION", "eu"),
    ] {
        assert_eq!(environment(actor, name).await, value, "{name}");
    }
    let pid = async |actor: &Actor| actor.call("fix__pid", json!({})).await.tool_text();
    let (of_one, of_other) = (pid(&alice).await, pid(&bob).await);
    assert_ne!(of_one, of_other, "other variables need another child");
    assert_eq!(pid(&alice).await, of_one);
    // A change ends the old child; the others' goes on.
    change(&operator, &of_alice, json!({ "env": { "EXTRA": null, "TOKEN": "newer-hunter2" } })).await;
    assert_eq!(environment(&alice, "TOKEN").await, "newer-hunter2");
    assert_eq!(environment(&alice, "EXTRA").await, "(unset)");
    assert_eq!(pid(&bob).await, of_other);
    let gone = || !app.children().iter().any(|child| child.pid.to_string() == of_one);
    for _ in 0..200 {
        if gone() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(gone(), "the child with the old variables still runs");
    // Nothing shows a value: neither REST, nor the audit log, nor what is stored.
    let effective = operator.get("/v1/mcp/configs/effective?server=fix&agent=alice").await;
    let launch = effective.json_of(200)["launch"].clone();
    let names: Vec<&str> =
        launch.as_array().unwrap().iter().map(|one| one["source"].as_str().unwrap()).collect();
    assert_eq!(names, ["agent", "tenant"], "{launch:#}");
    let shown = [
        effective.text(),
        operator.get("/v1/mcp/configs").await.text(),
        operator.get("/v1/audit?pageSize=200").await.text(),
    ];
    assert!(shown.iter().all(|text| !text.contains("hunter2")), "{shown:#?}");
    app.kill().await;
    app.boot(None).await;
    assert_eq!(environment(&alice, "TOKEN").await, "newer-hunter2", "after a restart");
    let path = format!("/v1/mcp/configs/{}", of_alice["id"].as_str().unwrap());
    app.as_operator().delete(&path).await.status(204);
    assert_eq!(environment(&alice, "TOKEN").await, "tenants-hunter2");
}

async fn headers_reach_the_remote_server_and_no_other(backend: Backend) {
    let far = TestApp::start(Backend::Sqlite, Settings::new().env("LOOPBACK_ROLE", "none")).await;
    let app = TestApp::start(backend, Settings::new().env("EGRESS_ALLOW", "127.0.0.0/8")).await;
    let admin = app.as_tenant_admin("acme").await;
    let url = far.as_operator().url("/mcp/s/calculator");
    let body = json!({ "slug": "far", "name": "far", "transport": "streamable-http", "url": url });
    let server = admin.post("/v1/mcp/servers", body).await.json_of(201);
    let call = async || admin.call("far__add", json!({ "a": 2, "b": 3 })).await;
    call().await.refused(&[Code::UpstreamFailed, Code::UpstreamUnavailable]);
    let (key, _) = far.as_operator().make_key(json!({ "name": "k", "role": "agent" })).await;
    let row = config(&admin, json!({ "serverId": "far", "headers": { "x-mcp-key": key } })).await;
    assert_eq!(row["headers"], json!({ "x-mcp-key": { "set": true } }), "{row:#}");
    assert_eq!(call().await.tool_text(), "5");
    // The server moves: what was given for the old place is not sent to the new one.
    let moved = TestApp::start(Backend::Sqlite, Settings::new()).await;
    let path = format!("/v1/mcp/servers/{}", server["id"].as_str().unwrap());
    admin.patch(&path, json!({ "url": moved.as_operator().url("/mcp/s/calculator") })).await.status(200);
    let refused = call().await;
    let error = refused.refused(&[Code::NotConfigured]);
    assert!(error.to_string().contains("another host"), "{error:#}");
    let row = format!("/v1/mcp/configs/{}", row["id"].as_str().unwrap());
    let partly = admin.patch(&row, json!({ "headers": { "x-other": "1" } })).await;
    let problem = partly.problem(Code::ValidationFailed);
    assert!(problem["errors"][0].to_string().contains("x-mcp-key"), "{problem:#}");
    admin.patch(&row, json!({ "headers": null })).await.status(200);
    assert_eq!(call().await.tool_text(), "5");
}

async fn who_may_set_variables(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let env = json!({ "API_TOKEN": "x", "NODE_OPTIONS": "--max-old-space-size=64" });
    app.as_operator().register(Registration::rmcp("fix").with("env", env).with("scope", "global")).await;
    // An administrator of a tenant has `configs:write` and no `servers:launch`.
    let admin = app.as_tenant_admin("acme").await;
    let set = async |name: &str| {
        admin.post("/v1/mcp/configs", json!({ "serverId": "fix", "env": { name: "secret-1" } })).await
    };
    for foreign in ["LD_PRELOAD", "PATH", "OTHER", "NODE_OPTIONS", "npm_config_registry"] {
        let refused = set(foreign).await;
        refused.problem(Code::MissingScope);
        refused.must(refused.text().contains("servers:launch"), "it says what is missing");
    }
    let row = set("API_TOKEN").await.json_of(201);
    assert_eq!(admin.call("fix__env", json!({ "name": "API_TOKEN" })).await.tool_text(), "secret-1");
    assert_eq!(app.as_operator().call("fix__env", json!({ "name": "API_TOKEN" })).await.tool_text(), "x");
    let path = format!("/v1/mcp/configs/{}", row["id"].as_str().unwrap());
    admin.patch(&path, json!({ "env": { "LD_PRELOAD": "/tmp/x.so" } })).await.problem(Code::MissingScope);
    admin.patch(&path, json!({ "env": { "API_TOKEN": null } })).await.status(200);
    assert_eq!(admin.call("fix__env", json!({ "name": "API_TOKEN" })).await.tool_text(), "x");
    app.as_operator_for("acme").await.patch(&path, json!({ "env": { "OTHER": "1" } })).await.status(200);
}

async fn limits_of_the_child(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let server = operator.register(Registration::rmcp("fix")).await;
    config(&operator, json!({ "serverId": server.id, "resources": { "openFiles": 77, "cpuSeconds": 1234 } }))
        .await;
    let pid = operator.call("fix__pid", json!({})).await.tool_text();
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let of = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line[name.len()..].split_whitespace().next().unwrap_or_default().to_owned()
    };
    assert_eq!((of("Max open files"), of("Max cpu time")), ("77".to_owned(), "1234".to_owned()), "{limits}");
}

async fn wrong_values(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    operator.register(Registration::rmcp("fix")).await;
    for (server, member, value, named) in [
        ("fix", "rename", json!({ "a": "x", "b": "x" }), "`x`"),
        ("fix", "rename", json!({ "a": "with space" }), "A-Z"),
        ("fix", "rename", json!(["a"]), "object"),
        ("fix", "describe", json!({ "a": "" }), "1 to 4096"),
        ("fix", "headers", json!({ "X-A": "secret-1" }), "transport stdio"),
        ("fix", "env", json!({ "A=B": "secret-1" }), "A=B"),
        ("fix", "resources", json!({ "memory": 5 }), "memoryMb"),
        ("fix", "resources", json!({ "openFiles": 0 }), "openFiles"),
        ("calculator", "resources", json!({ "openFiles": 9 }), "transport builtin"),
    ] {
        let answer = operator.post("/v1/mcp/configs", json!({ "serverId": server, member: value })).await;
        let problem = answer.problem(Code::ValidationFailed);
        let errors = problem["errors"].to_string();
        assert!(errors.contains(named) && !errors.contains("secret-1"), "{member}: {errors}");
    }
}
