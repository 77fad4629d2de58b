//! Slash commands: over REST, over JSON-RPC and from a terminal; what a caller may not use is neither called
//! nor named by them.

use tests::{Actor, Answer, Backend, Case, Code, Registration, Settings, TestApp, Value, cases, json};

pub const CASES: &[Case] = cases![
    Every: a_command_is_a_call_like_any_other, what_may_not_be_used_is_not_named;
    Once: wrong_commands, from_a_terminal;
];

async fn run(actor: &Actor, command: &str) -> Answer {
    actor.post("/mcp/execute", json!({ "command": command })).await
}

async fn data(actor: &Actor, command: &str) -> Value {
    let answer = run(actor, command).await.json_of(200);
    assert_eq!(answer["status"], "success", "{answer}");
    answer["data"].clone()
}

async fn a_command_is_a_call_like_any_other(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    operator.register(Registration::rmcp("fix")).await;
    let alice = app.as_agent("alice").await;
    assert_eq!(data(&alice, "/mcp-calculator add 2 3").await, json!({ "result": 5 }));
    assert_eq!(data(&alice, "/mcp-calculator divide --b=4 1").await, json!({ "result": 0.25 }));
    assert_eq!(data(&alice, r#"/mcp-fix echo "a \"b\" {env.HOME}""#).await, r#"a "b" {env.HOME}"#);
    let called = alice.rpc("mcp.execute", json!({ "command": "/mcp-calculator add 2 3" })).await;
    assert_eq!(called.result()["data"], json!({ "result": 5 }));
    let both = json!({ "command": "/mcp-calculator add 2 3", "service": "calculator" });
    alice.rpc("mcp.execute", both).await.refused(&[Code::InvalidParams]);

    let rows = operator.executions("server=calculator&agent=alice").await;
    let of = |row: &Value| (row["tool"].clone(), row["outcome"].clone());
    let rows: Vec<_> = rows.iter().map(of).collect();
    assert_eq!(rows, ["add", "divide", "add"].map(|tool| (json!(tool), json!("ok"))), "each is on record");

    let usage = data(&alice, "/mcp-calculator").await["operations"][0]["usage"].clone();
    assert_eq!(usage, "/mcp-calculator add <a> <b>");
    assert_eq!(operator.executions("server=calculator&agent=alice").await.len(), 3, "a list is no call");

    // An agent that a trusted connection names.
    let body = json!({ "command": "/mcp-calculator add 1 1", "agent_id": "bob" });
    app.anonymous_from_loopback().post("/mcp/execute", body).await.status(200);
    assert_eq!(operator.executions("server=calculator&agent=bob").await.len(), 1);
}

async fn what_may_not_be_used_is_not_named(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    operator
        .post("/v1/mcp/configs", json!({ "serverId": "calculator", "blockedTools": ["power"] }))
        .await
        .status(201);
    let renamed = json!({ "serverId": "calculator", "rename": { "add": "sum" } });
    let id = operator.get("/v1/mcp/configs").await.json_of(200)["items"][0]["id"].clone();
    operator
        .patch(&format!("/v1/mcp/configs/{}", id.as_str().unwrap()), json!({ "rename": renamed["rename"] }))
        .await
        .status(200);
    let alice = app.as_agent("alice").await;
    assert_eq!(data(&alice, "/mcp-calculator sum 2 3").await, json!({ "result": 5 }));
    for command in ["/mcp-calculator power 2 3", "/mcp-calculator pover 2 3", "/mcp-calculator add 2 3"] {
        let refused = run(&alice, command).await.problem(Code::UnknownTool).to_string();
        assert!(!refused.contains("`power`") || command.contains("power"), "{command}: {refused}");
    }
    let listed = data(&alice, "/mcp-calculator").await.to_string();
    assert!(
        listed.contains("sum") && !listed.contains("power") && !listed.contains("calculator add"),
        "{listed}"
    );

    // Another tenant's server is not there.
    let other = app.as_tenant_admin("other").await;
    operator.register(Registration::rmcp("fix")).await;
    run(&other, "/mcp-fix echo hi").await.problem(Code::UnknownServer);
    // A key without the scope calls nothing.
    let (key, _) = operator.make_key(json!({ "name": "reader", "scopes": ["servers:read"] })).await;
    run(&app.with_key(&key), "/mcp-calculator sum 2 3").await.problem(Code::MissingScope);
}

async fn wrong_commands(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let alice = app.as_agent("alice").await;
    for (command, code, parts) in [
        ("/mcp-calculator add 2", Code::InvalidParams, ["missing b", "usage: /mcp-calculator add <a> <b>"]),
        ("/mcp-calculator add 2 x", Code::InvalidParams, ["`b` is a number, not `x`", "usage"]),
        ("/mcp-calculator add 2 3 4", Code::InvalidParams, ["`4` is one value too many", "usage"]),
        ("/mcp-calculator ad 2 3", Code::UnknownTool, ["no operation `ad`", "did you mean `add`?"]),
        ("/mcp-calculator add 2 \"3", Code::InvalidParams, ["at character 23", "/mcp-SERVICE"]),
        ("/calculator add 2 3", Code::InvalidParams, ["at character 1", "begins with /mcp-"]),
        ("/mcp-calculater add 2 3", Code::UnknownServer, ["calculater", "calculator"]),
        ("/mcp-CALCULATOR add 2 3", Code::InvalidParams, ["small letters", "/mcp-SERVICE"]),
        (
            "/mcp-calculator add {\"a\":1}x",
            Code::InvalidParams,
            ["a space is wanted before `x`", "/mcp-SERVICE"],
        ),
    ] {
        let problem = run(&alice, command).await.problem(code).to_string();
        for part in parts {
            assert!(problem.contains(&part.replace('"', "\\\"")), "{command}: {part}: {problem}");
        }
    }
    let divided = run(&alice, "/mcp-calculator divide 1 0").await.problem(Code::ToolFailed).to_string();
    assert!(divided.contains("division by zero"), "{divided}");
    alice.post("/mcp/execute", json!({ "command": 1 })).await.problem(Code::ValidationFailed);
    alice.post("/mcp/execute", json!({})).await.problem(Code::ValidationFailed);
    alice
        .post("/mcp/execute", json!({ "command": "/mcp-calculator", "other": 1 }))
        .await
        .problem(Code::ValidationFailed);
}

async fn from_a_terminal(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let call = |command: &str| {
        let mut program = app.command(&["call", command]);
        program.env("MCP_GATEWAY_URL", app.anonymous_from_loopback().url(""));
        let output = program.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    assert_eq!(
        call("/mcp-calculator add 2 3"),
        (Some(0), "{\n  \"result\": 5\n}\n".to_owned(), String::new())
    );
    let (_, listed, _) = call("/mcp-calculator ");
    assert!(listed.starts_with("/mcp-calculator add <a> <b>\n") && listed.lines().count() == 5, "{listed}");
    let (code, said, mistake) = call("/mcp-calculator ad 2 3");
    assert_eq!((code, said.as_str()), (Some(1), ""));
    assert!(mistake.contains("did you mean `add`?"), "{mistake}");
}
