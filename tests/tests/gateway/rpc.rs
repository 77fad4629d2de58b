//! The JSON-RPC door: envelopes, ids, notifications, batches, and the MCP methods behind it.

use tests::{Answer, Backend, Case, Code, Registration, Settings, TestApp, Value, cases, json};

pub const CASES: &[Case] = cases![
    Every: lists_and_calls_tools, resources_prompts_and_completion, gateway_methods;
    Once: ping_and_initialize_need_no_session, an_id_comes_back_as_it_was_written, what_is_not_a_request,
        notifications_are_taken_without_a_body, batches, a_batch_of_a_thousand, get_is_not_a_method_here,
        unknown_names_say_what_is_unknown, a_changed_list_is_seen, the_calculator_is_there_at_first_boot,
        a_tool_that_fails_is_not_a_gateway_error, a_list_is_whole_with_one_server_away;
];

async fn started(backend: Backend) -> TestApp {
    let app = TestApp::start(backend, Settings::new()).await;
    app.as_operator().register(Registration::rmcp("fix")).await;
    app
}

async fn ping_and_initialize_need_no_session(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let agent = app.as_agent("alice").await;
    let answer = agent.rpc("ping", json!({})).await;
    answer.must(answer.result() == json!({}), "a ping is answered with an empty object");
    for asked in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let answer = agent.rpc("initialize", hello(asked)).await;
        let result = answer.result();
        answer.must(result["protocolVersion"] == asked, "the asked revision is spoken");
        answer.must(result["capabilities"]["tools"].is_object(), "tools are offered");
        answer.must(result["serverInfo"]["name"].is_string(), "it says who it is");
        answer.must(answer.header("mcp-session-id").is_none(), "there is no session on this door");
    }
    let answer = agent.rpc("initialize", hello("1999-01-01")).await;
    let version = answer.result()["protocolVersion"].clone();
    answer.must(version == "2025-11-25", "an unknown revision is answered with the newest known one");
}

fn hello(version: &str) -> Value {
    json!({ "protocolVersion": version, "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } })
}

async fn lists_and_calls_tools(backend: Backend) {
    let app = started(backend).await;
    let agent = app.as_agent("alice").await;
    let answer = agent.rpc("tools/list", json!({})).await;
    let tools = answer.result()["tools"].as_array().cloned().unwrap_or_default();
    let echo = tools.iter().find(|tool| tool["name"] == "fix__echo");
    answer.must(echo.is_some(), "a tool is listed as slug__tool");
    let schema = &echo.unwrap()["inputSchema"];
    answer.must(schema["properties"]["nonce"]["type"] == "string", "its schema is the server's");
    let answer = agent.call("fix__echo", json!({ "nonce": "Grüße 🌍 \u{2028}" })).await;
    answer.must(answer.tool_text() == "Grüße 🌍 \u{2028}", "the tool answers with what it was given");
    let answer = agent.call("fix__add", json!({ "a": 2.5, "b": 4 })).await;
    answer.must(answer.tool_text() == "6.5", "the sum is the tool's");
    let answer = agent.rpc("tools/call", json!({ "name": "fix__count" })).await;
    answer.must(answer.tool_text() == "1", "arguments may be left out");
    let answer = agent.rpc_text(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).await;
    answer.must(answer.result()["tools"].is_array(), "params may be left out");
}

async fn an_id_comes_back_as_it_was_written(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let agent = app.as_agent("alice").await;
    for id in ["1", "0", "-7", "\"\"", "\"a b\"", "\"\\u00e9\\n\"", "9007199254740993", "\"1\"", "1.5"] {
        let answer = agent.rpc_text(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#)).await;
        let same = answer.text().contains(&format!(r#""id":{id},"#));
        answer.status(200).must(same, "the id comes back byte for byte");
        let answer = agent.rpc_text(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"no/such"}}"#)).await;
        answer.refused(&[Code::MethodNotFound]);
        let same = answer.text().contains(&format!(r#""id":{id},"#));
        answer.status(200).must(same, "an error carries the id byte for byte");
    }
}

async fn what_is_not_a_request(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let agent = app.as_agent("alice").await;
    let broken: [&[u8]; 7] = [b"", b"{", b"nonsense", b"{\"a\":1}}", b"\xff\xfe", b"\xef\xbb\xbf{}x", b"[1,"];
    for body in broken {
        let answer = post_bytes(&agent, body).await;
        answer.status(400);
        answer.refused(&[Code::ParseError]);
        answer.must(answer.json()["id"].is_null(), "an answer to what has no readable id has id null");
    }
    let inside = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":{\"a\":\"\xc3\x28\"}}";
    let answer = post_bytes(&agent, inside).await;
    answer.status(400);
    answer.refused(&[Code::ParseError, Code::InvalidRequest]);
    let invalid = [
        "3",
        "\"text\"",
        "null",
        "[]",
        "{}",
        r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
        r#"{"id":1,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
        r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":[1],"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":"text"}"#,
        r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/list"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{},"params":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
    ];
    for body in invalid {
        let answer = agent.rpc_text(body).await;
        answer.status(400);
        answer.refused(&[Code::InvalidRequest]);
    }
    let answer = agent.rpc("ping", json!({})).await;
    answer.must(answer.result() == json!({}), "nothing of it did any harm");
}

async fn post_bytes(agent: &tests::Actor, body: &[u8]) -> Answer {
    let headers = [("content-type", "application/json")];
    agent.send(reqwest::Method::POST, "/mcp/rpc", &headers, Some(body.to_vec())).await
}

async fn notifications_are_taken_without_a_body(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let agent = app.as_agent("alice").await;
    let bodies = [
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":99}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/of-the-future","params":{"x":1}}"#,
        r#"[{"jsonrpc":"2.0","method":"notifications/initialized"},{"jsonrpc":"2.0","method":"ping"}]"#,
    ];
    for body in bodies {
        let answer = agent.rpc_text(body).await;
        answer.status(202).must(answer.body.is_empty(), "there is no answer to a notification");
    }
}

async fn batches(backend: Backend) {
    let app = started(backend).await;
    let agent = app.as_agent("alice").await;
    let answer = agent
        .rpc_text(
            r#"[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"fix__echo","arguments":{"nonce":"one"}}},
                {"jsonrpc":"2.0","method":"notifications/initialized"},
                7,
                {"jsonrpc":"2.0","id":"1","method":"tools/call","params":{"name":"fix__echo","arguments":{"nonce":"two"}}},
                {"jsonrpc":"2.0","id":2,"method":"no/such"},
                {"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"fix__fail"}},
                {"jsonrpc":"2.0","id":4,"id":5,"method":"ping"}]"#,
        )
        .await;
    let answers = answer.json_of(200).as_array().cloned().unwrap_or_default();
    answer.must(answers.len() == 6, "each request and each mistake is answered, a notification is not");
    let of = |id: Value| answers.iter().find(|one| one["id"] == id).cloned().unwrap_or_default();
    answer.must(of(json!(1))["result"]["content"][0]["text"] == "one", "the first has its own answer");
    answer
        .must(of(json!("1"))["result"]["content"][0]["text"] == "two", "a text is another id than a number");
    answer.refusal_in(&of(json!(2)), &[Code::MethodNotFound]);
    answer.must(of(json!(3))["result"]["isError"] == true, "a failed tool is a result");
    let nameless: Vec<&Value> = answers.iter().filter(|one| one["id"].is_null()).collect();
    answer.must(nameless.len() == 2, "what is not a message is answered with id null");
    nameless.iter().for_each(|one| drop(answer.refusal_in(one, &[Code::InvalidRequest])));
}

async fn a_batch_of_a_thousand(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let agent = app.as_agent("alice").await;
    let batch = |size: u32| {
        let one = |id: u32| json!({ "jsonrpc": "2.0", "id": id, "method": "ping" });
        Value::Array((0..size).map(one).collect()).to_string()
    };
    let answer = agent.rpc_text(&batch(1000)).await;
    answer.status(400);
    answer.refused(&[Code::InvalidRequest]);
    let answer = agent.rpc_text(&batch(101)).await;
    answer.status(400);
    answer.refused(&[Code::InvalidRequest]);
    let answer = agent.rpc_text(&batch(100)).await;
    let mut ids: Vec<u64> =
        answer.json_of(200).as_array().into_iter().flatten().filter_map(|one| one["id"].as_u64()).collect();
    ids.sort_unstable();
    answer.must(ids == (0..100).collect::<Vec<_>>(), "a hundred are answered, each once");
}

async fn get_is_not_a_method_here(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let agent = app.as_agent("alice").await;
    for method in [reqwest::Method::GET, reqwest::Method::DELETE, reqwest::Method::PUT] {
        let answer = agent.send(method, "/mcp/rpc", &[], None).await;
        let allowed = answer.header("allow").unwrap_or_default().to_owned();
        answer.status(405).must(allowed.contains("POST"), "it says which method is allowed");
    }
}

async fn unknown_names_say_what_is_unknown(backend: Backend) {
    let app = started(backend).await;
    let agent = app.as_agent("alice").await;
    for name in ["fix__nothing", "nobody__echo", "echo", "__", "fix__", ""] {
        let answer = agent.call(name, json!({})).await;
        answer.status(200);
        answer.refused(&[Code::UnknownTool, Code::UnknownServer, Code::InvalidParams]);
    }
    for params in [json!({}), json!({ "name": 7 }), json!([]), json!({ "name": null })] {
        let answer = agent.rpc("tools/call", params).await;
        answer.status(200);
        answer.refused(&[Code::InvalidParams]);
    }
    let twice =
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"fix__echo","name":"fix__pid"}}"#;
    agent.rpc_text(twice).await.refused(&[Code::InvalidParams, Code::InvalidRequest]);
    let answer = agent.rpc("resources/read", json!({ "uri": "nothing://here" })).await;
    answer.refused(&[Code::UnknownItem]);
    let answer = agent.rpc("prompts/get", json!({ "name": "fix__nothing" })).await;
    let code = answer.json_of(200)["error"]["code"].clone();
    answer.must(code == -32602, "an unknown prompt is a mistake in the params");
}

async fn resources_prompts_and_completion(backend: Backend) {
    let app = started(backend).await;
    let agent = app.as_agent("alice").await;
    let answer = agent.rpc("resources/list", json!({})).await;
    let uri = first(&answer, "resources", "uri", "greeting");
    let answer = agent.rpc("resources/read", json!({ "uri": uri })).await;
    answer.must(answer.result()["contents"][0]["text"] == "hello", "a listed resource can be read");
    let answer = agent.rpc("resources/templates/list", json!({})).await;
    let template = first(&answer, "resourceTemplates", "uriTemplate", "{n}");
    let answer = agent.rpc("resources/read", json!({ "uri": template.replace("{n}", "42") })).await;
    let text = answer.result()["contents"][0]["text"].clone();
    answer.must(text == "the number 42", "what a template gives can be read");
    let answer = agent.rpc("prompts/list", json!({})).await;
    let name = first(&answer, "prompts", "name", "greet");
    answer.must(name == "fix__greet", "a prompt is listed as slug__prompt");
    let answer = agent.rpc("prompts/get", json!({ "name": name, "arguments": { "style": "formal" } })).await;
    let text = answer.result()["messages"][0]["content"]["text"].clone();
    answer.must(text == "Greet me in a formal way.", "a prompt is the server's");
    let reference = json!({ "type": "ref/prompt", "name": name });
    let argument = json!({ "name": "style", "value": "fr" });
    let answer = agent.rpc("completion/complete", json!({ "ref": reference, "argument": argument })).await;
    let values = answer.result()["completion"]["values"].clone();
    answer.must(values == json!(["friendly"]), "an argument is completed by its server");
}

/// The member of the first item of a list that contains a text.
fn first(answer: &Answer, list: &str, member: &str, containing: &str) -> String {
    let result = answer.result();
    let items = result[list].as_array().cloned().unwrap_or_default();
    let texts = items.iter().filter_map(|item| item[member].as_str());
    let found = texts.filter(|text| text.contains(containing)).map(str::to_owned).next();
    answer.must(found.is_some(), &format!("{list} has one whose {member} contains {containing}"));
    found.unwrap()
}

async fn gateway_methods(backend: Backend) {
    let app = started(backend).await;
    let agent = app.as_agent("alice").await;
    let answer = agent.rpc("mcp.listServices", json!({})).await;
    let services = answer.result()["services"].as_array().cloned().unwrap_or_default();
    let fixture = services.iter().find(|service| service["name"] == "fix").cloned().unwrap_or_default();
    answer.must(fixture["location"] == "server", "a registered server is a service on the server's side");
    answer.must(fixture["transport"] == "stdio", "a service says its transport");
    answer.must(fixture["state"].is_string(), "a service says its state");
    answer.must(services.iter().any(|one| one["name"] == "calculator"), "the built-in ones are services too");
    let answer = agent.rpc("mcp.describeService", json!({ "service": "fix" })).await;
    let described = answer.result().to_string();
    answer.must(described.contains("echo") && described.contains("nonce"), "it describes the operations");
    agent.rpc("mcp.describeService", json!({ "service": "nobody" })).await.refused(&[Code::UnknownServer]);
    let shapes = [
        json!({ "service": "fix", "operation": "add", "params": { "a": 1, "b": 2 } }),
        json!({ "service": "fix", "operation": "add", "a": 1, "b": 2 }),
        json!({ "service": "fix", "operation": "Add", "a": 1, "params": { "b": 2 } }),
    ];
    for shape in shapes {
        let answer = agent.rpc("mcp.execute", shape).await;
        let result = answer.result();
        answer.must(result["status"] == "success", "it says that it succeeded");
        let data = result["data"].to_string();
        answer.must(matches!(data.trim_matches('"'), "3" | "3.0"), "the data is what the tool answered");
        let metadata = &result["metadata"];
        answer.must(metadata["executionTime"].is_number(), "it says how long it took");
        answer.must(metadata["tokensUsed"].is_u64(), "it says how many tokens it used");
    }
    let answer = agent.rpc("mcp.execute", json!({ "service": "fix", "operation": "late-comer" })).await;
    answer.must(answer.json_of(200).get("result").is_none(), "a tool that is not listed is not found");
    for (params, code) in [
        (json!({ "service": "nobody", "operation": "add" }), Code::UnknownServer),
        (json!({ "service": "fix", "operation": "nothing" }), Code::UnknownTool),
        (json!({ "operation": "add" }), Code::InvalidParams),
    ] {
        agent.rpc("mcp.execute", params).await.refused(&[code]);
    }
}

async fn a_changed_list_is_seen(backend: Backend) {
    let app = started(backend).await;
    let agent = app.as_agent("alice").await;
    let before = agent.tool_names().await;
    assert!(
        before.contains(&"fix__grow".into()) && !before.contains(&"fix__late_comer".into()),
        "{before:?}"
    );
    agent.call("fix__grow", json!({})).await.tool_text();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(3);
    while !agent.tool_names().await.contains(&"fix__late_comer".to_owned()) {
        assert!(std::time::Instant::now() < until, "the new tool is not listed 3 s after list_changed");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let answer = agent.call("fix__late_comer", json!({})).await;
    answer.must(answer.tool_text() == "here now", "the new tool can be called");
}

async fn the_calculator_is_there_at_first_boot(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let agent = app.as_agent("alice").await;
    let names = agent.tool_names().await;
    for tool in ["add", "subtract", "multiply", "divide", "power"] {
        assert!(names.contains(&format!("calculator__{tool}")), "{tool} is missing in {names:?}");
    }
    let answer = agent.call("calculator__divide", json!({ "a": 7, "b": 2 })).await;
    answer.must(answer.tool_text().contains("3.5"), "seven halves are 3.5");
    let answer = agent.call("calculator__divide", json!({ "a": 7, "b": 0 })).await;
    let result = answer.result();
    answer.must(result["isError"] == true, "a division by zero is the tool's error");
    let said = result["content"][0]["text"].as_str().unwrap_or_default().to_lowercase();
    answer.must(said.contains("zero"), "and it says so");
    let answer = agent.call("calculator__multiply", json!({ "a": 1e308, "b": 1e308 })).await;
    answer.must(answer.result()["isError"] == true, "an overflow is the tool's error");
    let answer = agent.call("calculator__add", json!({ "a": "seven" })).await;
    let body = answer.json_of(200);
    let refused = body["error"]["code"] == -32602 || body["result"]["isError"] == true;
    answer.must(refused, "arguments that do not fit are refused");
}

async fn a_tool_that_fails_is_not_a_gateway_error(backend: Backend) {
    let app = started(backend).await;
    let operator = app.as_operator();
    operator.register(Registration::bad("own", &["--error"])).await;
    let agent = app.as_agent("alice").await;
    let result = agent.call("fix__fail", json!({})).await.result();
    assert_eq!(result["isError"], true, "{result}");
    assert_eq!(result["content"][0]["text"], "this tool fails on purpose");
    let answer = agent.call("own__bad", json!({})).await;
    let error = r#""error":{"code":-31999,"message":"my own error","data":{"why":[1.0,"ü"]}}"#;
    answer.status(200).must(answer.text().contains(error), "a server's own error passes byte for byte");
}

async fn a_list_is_whole_with_one_server_away(backend: Backend) {
    let app = started(backend).await;
    app.as_operator().register(Registration::bad("away", &["--exit-at-once", "3"])).await;
    let agent = app.as_agent("alice").await;
    let answer = agent.rpc("tools/list", json!({})).await;
    let result = answer.result();
    answer.must(result["tools"].to_string().contains("fix__echo"), "the others' tools are listed");
    let missing = result["_meta"].to_string();
    answer.must(missing.contains("away"), "the list says in _meta which server is missing");
}
