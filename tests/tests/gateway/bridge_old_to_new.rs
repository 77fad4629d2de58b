//! Clients of the four earlier revisions at a server that speaks only 2026-07-28: the handshake, lists,
//! calls, what is said meanwhile, changes. What they are asked is in `rounds_old_to_new`.

use std::time::Duration;

use tests::mcp_client::LEGACY;
use tests::{Backend, Case, McpClient, Value, cases, json};

use crate::pair::{DOORS, Door, Pair, text_of};

pub const CASES: &[Case] = cases![
    Every: handshakes_and_lists, calls_prompts_and_resources, changes_come_on_the_sessions_stream;
    Once: progress_keeps_its_token, a_request_is_cancelled_by_a_notification, logs_as_the_session_wants,
        pings, batches_of_one_revision, errors_are_of_this_era, an_unknown_version_is_answered;
];

const QUIET: Duration = Duration::from_millis(700);

async fn start(backend: Backend) -> Pair {
    Pair::start(backend, &["--era", "modern"]).await
}

/// Nothing in a result tells of another era.
#[track_caller]
fn is_plain(result: &Value) {
    assert!(result["resultType"].is_null() || result["resultType"] == "complete", "{result}");
    assert!(result["inputRequests"].is_null() && result["requestState"].is_null(), "{result}");
}

async fn handshakes_and_lists(backend: Backend) {
    let pair = start(backend).await;
    for door in DOORS {
        for version in LEGACY {
            let mut client = McpClient::modern(&pair.alice, door.path()).speaking(version);
            let greeting = client.initialize().await;
            assert_eq!(greeting["protocolVersion"], version);
            assert!(greeting["serverInfo"]["name"].is_string(), "{greeting}");
            assert!(greeting["supportedVersions"].is_null(), "{greeting}");
            for capability in ["tools", "prompts", "resources", "completions", "logging"] {
                assert!(greeting["capabilities"][capability].is_object(), "{capability}: {greeting}");
            }
            assert_eq!(greeting["capabilities"]["tools"]["listChanged"], true, "{greeting}");
            assert_eq!(greeting["capabilities"]["resources"]["subscribe"], true, "{greeting}");
            let tasks = &greeting["capabilities"]["extensions"]["io.modelcontextprotocol/tasks"];
            assert!(tasks.is_null() && greeting["capabilities"]["tasks"].is_null(), "{greeting}");
            if let Door::One = door {
                assert_eq!(greeting["serverInfo"]["name"], "fixture-conformance");
                assert_eq!(greeting["instructions"], "A fixture for trials: every tool says what it does.");
            }
            let tools = client.result("tools/list", json!({})).await;
            is_plain(&tools);
            let names: Vec<&str> =
                tools["tools"].as_array().unwrap().iter().filter_map(|tool| tool["name"].as_str()).collect();
            assert!(names.contains(&&*door.name("test_simple_text")), "{names:?}");
            let resources = client.result("resources/list", json!({})).await;
            assert!(resources.to_string().contains(&door.uri("test://static-text")), "{resources}");
            let templates = client.result("resources/templates/list", json!({})).await;
            let template = json!(door.uri("test://template/{id}/data")).to_string();
            assert!(templates.to_string().contains(&template), "{templates}");
            let prompts = client.result("prompts/list", json!({})).await;
            assert!(prompts.to_string().contains(&door.name("test_simple_prompt")), "{prompts}");
        }
    }
    assert_eq!(pair.logged(r#""method":"notifications/initialized""#), 0);
}

async fn an_unknown_version_is_answered(backend: Backend) {
    let pair = start(backend).await;
    for asked in ["2099-01-01", "2024-10-07", ""] {
        let client = McpClient::modern(&pair.alice, "/mcp").speaking("2025-11-25");
        let params = json!({
            "protocolVersion": asked, "capabilities": {}, "clientInfo": { "name": "t", "version": "1" },
        });
        let greeting = client.result("initialize", params).await;
        assert_eq!(greeting["protocolVersion"], "2025-11-25", "{asked}: {greeting}");
    }
}

async fn calls_prompts_and_resources(backend: Backend) {
    let pair = start(backend).await;
    for (door, version) in [(Door::One, LEGACY[3]), (Door::All, LEGACY[0]), (Door::One, LEGACY[1])] {
        let client = pair.legacy(door, version, json!({})).await;
        let mixed = client.call(&door.name("test_multiple_content_types")).await.result().await;
        is_plain(&mixed);
        let kinds: Vec<&Value> =
            mixed["content"].as_array().unwrap().iter().map(|block| &block["type"]).collect();
        assert_eq!(kinds, ["text", "image", "resource"]);
        let failed = client.call(&door.name("test_error_handling")).await.result().await;
        assert_eq!(failed["isError"], true);
        let read = async |uri: &str| client.result("resources/read", json!({ "uri": door.uri(uri) })).await;
        assert_eq!(read("test://static-text").await["contents"][0]["text"], "This text never changes.");
        assert!(read("test://static-binary").await["contents"][0]["blob"].is_string());
        assert_eq!(read("test://template/x/data").await["contents"][0]["text"], r#"{"id":"x"}"#);
        let arguments = json!({ "arg1": "one", "arg2": "two" });
        let name = door.name("test_prompt_with_arguments");
        let prompt = client.result("prompts/get", json!({ "name": name, "arguments": arguments })).await;
        is_plain(&prompt);
        let said = prompt["messages"][0]["content"]["text"].as_str().unwrap();
        assert_eq!(said, "The arguments are arg1='one' and arg2='two'");
        let completed = client
            .result(
                "completion/complete",
                json!({
                    "ref": { "type": "ref/prompt", "name": name },
                    "argument": { "name": "arg1", "value": "par" },
                }),
            )
            .await;
        assert_eq!(completed["completion"]["values"], json!(["parade", "paris"]));
        // A tool that would be a task for those who know of tasks.
        let params = json!({ "name": door.name("slow_compute"), "arguments": { "seconds": 0.1 } });
        let computed = client.result("tools/call", params).await;
        is_plain(&computed);
        assert_eq!(text_of(&computed), "computed something");
    }
}

async fn progress_keeps_its_token(backend: Backend) {
    let pair = start(backend).await;
    for door in DOORS {
        for version in LEGACY {
            let client = pair.legacy(door, version, json!({})).await;
            for token in [json!("seven"), json!(7)] {
                let mut params = door.call("test_tool_with_progress");
                params["_meta"] = json!({ "progressToken": token });
                let mut call = client.open("tools/call", params).await;
                is_plain(&call.result().await);
                let told: Vec<(&Value, &Value)> = call
                    .heard
                    .iter()
                    .map(|message| (&message["params"]["progressToken"], &message["params"]["progress"]))
                    .collect();
                assert_eq!(
                    told,
                    [(&token, &json!(0)), (&token, &json!(50)), (&token, &json!(100))],
                    "{call:?}"
                );
            }
        }
    }
}

async fn a_request_is_cancelled_by_a_notification(backend: Backend) {
    let pair = start(backend).await;
    for (done, (door, version)) in
        DOORS.into_iter().flat_map(|door| LEGACY.map(|version| (door, version))).enumerate()
    {
        let client = pair.legacy(door, version, json!({})).await;
        let mut request = client.request("tools/call", door.call("test_wait_for_cancel"));
        request["id"] = json!("the one");
        let other = client.clone();
        let sent = request.clone();
        let going = tokio::spawn(async move { other.send(&sent).await.rest(Duration::from_secs(3)).await });
        pair.until_logged("test_wait_for_cancel", done + 1).await;
        client.notify("notifications/cancelled", json!({ "requestId": "another", "reason": "no" })).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(pair.logged("cancelled "), done, "only the named one");
        client.notify("notifications/cancelled", json!({ "requestId": "the one", "reason": "yes" })).await;
        pair.until_logged("cancelled ", done + 1).await;
        let came = going.await.unwrap();
        assert!(came.iter().all(|message| message["result"].is_null()), "{came:?}");
        is_plain(&client.call(&door.name("test_simple_text")).await.result().await);
    }
}

async fn logs_as_the_session_wants(backend: Backend) {
    let pair = start(backend).await;
    for door in DOORS {
        let client = pair.legacy(door, "2025-11-25", json!({})).await;
        for (level, expected) in [("error", 0), ("info", 3), ("debug", 3), ("emergency", 0)] {
            assert_eq!(client.result("logging/setLevel", json!({ "level": level })).await, json!({}));
            let mut call = client.call(&door.name("test_tool_with_logging")).await;
            call.result().await;
            let told = call.heard.iter().filter(|message| message["method"] == "notifications/message");
            assert_eq!(told.count(), expected, "{door:?} {level}: {call:?}");
        }
        let error = client.error("logging/setLevel", json!({ "level": "shouting" })).await;
        assert_eq!(error["code"], -32602);
        // The level is the session's own.
        let other = pair.legacy(door, "2025-06-18", json!({})).await;
        other.result("logging/setLevel", json!({ "level": "info" })).await;
        let mut call = client.call(&door.name("test_tool_with_logging")).await;
        call.result().await;
        assert!(call.heard.is_empty(), "{call:?}");
    }
}

async fn pings(backend: Backend) {
    let pair = start(backend).await;
    for version in LEGACY {
        let client = pair.legacy(Door::One, version, json!({})).await;
        assert_eq!(client.result("ping", json!({})).await, json!({}));
    }
    assert_eq!(pair.logged(r#""method":"ping""#), 0);
}

async fn changes_come_on_the_sessions_stream(backend: Backend) {
    let pair = start(backend).await;
    for (door, version) in [(Door::One, LEGACY[3]), (Door::All, LEGACY[1]), (Door::All, LEGACY[2])] {
        let client = pair.legacy(door, version, json!({})).await;
        let mut stream = client.listen(None).await;
        assert!(stream.status == 200 && stream.is_stream(), "{stream:?}");
        let watched = json!({ "uri": door.uri("test://watched-resource") });
        client.call(&door.name("test_touch_watched")).await.result().await;
        let early = stream.rest(QUIET).await;
        let updated =
            |all: &[Value]| all.iter().any(|told| told["method"] == "notifications/resources/updated");
        assert!(!updated(&early), "nothing was subscribed to yet: {early:?}");
        assert_eq!(client.result("resources/subscribe", watched.clone()).await, json!({}));
        client.call(&door.name("test_touch_watched")).await.result().await;
        let told = stream.next_of("notifications/resources/updated").await;
        assert_eq!(told["params"]["uri"], watched["uri"]);
        assert!(told["params"]["_meta"].is_null() || told["params"]["_meta"] == json!({}), "{told}");
        client.call(&door.name("test_trigger_tool_change")).await.result().await;
        stream.next_of("notifications/tools/list_changed").await;
        client.call(&door.name("test_trigger_prompt_change")).await.result().await;
        stream.next_of("notifications/prompts/list_changed").await;
        assert_eq!(client.result("resources/unsubscribe", watched.clone()).await, json!({}));
        tokio::time::sleep(QUIET).await;
        client.call(&door.name("test_touch_watched")).await.result().await;
        let late = stream.rest(QUIET).await;
        assert!(!updated(&late), "nothing is subscribed to any more: {late:?}");
        let heard: Vec<&Value> = stream.heard.iter().chain(&late).collect();
        let acknowledged = heard.iter().any(|told| told.to_string().contains("subscriptions"));
        assert!(!acknowledged, "a legacy client knows no subscriptions: {heard:?}");
    }
}

async fn batches_of_one_revision(backend: Backend) {
    let pair = start(backend).await;
    let client = pair.legacy(Door::One, "2025-03-26", json!({})).await;
    let batch = json!([
        { "jsonrpc": "2.0", "id": "a", "method": "tools/call", "params": Door::One.call("test_simple_text") },
        { "jsonrpc": "2.0", "method": "notifications/unknown" },
        { "jsonrpc": "2.0", "id": 2, "method": "ping" },
        { "jsonrpc": "2.0", "id": 3, "method": "no/such" },
        { "jsonrpc": "2.0", "id": 4, "method": "tools/call", "params": Door::One.call("test_tool_with_progress") },
    ]);
    let mut exchange = client.send(&batch).await;
    let mut answers = Vec::new();
    for message in exchange.rest(Duration::from_secs(2)).await {
        match message {
            Value::Array(several) => answers.extend(several),
            one => answers.push(one),
        }
    }
    let answer = |id: Value| answers.iter().find(|answer| answer["id"] == id).unwrap_or(&Value::Null);
    assert_eq!(answers.len(), 4, "{exchange:?}");
    assert!(text_of(&answer(json!("a"))["result"]).starts_with("This is a simple"), "{exchange:?}");
    assert_eq!(answer(json!(2))["result"], json!({}), "{exchange:?}");
    assert_eq!(answer(json!(3))["error"]["code"], -32601, "{exchange:?}");
    let only_notifications = json!([{ "jsonrpc": "2.0", "method": "notifications/unknown" }]);
    assert_eq!(client.send(&only_notifications).await.status, 202);
    // The revision after it has no batches any more.
    let later = pair.legacy(Door::One, "2025-06-18", json!({})).await;
    let mut refused = later.send(&batch).await;
    assert_eq!((refused.status, refused.error().await["code"].as_i64()), (400, Some(-32600)), "{refused:?}");
}

async fn errors_are_of_this_era(backend: Backend) {
    let pair = start(backend).await;
    for door in DOORS {
        let client = pair.legacy(door, "2025-11-25", json!({})).await;
        let gone = json!({ "uri": door.uri("test://not-there") });
        for (method, params, codes) in [
            ("resources/read", gone, &[-32602, -32002][..]),
            ("tools/call", door.call("nothing"), &[-32602]),
            ("prompts/get", json!({ "name": door.name("nothing") }), &[-32602]),
            ("server/discover", json!({}), &[-32601]),
            ("subscriptions/listen", json!({ "notifications": {} }), &[-32601]),
        ] {
            let mut refused = client.open(method, params).await;
            let code = refused.error().await["code"].as_i64().unwrap_or_default();
            assert!(refused.status == 200 && codes.contains(&code), "{refused:?}");
        }
        // -32021 has no place here.
        for tool in ["test_missing_capability", "failing_job"] {
            let mut refused = client.call(&door.name(tool)).await;
            let answer = refused.answer().await;
            let code = answer["error"]["code"].as_i64().unwrap_or_default();
            let told = answer["result"]["isError"] == true || [-32602, -32603].contains(&code);
            assert!(refused.status == 200 && told, "{refused:?}");
        }
    }
}
