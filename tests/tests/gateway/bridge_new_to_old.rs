//! A client of 2026-07-28 at a server that speaks only earlier revisions: lists, calls, what is said
//! meanwhile, changes. What it is asked is in `rounds_new_to_old`.

use std::time::Duration;

use tests::mcp_client::{SUBSCRIPTION, everything};
use tests::{Backend, Case, McpClient, Silence, Value, cases, json};

use crate::pair::{DOORS, Door, Pair};

pub const CASES: &[Case] = cases![
    Every: discovery_and_lists, calls_prompts_and_resources, changes_come_by_subscription;
    Once: progress_keeps_its_token, leaving_is_cancelling, logs_as_each_request_wants,
        a_subscription_is_told_what_it_gets, errors_are_of_this_era, removed_methods;
];

const QUIET: Duration = Duration::from_millis(700);

#[track_caller]
fn is_cacheable(result: &Value) {
    is_complete(result);
    assert!(result["ttlMs"].is_u64(), "{result}");
    assert_eq!(result["cacheScope"], "private", "{result}");
}

#[track_caller]
fn is_complete(result: &Value) {
    assert_eq!(result["resultType"], "complete", "{result}");
    let server = &result["_meta"]["io.modelcontextprotocol/serverInfo"];
    assert!(server["name"].is_string() && server["version"].is_string(), "{result}");
}

async fn discovery_and_lists(backend: Backend) {
    let pair = Pair::start(backend, &["--era", "legacy"]).await;
    for door in DOORS {
        let client = pair.modern(door, json!({}));
        let found = client.result("server/discover", json!({})).await;
        is_cacheable(&found);
        assert_eq!(found["supportedVersions"], json!(["2026-07-28"]));
        for capability in ["tools", "prompts", "resources", "completions", "logging"] {
            assert!(found["capabilities"][capability].is_object(), "{capability}: {found}");
        }
        assert!(found["capabilities"]["tasks"].is_null(), "{found}");
        assert!(found["protocolVersion"].is_null() && found["serverInfo"].is_null(), "{found}");
        if let Door::One = door {
            assert_eq!(found["capabilities"]["resources"]["subscribe"], true);
            assert_eq!(found["instructions"], "A fixture for trials: every tool says what it does.");
            let name = &found["_meta"]["io.modelcontextprotocol/serverInfo"]["name"];
            assert_eq!(name, "fixture-conformance");
        }
        let tools = client.result("tools/list", json!({})).await;
        is_cacheable(&tools);
        let names: Vec<&str> =
            tools["tools"].as_array().unwrap().iter().filter_map(|tool| tool["name"].as_str()).collect();
        assert!(names.contains(&&*door.name("test_simple_text")), "{names:?}");
        assert!(names.contains(&&*door.name("test_tool_with_task")), "{names:?}");
        let resources = client.result("resources/list", json!({})).await;
        is_cacheable(&resources);
        let uris = resources["resources"].to_string();
        assert!(uris.contains(&json!(door.uri("test://static-text")).to_string()), "{uris}");
        let templates = client.result("resources/templates/list", json!({})).await;
        is_cacheable(&templates);
        let template = json!(door.uri("test://template/{id}/data")).to_string();
        assert!(templates.to_string().contains(&template), "{templates}");
        let prompts = client.result("prompts/list", json!({})).await;
        is_cacheable(&prompts);
        assert!(prompts.to_string().contains(&door.name("test_simple_prompt")), "{prompts}");
    }
    assert_eq!(pair.logged(r#""io.modelcontextprotocol/"#), pair.logged("server/discover"), "only the probe");
}

async fn calls_prompts_and_resources(backend: Backend) {
    let pair = Pair::start(backend, &["--era", "legacy"]).await;
    for door in DOORS {
        let client = pair.modern(door, json!({}));
        for (tool, kinds) in [
            ("test_simple_text", vec!["text"]),
            ("test_image_content", vec!["image"]),
            ("test_audio_content", vec!["audio"]),
            ("test_embedded_resource", vec!["resource"]),
            ("test_multiple_content_types", vec!["text", "image", "resource"]),
        ] {
            let result = client.call(&door.name(tool)).await.result().await;
            is_complete(&result);
            let found: Vec<&Value> =
                result["content"].as_array().unwrap().iter().map(|block| &block["type"]).collect();
            assert_eq!(found, kinds, "{tool}: {result}");
        }
        let failed = client.call(&door.name("test_error_handling")).await.result().await;
        is_complete(&failed);
        assert_eq!(failed["isError"], true);
        let read = async |uri: &str| client.result("resources/read", json!({ "uri": door.uri(uri) })).await;
        let text = read("test://static-text").await;
        is_cacheable(&text);
        assert_eq!(text["contents"][0]["text"], "This text never changes.");
        assert!(read("test://static-binary").await["contents"][0]["blob"].is_string());
        assert_eq!(read("test://template/a%20b/data").await["contents"][0]["text"], r#"{"id":"a%20b"}"#);
        let arguments = json!({ "arg1": "one", "arg2": "two" });
        let name = door.name("test_prompt_with_arguments");
        let prompt = client.result("prompts/get", json!({ "name": name, "arguments": arguments })).await;
        is_complete(&prompt);
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
        is_complete(&completed);
        assert_eq!(completed["completion"]["values"], json!(["parade", "paris"]));
    }
}

async fn progress_keeps_its_token(backend: Backend) {
    let pair = Pair::start(backend, &["--era", "legacy"]).await;
    for door in DOORS {
        let client = pair.modern(door, json!({}));
        for token in [json!("seven"), json!("7"), json!(7), json!(0)] {
            let mut params = door.call("test_tool_with_progress");
            params["_meta"] = json!({ "progressToken": token });
            let mut call = client.open("tools/call", params).await;
            is_complete(&call.result().await);
            let told: Vec<(&Value, &Value)> = call
                .heard
                .iter()
                .map(|message| (&message["params"]["progressToken"], &message["params"]["progress"]))
                .collect();
            assert_eq!(told, [(&token, &json!(0)), (&token, &json!(50)), (&token, &json!(100))], "{call:?}");
        }
        let mut silent = client.call(&door.name("test_tool_with_progress")).await;
        silent.result().await;
        assert!(silent.heard.is_empty(), "nobody asked for progress: {silent:?}");
    }
}

async fn leaving_is_cancelling(backend: Backend) {
    let pair = Pair::start(backend, &["--era", "legacy"]).await;
    for door in DOORS {
        for capabilities in [json!({}), everything()] {
            let before = pair.logged("cancelled ");
            let calls = pair.logged("test_wait_for_cancel");
            let client = pair.modern(door, capabilities);
            let body = client.request("tools/call", door.call("test_wait_for_cancel"));
            let going = tokio::spawn(async move { client.send(&body).await.answer().await });
            pair.until_logged("test_wait_for_cancel", calls + 1).await;
            going.abort();
            pair.until_logged("cancelled ", before + 1).await;
        }
    }
    // Nobody else is hindered, on the same connection neither.
    let client = pair.modern(Door::One, json!({}));
    is_complete(&client.call("test_simple_text").await.result().await);
}

async fn logs_as_each_request_wants(backend: Backend) {
    let pair = Pair::start(backend, &["--era", "legacy"]).await;
    for door in DOORS {
        let client = pair.modern(door, json!({}));
        for (level, expected) in [
            (None, 0),
            (Some("debug"), 3),
            (Some("info"), 3),
            (Some("error"), 0),
            (None, 0),
            (Some("info"), 3),
        ] {
            let mut params = door.call("test_tool_with_logging");
            if let Some(level) = level {
                params["_meta"] = json!({ "io.modelcontextprotocol/logLevel": level });
            }
            let mut call = client.open("tools/call", params).await;
            call.result().await;
            let told = call.heard.iter().filter(|message| message["method"] == "notifications/message");
            assert_eq!(told.count(), expected, "{door:?} {level:?}: {call:?}");
        }
    }
}

/// Opens a subscription whose request has this id.
async fn subscribe(client: &McpClient, id: Value, notifications: Value) -> (tests::Exchange, Value) {
    let mut request = client.request("subscriptions/listen", json!({ "notifications": notifications }));
    request["id"] = id;
    let mut stream = client.send(&request).await;
    let first = stream.message().await;
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged", "{stream:?}");
    assert_eq!(first["params"]["_meta"][SUBSCRIPTION], request["id"], "{stream:?}");
    let granted = first["params"]["notifications"].clone();
    (stream, granted)
}

async fn changes_come_by_subscription(backend: Backend) {
    let pair = Pair::start(backend, &["--era", "legacy"]).await;
    for door in DOORS {
        let client = pair.modern(door, json!({}));
        let watched = door.uri("test://watched-resource");
        let (mut tools, _) = subscribe(&client, json!("tools"), json!({ "toolsListChanged": true })).await;
        let (mut prompts, _) = subscribe(&client, json!(12), json!({ "promptsListChanged": true })).await;
        let wanted = json!({ "resourceSubscriptions": [watched] });
        let (mut resource, granted) = subscribe(&client, json!("r"), wanted.clone()).await;
        assert_eq!(granted, wanted);
        client.call(&door.name("test_trigger_tool_change")).await.result().await;
        let told = tools.next_of("notifications/tools/list_changed").await;
        assert_eq!(told["params"]["_meta"][SUBSCRIPTION], "tools");
        client.call(&door.name("test_trigger_prompt_change")).await.result().await;
        let told = prompts.next_of("notifications/prompts/list_changed").await;
        assert_eq!(told["params"]["_meta"][SUBSCRIPTION], 12);
        client.call(&door.name("test_touch_watched")).await.result().await;
        let told = resource.next_of("notifications/resources/updated").await;
        assert_eq!(told["params"]["_meta"][SUBSCRIPTION], "r");
        assert_eq!(told["params"]["uri"], *watched);
        for (stream, own) in [
            (&mut tools, "notifications/tools/list_changed"),
            (&mut prompts, "notifications/prompts/list_changed"),
            (&mut resource, "notifications/resources/updated"),
        ] {
            let rest = stream.rest(QUIET).await;
            let foreign: Vec<&Value> =
                rest.iter().chain(&stream.heard).filter(|told| told["method"] != own).collect();
            assert!(foreign.is_empty(), "{door:?} {own}: {foreign:?}");
        }
        drop(resource);
        pair.until_logged("resources/unsubscribe", 1).await;
    }
}

async fn a_subscription_is_told_what_it_gets(backend: Backend) {
    let pair = Pair::start(backend, &["--era", "legacy"]).await;
    let client = pair.modern(Door::One, json!({}));
    let asked = json!({ "toolsListChanged": true, "promptsListChanged": false, "taskIds": ["t"], "x": 1 });
    let (mut stream, granted) = subscribe(&client, json!(""), asked).await;
    assert_eq!(granted["toolsListChanged"], true, "{granted}");
    let members: Vec<&String> = granted.as_object().unwrap().keys().collect();
    assert!(members.iter().all(|name| *name == "toolsListChanged" || granted[*name] == false), "{granted}");
    assert_eq!(stream.next_within(QUIET).await, Err(Silence::TimedOut), "it stays open");
    let missing = client.open("subscriptions/listen", json!({})).await.error().await;
    assert_eq!(missing["code"], -32602);
}

async fn errors_are_of_this_era(backend: Backend) {
    let pair = Pair::start(backend, &["--era", "legacy"]).await;
    for door in DOORS {
        let client = pair.modern(door, json!({}));
        let gone = door.uri("test://not-there");
        let error = client.error("resources/read", json!({ "uri": gone })).await;
        assert_eq!((&error["code"], &error["data"]["uri"]), (&json!(-32602), &json!(gone)), "{error}");
        let error = client.error("tools/call", door.call("nothing")).await;
        assert_eq!(error["code"], -32602, "{error}");
        let error = client.error("prompts/get", json!({ "name": door.name("nothing") })).await;
        assert_eq!(error["code"], -32602, "{error}");
        // The legacy era's own code for a page that must be visited first, for a client without pages.
        let mut refused = client.call(&door.name("test_legacy_url_error")).await;
        let answer = refused.answer().await;
        assert_eq!(answer["error"]["code"], -32602, "{refused:?}");
    }
    let mut unknown = pair.modern(Door::One, json!({})).open("unknown/method", json!({})).await;
    assert_eq!((unknown.status, unknown.error().await["code"].as_i64()), (404, Some(-32601)));
}

async fn removed_methods(backend: Backend) {
    let pair = Pair::start(backend, &["--era", "legacy"]).await;
    for door in DOORS {
        let client = pair.modern(door, json!({}));
        for method in
            ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"]
        {
            let mut removed = client.open(method, json!({})).await;
            let code = removed.error().await["code"].as_i64();
            assert_eq!((removed.status, code), (404, Some(-32601)), "{removed:?}");
        }
    }
}
