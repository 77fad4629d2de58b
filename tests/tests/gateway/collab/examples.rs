//! The examples in `examples/`, run as their README says.

use std::process::Command;

use tests::programs::workspace;
use tests::{Backend, Case, Settings, TestApp, cases, json};

use super::{done, make_task};
use crate::real::program;

pub const CASES: &[Case] = cases![Every: two_agents_share_a_task, null_is_an_argument_left_out];

async fn two_agents_share_a_task(backend: Backend) {
    let python = program("TEST_PYTHON_BIN", "python3");
    let app = TestApp::start(backend, Settings::new()).await;
    let mut two = Command::new(python);
    two.arg(workspace().join("examples/python/two_agents.py"));
    two.env("MCP_GATEWAY_URL", app.anonymous_from_loopback().url("").trim_end_matches('/'));
    let output = tokio::task::spawn_blocking(move || two.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("lease_held, holder coder"), "{output:?}");
}

/// CrewAI's adapter and mcp-use send null for each argument that a model leaves out.
async fn null_is_an_argument_left_out(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let ada = app.as_agent("ada").await;
    make_task(&ada, "t").await;
    let described = json!({ "task_id": "t", "description": "stays", "assigned_to": "bob", "complexity": 3 });
    done(&ada, "task_update", described).await;
    for tool in ada.rpc("tools/list", json!({})).await.result()["tools"].as_array().unwrap() {
        let Some(name) = tool["name"].as_str().unwrap().strip_prefix("collab__") else { continue };
        let schema = &tool["inputSchema"];
        let mut arguments = json!({});
        for (argument, schema) in schema["properties"].as_object().unwrap() {
            assert!(schema["type"].is_string(), "{name} {argument}: AutoGen refuses the whole list");
            arguments[argument] = json!(null);
        }
        for (argument, value) in [
            ("task_id", "t"),
            ("title", "New"),
            ("path", "a"),
            ("content", "x"),
            ("step", "s"),
            ("to", "bob"),
        ] {
            if schema["required"].as_array().unwrap().contains(&json!(argument))
                || argument == "title" && name == "task_update"
            {
                arguments[argument] = value.into();
            }
        }
        if name == "file_edit" {
            arguments["edits"] = json!([{ "old": "x", "new": "y", "all": null }]);
        }
        let result = ada.call(&format!("collab__{name}"), arguments).await.result();
        let said = result["content"][0]["text"].as_str().unwrap_or_default();
        // The file is read before it is written.
        let expected = name == "file_read" && said.starts_with("not_found");
        assert_eq!(result["isError"], expected, "{name}: {said}");
    }
    let task = done(&ada, "task_get", json!({ "task_id": "t" })).await["task"].clone();
    assert_eq!((task["description"].as_str(), task["complexity"].as_i64()), (Some("stays"), Some(3)));
    let cleared = json!({ "task_id": "t", "clear": ["description", "complexity"] });
    assert_eq!(done(&ada, "task_update", cleared).await["task"].get("description"), None);
}
