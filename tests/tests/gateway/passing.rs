//! What nobody here knows passes all the same: requests and notifications of another's making, declared
//! extensions, members of lists, and spellings that have no value.

use std::time::Duration;

use tests::{Backend, Case, Silence, Value, cases, json};

use crate::pair::{DOORS, Door, Pair};

pub const CASES: &[Case] = cases![
    Once: unknown_requests_pass, unknown_notifications_pass, extensions_are_declared,
        spellings_that_mean_nothing, lists_keep_what_they_have;
];

/// Half of a pair is no character, but it is JSON: either it passes as it was written or the message is
/// refused as what cannot be parsed. It never changes, and never breaks the connection for others.
async fn spellings_that_mean_nothing(backend: Backend) {
    for (era, door) in [("legacy", Door::One), ("modern", Door::One), ("modern", Door::All)] {
        let pair = Pair::start(backend, &["--era", era]).await;
        let client = match era {
            "modern" => pair.modern(door, json!({})),
            _ => pair.legacy(door, "2025-11-25", json!({})).await,
        };
        for strange in [r#""\ud800""#, r#""\udc00\ud800""#, "1e999999999", "-1e+999999999", "0.0e-0"] {
            let name = door.name("test_echo_anything");
            let mut request =
                client.request("tools/call", json!({ "name": name, "arguments": { "x": "HERE" } }));
            request["id"] = json!(5);
            let text = request.to_string().replace(r#""HERE""#, strange);
            let mut exchange = client.send_text(&request, &text).await;
            let answer = exchange.next_text(Duration::from_secs(5)).await;
            match &answer {
                Ok(answer) if answer.contains(r#""result""#) => {
                    assert!(answer.contains(&format!(r#""x":{strange}"#)), "{era} {strange}: {exchange:?}");
                }
                Ok(answer) => assert!(answer.contains(r#""error""#), "{era} {strange}: {exchange:?}"),
                Err(silence) => panic!("{era} {strange}: {silence:?}: {exchange:?}"),
            }
            client.call(&door.name("test_simple_text")).await.result().await;
        }
    }
}

async fn unknown_requests_pass(backend: Backend) {
    for era in ["legacy", "modern"] {
        let pair = Pair::start(backend, &["--era", era]).await;
        let client = match era {
            "modern" => pair.modern(Door::One, json!({})),
            _ => pair.legacy(Door::One, "2025-11-25", json!({})).await,
        };
        let params = json!({ "skill": "x", "deep": { "n": [1, 2, { "m": null }] } });
        let mut unknown = client.open("skills/list", params).await;
        assert_eq!(unknown.error().await["code"], -32601, "{unknown:?}");
        assert_eq!(unknown.status, if era == "modern" { 404 } else { 200 });
        pair.until_logged(r#""method":"skills/list""#, 1).await;
        assert_eq!(pair.logged(r#""deep":{"n":[1,2,{"m":null}]}"#), 1, "{era}: with its params");
    }
}

async fn unknown_notifications_pass(backend: Backend) {
    for era in ["legacy", "modern"] {
        let pair = Pair::start(backend, &["--era", era]).await;
        let client = match era {
            "modern" => pair.modern(Door::One, json!({})),
            _ => pair.legacy(Door::One, "2025-11-25", json!({})).await,
        };
        client.call("test_simple_text").await.result().await;
        client.notify("notifications/x.example/told", json!({ "deep": [{ "n": 1 }] })).await;
        pair.until_logged("notifications/x.example/told", 1).await;
        assert_eq!(pair.logged(r#""deep":[{"n":1}]"#), 1, "{era}: with its params");
        assert_eq!(client.open("tools/list", json!({})).await.rest(Duration::from_secs(1)).await.len(), 1);
    }
}

async fn extensions_are_declared(backend: Backend) {
    let pair = Pair::start(backend, &["--era", "modern"]).await;
    let found = pair.modern(Door::One, json!({})).result("server/discover", json!({})).await;
    let extensions = &found["capabilities"]["extensions"];
    assert_eq!(extensions["io.modelcontextprotocol/tasks"], json!({}), "{found}");
    // What the client declares arrives at the server.
    let declared = json!({
        "extensions": { "io.modelcontextprotocol/ui": { "mimeTypes": ["text/html;profile=mcp-app"] } },
        "experimental": { "x.example/new": { "a": 1 } },
    });
    for door in DOORS {
        let client = pair.modern(door, declared.clone());
        let result = client.call(&door.name("test_echo_anything")).await.result().await;
        let seen = &result["structuredContent"]["_meta"]["io.modelcontextprotocol/clientCapabilities"];
        assert_eq!(*seen, declared, "{result}");
        let info = &result["structuredContent"]["_meta"]["io.modelcontextprotocol/clientInfo"];
        assert_eq!(info["name"], "trial", "{result}");
    }
}

/// Schemas and results of lists keep what nobody knows.
async fn lists_keep_what_they_have(backend: Backend) {
    for era in ["legacy", "modern"] {
        let pair = Pair::start(backend, &["--era", era]).await;
        for door in DOORS {
            let client = match era {
                "modern" => pair.modern(door, json!({})),
                _ => pair.legacy(door, "2025-06-18", json!({})).await,
            };
            let listed = client.result("tools/list", json!({})).await;
            let name = door.name("json_schema_2020_12_tool");
            let tool = listed["tools"].as_array().unwrap().iter().find(|tool| tool["name"] == *name).unwrap();
            let schema = &tool["inputSchema"];
            assert_eq!(schema["$defs"]["address"]["$anchor"], "where");
            assert_eq!(schema["allOf"][0]["anyOf"][1]["required"], json!(["home"]));
            assert_eq!(
                (&schema["then"]["required"], &schema["else"]["required"]),
                (&json!(["stamp"]), &json!(["home"]))
            );
        }
        let mut ended = pair.modern(Door::One, json!({})).open("tools/list", json!({})).await;
        ended.result().await;
        let after: Result<Value, Silence> = ended.next_within(Duration::from_secs(1)).await;
        assert_eq!(after, Err(Silence::Ended), "one answer");
    }
}
