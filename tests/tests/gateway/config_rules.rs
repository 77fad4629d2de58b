//! What a config says of arguments: held at every door, in both eras, against every spelling of an argument.

use reqwest::Method;
use tests::mcp_client::McpClient;
use tests::{Actor, Backend, Case, Code, Registration, Settings, TestApp, Value, cases, json};

use crate::stdio_door::to;
use crate::stdio_lines::Hand;

pub const CASES: &[Case] = cases![
    Every: a_rule_holds_at_every_door, rules_of_tenant_and_agent_hold_together;
    Once: a_rule_holds_at_the_first_call, rules_name_the_servers_own_tools, rules_are_shown_with_their_rows, a_rule_is_changed, wrong_rules;
];

const RULE: &str = "/nonce";

async fn server(app: &TestApp) -> (Actor, String) {
    let operator = app.as_operator();
    let id = operator.register(Registration::rmcp("fix")).await.id;
    (operator, id)
}

/// Makes a config with these rules; its id.
async fn config(operator: &Actor, server: &str, agent: Option<&str>, rules: Value) -> String {
    let body = json!({ "serverId": server, "agentId": agent, "rules": rules });
    operator.post("/v1/mcp/configs", body).await.json_of(201)["id"].as_str().unwrap().to_owned()
}

/// Sends the text of the arguments through every door; the problem or the error's `data` of each, by its name.
async fn refusals(app: &TestApp, alice: &Actor, arguments: &str) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    let raw = |message: Value| message.to_string().replace(r#""ARGUMENTS""#, arguments);
    let call = json!({ "name": "fix__echo", "arguments": "ARGUMENTS" });
    let request = raw(json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call }));
    let error = alice.rpc_text(&request).await.refused(&[Code::DeniedByPolicy]);
    all.push(("/mcp/rpc".to_owned(), error["data"].clone()));

    let body = raw(json!({ "server": "fix", "tool": "echo", "arguments": "ARGUMENTS" }));
    let answer = alice.send_json(Method::POST, "/v1/mcp/execute", body).await;
    let mut problem = answer.problem(Code::DeniedByPolicy);
    problem["reason"] = problem["detail"].take();
    all.push(("/v1/mcp/execute".to_owned(), problem));

    for (path, name) in [("/mcp", "fix__echo"), ("/mcp/s/fix", "echo")] {
        let legacy = McpClient::legacy(alice, path, "2025-11-25", json!({})).await;
        for client in [McpClient::modern(alice, path), legacy] {
            let message = client.request("tools/call", json!({ "name": name, "arguments": "ARGUMENTS" }));
            let error = client.send_text(&message, &raw(message.clone())).await.error().await;
            assert_eq!(error["code"], Code::DeniedByPolicy.rpc(), "{path} {}: {error}", client.version);
            all.push((format!("{path} {}", client.version), error["data"].clone()));
        }
    }

    let key = alice.headers().iter().find(|(name, _)| name == "x-mcp-key").unwrap().1.clone();
    let mut stdio = Hand::start(&to(app, Some(&key)), &[]);
    stdio.initialize().await;
    stdio.say(request).await;
    let answer = stdio.answer(1).await;
    assert_eq!(answer["error"]["code"], Code::DeniedByPolicy.rpc(), "stdio: {answer}");
    all.push(("stdio".to_owned(), answer["error"]["data"].clone()));
    all
}

async fn a_rule_holds_at_every_door(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (operator, id) = server(&app).await;
    let alice = app.as_agent("alice").await;
    let rules = json!([
        { "tools": "other", "argument": "/x", "forbidden": true },
        { "tools": "e*", "argument": RULE, "pattern": "src/.*", "notPattern": r"\.\.", "required": true, "reason": "only sources" },
    ]);
    let row = config(&operator, &id, None, rules).await;
    assert_eq!(alice.call("fix__echo", json!({ "nonce": "src/a" })).await.tool_text(), "src/a");
    alice.call("fix__add", json!({ "a": 1, "b": 2 })).await.tool_text();
    let mut refused = 0;
    for (arguments, says) in [
        (r#"{"nonce":"/etc/passwd"}"#, "does not match"),
        (r#"{"nonce":"src/../etc/passwd"}"#, "matches `notPattern`"),
        (r#"{"\u006eonce":"/etc/passwd"}"#, "does not match"),
        (r#"{"nonce":"src/a","nonce":"/etc/passwd"}"#, "given twice"),
        (r#"{"nonce":"/etc/passwd","nonc\u0065":"src/a"}"#, "given twice"),
        (r#"{"nonce":"src/a","Nonce":"/etc/passwd"}"#, "in case only"),
        (r#"{"nonce":["src/a"]}"#, "is a list"),
        ("{}", "is missing"),
    ] {
        for (door, refusal) in refusals(&app, &alice, arguments).await {
            let text = |member: &str| refusal[member].as_str().unwrap_or_default().to_owned();
            assert!(text("reason").contains(says), "{door} {arguments}: {refusal}");
            assert!(!text("reason").contains("passwd"), "values are not given back: {refusal}");
            assert_eq!(text("rule"), format!("config {row} rules[1]"), "{door}");
            if says != "given twice" {
                assert!(
                    text("reason").contains(RULE) && text("reason").ends_with("only sources"),
                    "{refusal}"
                );
                assert!(text("hint").contains("src/.*") && text("hint").contains(r"\.\."), "{refusal}");
            }
            refused += 1;
        }
    }
    // `mcp.execute` and calls without arguments; a duplicate is refused there before any rule.
    let execute = json!({ "service": "fix", "operation": "echo", "nonce": "/etc" });
    let error = alice.rpc("mcp.execute", execute).await.refused(&[Code::DeniedByPolicy]);
    assert_eq!(error["data"]["rule"], format!("config {row} rules[1]"));
    let error =
        alice.rpc("tools/call", json!({ "name": "fix__echo" })).await.refused(&[Code::DeniedByPolicy]);
    assert!(error["data"]["reason"].as_str().is_some_and(|reason| reason.contains("is missing")), "{error}");
    let rows = operator.executions("outcome=denied&agent=alice").await;
    assert_eq!(rows.len(), refused + 2, "each refused call is a row");
    assert!(rows.iter().all(|row| row["error"]["code"] == "denied_by_policy"), "{rows:#?}");
    let echoed = operator.executions("tool=echo&outcome=ok").await;
    assert_eq!(echoed.len(), 1, "the server was called once: {echoed:#?}");
    assert!(alice.tool_names().await.contains(&"fix__echo".to_owned()), "the tool is still listed");
}

async fn rules_of_tenant_and_agent_hold_together(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (operator, id) = server(&app).await;
    let (alice, bob) = (app.as_agent("alice").await, app.as_agent("bob").await);
    let of_tenant =
        config(&operator, &id, None, json!([{ "tools": "add", "argument": "/a", "maximum": 10 }])).await;
    let rules = json!([{ "tools": "add", "argument": "/a", "minimum": 0, "maximum": 1000 }]);
    let of_alice = config(&operator, &id, Some("alice"), rules).await;
    let add = async |actor: &Actor, a: f64| actor.call("fix__add", json!({ "a": a, "b": 0 })).await;
    let rule = async |actor: &Actor, a: f64| {
        add(actor, a).await.refused(&[Code::DeniedByPolicy])["data"]["rule"].as_str().unwrap().to_owned()
    };
    add(&alice, 10.0).await.tool_text();
    add(&bob, -1.0).await.tool_text();
    assert_eq!(rule(&alice, 10.5).await, format!("config {of_tenant} rules[0]"), "the agent's lifts nothing");
    assert_eq!(rule(&bob, 11.0).await, format!("config {of_tenant} rules[0]"));
    assert_eq!(rule(&alice, -1.0).await, format!("config {of_alice} rules[0]"), "and adds");
}

async fn a_rule_holds_at_the_first_call(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (operator, id) = server(&app).await;
    config(&operator, &id, None, json!([{ "tools": "echo", "argument": "/nonce", "oneOf": ["a"] }])).await;
    // The server has not been asked for its tools yet, so that the name is settled only during the call.
    let call = operator.call("fix__echo", json!({ "nonce": "b" })).await;
    call.refused(&[Code::DeniedByPolicy]);
    let rows = operator.executions("server=fix").await;
    assert!(rows.len() == 1 && rows[0]["outcome"] == "denied", "{rows:#?}");
    operator.call("fix__echo", json!({ "nonce": "a" })).await.tool_text();
}

async fn rules_name_the_servers_own_tools(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let body = json!({
        "serverId": "calculator", "rename": { "add": "sum" },
        "rules": [{ "tools": "add", "argument": "/a", "oneOf": [1, 2] }, { "tools": "sum", "argument": "/a", "forbidden": true }],
    });
    operator.post("/v1/mcp/configs", body).await.status(201);
    operator.call("calculator__sum", json!({ "a": 2, "b": 3 })).await.tool_text();
    let error =
        operator.call("calculator__sum", json!({ "a": 3, "b": 3 })).await.refused(&[Code::DeniedByPolicy]);
    assert!(error["data"]["hint"].as_str().is_some_and(|hint| hint.contains("one of 1, 2")), "{error}");
    let loosely = json!({ "service": "calculator", "operation": "Sum", "params": { "a": 3, "b": 3 } });
    operator.rpc("mcp.execute", loosely).await.refused(&[Code::DeniedByPolicy]);
}

async fn rules_are_shown_with_their_rows(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (operator, id) = server(&app).await;
    app.as_agent("alice").await;
    let rule = json!({ "tools": "echo", "argument": "/nonce", "oneOf": ["a", 1, null], "reason": "why not" });
    let of_tenant = config(&operator, &id, None, json!([rule])).await;
    let more = json!([{ "tools": "add", "argument": "/a", "minimum": 0.5 }, { "tools": "*", "argument": "/x", "forbidden": true }]);
    let of_alice = config(&operator, &id, Some("alice"), more.clone()).await;
    let place = |standing: &Value| (standing["configId"].clone(), standing["field"].clone());
    let expected = [
        (json!(of_alice), json!("rules[0]")),
        (json!(of_alice), json!("rules[1]")),
        (json!(of_tenant), json!("rules[0]")),
    ];
    let shown = operator.get("/v1/mcp/configs/effective?server=fix&agent=alice").await.json_of(200);
    let rules = shown["rules"].as_array().unwrap();
    assert_eq!(rules.iter().map(place).collect::<Vec<_>>(), expected, "{shown}");
    assert_eq!((&rules[0]["value"], &rules[2]["value"]), (&more[0], &rule), "as they were written");
    assert_eq!((&rules[0]["source"], &rules[2]["source"]), (&json!("agent"), &json!("tenant")));
    let explained = operator.get("/v1/mcp/explain?agent=alice&tool=fix__echo").await.json_of(200);
    let rules = explained["rules"].as_array().unwrap();
    assert_eq!(rules.iter().map(place).collect::<Vec<_>>(), expected[1..], "{explained}");
    assert_eq!(explained["callable"], true, "{explained}");
    let row = operator.get(&format!("/v1/mcp/configs/{of_tenant}")).await.json_of(200);
    assert_eq!(row["rules"], json!([rule]));
}

async fn a_rule_is_changed(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    let (operator, id) = server(&app).await;
    let row =
        config(&operator, &id, None, json!([{ "tools": "echo", "argument": "/nonce", "maxLength": 3 }]))
            .await;
    let path = format!("/v1/mcp/configs/{row}");
    let echo = async |nonce: &str| operator.call("fix__echo", json!({ "nonce": nonce })).await;
    echo("abcd").await.refused(&[Code::DeniedByPolicy]);
    operator.patch(&path, json!({ "retries": 1 })).await.status(200);
    echo("abcd").await.refused(&[Code::DeniedByPolicy]);
    app.kill().await;
    app.boot(None).await;
    echo("abcd").await.refused(&[Code::DeniedByPolicy]);
    let rules = json!([{ "tools": "echo", "argument": "/nonce", "maxLength": 4 }]);
    operator.patch(&path, json!({ "rules": rules })).await.status(200);
    echo("abcd").await.tool_text();
    echo("abcde").await.refused(&[Code::DeniedByPolicy]);
    operator.patch(&path, json!({ "rules": null })).await.status(200);
    echo("abcde").await.tool_text();
}

async fn wrong_rules(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let row = operator.post("/v1/mcp/configs", json!({ "serverId": "calculator" })).await.json_of(201);
    let path = format!("/v1/mcp/configs/{}", row["id"].as_str().unwrap());
    let many: Vec<Value> = vec![json!({ "tools": "add", "argument": "/a", "required": true }); 51];
    let rule = |condition: Value| {
        let mut rule = json!({ "tools": "add", "argument": "/a" });
        rule.as_object_mut().unwrap().extend(condition.as_object().cloned().unwrap());
        json!([rule])
    };
    for (rules, says) in [
        (rule(json!({ "pattern": "ä(b[" })), "unclosed character class, at character 4"),
        (rule(json!({ "notPattern": "a)" })), "unopened group, at character 2"),
        (rule(json!({ "pattern": "x".repeat(1001) })), "1 to 1000 characters"),
        (rule(json!({ "pattern": "(a{1000}){1000}" })), "too large"),
        (rule(json!({})), "has no condition"),
        (rule(json!({ "forbidden": false })), "has no condition"),
        (rule(json!({ "forbidden": true, "maximum": 1 })), "beside `forbidden`"),
        (rule(json!({ "minimum": 2, "maximum": 1 })), "above its `maximum`"),
        (rule(json!({ "minimum": "2" })), "minimum is a number"),
        (rule(json!({ "oneOf": [] })), "at least one value"),
        (rule(json!({ "oneOf": ["a\u{0}b"] })), "NUL"),
        (rule(json!({ "argument": "a", "required": true })), "begin with `/`"),
        (rule(json!({ "argument": "/a~2", "required": true })), "neither `~0` nor `~1`"),
        (rule(json!({ "tools": "[a", "required": true })), "`[a`"),
        (rule(json!({ "requird": true })), "requird is not known"),
        (json!([{ "argument": "/a", "required": true }]), "tools is missing"),
        (json!(many), "at most 50"),
        (json!({}), "rules is a list"),
        (json!(["add"]), "is an object, not a text"),
    ] {
        let answer = operator.patch(&path, json!({ "rules": rules })).await;
        answer.must(answer.status == 422, "a wrong rule is refused");
        answer.must(answer.text().contains(says), says);
    }
    let kept = operator.get(&path).await.json_of(200);
    assert!(kept["rules"].is_null() && kept["revision"] == 1, "nothing was half taken: {kept}");
}
