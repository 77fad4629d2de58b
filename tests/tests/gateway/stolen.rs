//! Handles that a thief may have: a cursor, a task, the state of a request. They are refused as if they
//! had never been, and go on working for their owner.

use tests::mcp_client::everything;
use tests::{Backend, Case, McpClient, Value, cases, json};

use crate::pair::{DOORS, Door, Pair, next_round, text_of};

pub const CASES: &[Case] = cases![
    Every: tasks_are_their_callers;
    Once: cursors_are_their_callers, states_of_one_era_are_their_callers, cursors_that_were_never_given;
];

const TASKS: &str = "io.modelcontextprotocol/tasks";

async fn cursors_are_their_callers(backend: Backend) {
    let pair = Pair::start(backend, &["--tools", "2500"]).await;
    let bob = pair.app.as_agent("bob").await;
    let modern = pair.modern(Door::All, json!({}));
    let legacy = pair.legacy(Door::All, "2025-11-25", json!({})).await;
    for owner in [modern, legacy] {
        let first = owner.result("tools/list", json!({})).await;
        let cursor = first["nextCursor"].clone();
        assert!(cursor.is_string(), "more than a page: {} tools", first["tools"].as_array().unwrap().len());
        let thief = if owner.is_modern() {
            McpClient::modern(&bob, "/mcp")
        } else {
            McpClient::legacy(&bob, "/mcp", "2025-11-25", json!({})).await
        };
        let error = thief.error("tools/list", json!({ "cursor": cursor })).await;
        assert_eq!(error["code"], -32602, "{error}");
        for method in ["resources/list", "prompts/list"] {
            let error = owner.error(method, json!({ "cursor": cursor })).await;
            assert_eq!(error["code"], -32602, "of another list: {error}");
        }
        // All pages together have each tool once.
        let mut names: Vec<Value> = Vec::new();
        let mut page = first;
        loop {
            names.extend(page["tools"].as_array().unwrap().iter().map(|tool| tool["name"].clone()));
            let Some(next) = page["nextCursor"].as_str() else { break };
            page = owner.result("tools/list", json!({ "cursor": next })).await;
        }
        let fixture: std::collections::BTreeSet<&str> =
            names.iter().filter_map(Value::as_str).filter(|name| name.starts_with("fix__")).collect();
        assert_eq!(fixture.len(), 2541);
        assert_eq!(
            names.len(),
            names.iter().filter_map(Value::as_str).collect::<std::collections::BTreeSet<_>>().len()
        );
    }
}

async fn cursors_that_were_never_given(backend: Backend) {
    let pair = Pair::start(backend, &["--tools", "2500"]).await;
    let client = pair.modern(Door::All, json!({}));
    let cursor = client.result("tools/list", json!({})).await["nextCursor"].as_str().unwrap().to_owned();
    for wrong in [json!(""), json!("1000"), json!(format!("{cursor}x")), json!(&cursor[1..]), json!(7)] {
        let error = client.error("tools/list", json!({ "cursor": wrong })).await;
        assert_eq!(error["code"], -32602, "{wrong}: {error}");
    }
}

async fn tasks_are_their_callers(backend: Backend) {
    let pair = Pair::start(backend, &["--era", "modern"]).await;
    let tasks = json!({ "extensions": { TASKS: {} }, "elicitation": {} });
    let client = pair.modern(Door::One, tasks.clone());
    let params = json!({ "name": "confirm_delete", "arguments": { "filename": "f" } });
    let task = client.result("tools/call", params).await;
    assert_eq!(task["resultType"], "task", "{task}");
    let id = json!({ "taskId": task["taskId"] });
    let bob = pair.app.as_agent("bob").await;
    for (who, thief) in [
        ("bob", McpClient::modern(&bob, "/mcp/s/fix").declaring(tasks.clone())),
        ("the operator", McpClient::modern(&pair.app.as_operator(), "/mcp/s/fix").declaring(tasks)),
    ] {
        let mut unknown = thief.error("tasks/get", json!({ "taskId": "never-was" })).await;
        for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
            let mut params = id.clone();
            if method == "tasks/update" {
                params["inputResponses"] = json!({ "confirm": { "action": "accept", "content": {} } });
            }
            let mut error = thief.error(method, params).await;
            assert_eq!(error["code"], -32602, "{who} {method}: {error}");
            if method == "tasks/get" {
                for error in [&mut error, &mut unknown] {
                    error["data"]["requestId"] = json!(null);
                }
                let shape =
                    |error: &Value| error.to_string().replace(id["taskId"].as_str().unwrap(), "never-was");
                assert_eq!(shape(&error), shape(&unknown), "{who}: the same as one that never was");
            }
        }
    }
    let known = client.result("tasks/get", id.clone()).await;
    assert_eq!(known["status"], "input_required", "{known}");
    client.result("tasks/cancel", id.clone()).await;
    assert_eq!(client.result("tasks/get", id).await["status"], "cancelled");
}

/// The server sealed it, but not for whom: the gateway does.
async fn states_of_one_era_are_their_callers(backend: Backend) {
    let pair = Pair::start(backend, &["--era", "modern"]).await;
    let bob = pair.app.as_agent("bob").await;
    for door in DOORS {
        let client = pair.modern(door, everything());
        let call = door.call("test_input_required_result_request_state");
        let asked = client.result("tools/call", call.clone()).await;
        assert!(asked["requestState"].is_string(), "{asked}");
        let good = next_round(&call, &asked);
        let thief = McpClient::modern(&bob, door.path()).declaring(everything());
        let error = thief.error("tools/call", good.clone()).await;
        assert_eq!(error["code"], -32602, "{error}");
        let mut other = good.clone();
        other["name"] = json!(door.name("test_input_required_result_tampered_state"));
        assert_eq!(client.error("tools/call", other).await["code"], -32602);
        let mut tampered = good.clone();
        tampered["requestState"] = json!(format!("{}-TAMPERED", good["requestState"].as_str().unwrap()));
        assert_eq!(client.error("tools/call", tampered).await["code"], -32602);
        assert!(text_of(&client.result("tools/call", good).await).starts_with("state-ok"));
    }
}
