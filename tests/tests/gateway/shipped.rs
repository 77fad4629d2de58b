//! The servers that come with the gateway: on standard streams with the official SDK's client in both eras,
//! behind the gateway, and a new one made with the framework.

use std::process::Stdio;

use rmcp::model::{CallToolRequestParams, ClientConfig, ProtocolVersion};
use rmcp::service::RunningService;
use rmcp::transport::TokioChildProcess;
use rmcp::{ClientLifecycleMode, ClientServiceExt, RoleClient};
use tests::programs::workspace;
use tests::scratch::Scratch;
use tests::{Backend, Case, Code, Settings, TestApp, Value, cases, json, process};
use tokio::process::Command;

pub const CASES: &[Case] = cases![
    Every: readiness_shows_them, behind_the_gateway;
    Once: official_clients_on_standard_streams, a_wrong_name_or_argument, a_new_server_passes_its_tests;
];

fn program(scratch: &Scratch, arguments: &[&str]) -> std::process::Command {
    let arguments: Vec<String> = arguments.iter().map(|one| (*one).to_owned()).collect();
    process::command(&arguments, &[], scratch.path())
}

async fn connect(
    command: std::process::Command,
    mode: &ClientLifecycleMode,
) -> RunningService<RoleClient, ClientConfig> {
    let mut command = Command::from(command);
    command.kill_on_drop(true);
    let (transport, _) =
        TokioChildProcess::builder(command).stderr(Stdio::null()).spawn().expect("the program starts");
    let client = ClientConfig::default().serve_with_lifecycle(transport, mode.clone()).await;
    client.expect("the client connects")
}

async fn call(client: &RunningService<RoleClient, ClientConfig>, tool: &str, arguments: Value) -> Value {
    let call =
        CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments.as_object().cloned().unwrap());
    let answer = client.call_tool(call).await.expect("the client calls a tool");
    serde_json::to_value(&answer).unwrap()
}

async fn official_clients_on_standard_streams(_: Backend) {
    let scratch = Scratch::new("shipped");
    let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
    for mode in [ClientLifecycleMode::Initialize, ClientLifecycleMode::Discover { preferred_versions }] {
        let client = connect(program(&scratch, &["server", "calculator"]), &mode).await;
        let tools = client.list_all_tools().await.expect("the client lists tools");
        assert_eq!(tools.len(), 5, "{mode:?}: {tools:?}");
        let sum = call(&client, "add", json!({ "a": 2, "b": 3 })).await;
        assert_eq!(sum["structuredContent"], json!({ "result": 5 }), "{mode:?}");
        let wrong = call(&client, "add", json!({ "a": "2" })).await;
        assert_eq!(wrong["isError"], true, "{mode:?}");
        let mistakes = wrong["content"][0]["text"].as_str().unwrap_or_default();
        assert!(
            mistakes.contains("`a` must be number, not string") && mistakes.contains("`b` is missing"),
            "{mistakes}"
        );
        drop(client.cancel().await);

        std::fs::write(scratch.path().join("note.txt"), "kept").unwrap();
        let client = connect(program(&scratch, &["server", "filesystem", "--read-only", "."]), &mode).await;
        let names: Vec<_> =
            client.list_all_tools().await.unwrap().into_iter().map(|tool| tool.name).collect();
        assert_eq!(names, ["read_file", "list_directory", "get_file_info", "search_files"], "{mode:?}");
        let read = call(&client, "read_file", json!({ "path": "note.txt" })).await;
        assert_eq!(read["structuredContent"]["content"], "kept", "{mode:?}: {read}");
        let outside = call(&client, "read_file", json!({ "path": "../note.txt" })).await;
        assert_eq!(outside["isError"], true, "{mode:?}: {outside}");
        drop(client.cancel().await);
    }
}

/// A server of a tenant's own, and one that the operator has configured.
async fn behind_the_gateway(backend: Backend) {
    let scratch = Scratch::new("roots");
    std::fs::write(scratch.path().join("note.txt"), "kept").unwrap();
    let root = format!("notes={}", scratch.path().display());
    let app = TestApp::start(backend, Settings::new().env("FILESYSTEM_ROOTS", &root)).await;
    let (operator, alice) = (app.as_operator(), app.as_agent("alice").await);
    let read = alice.call("filesystem__read_file", json!({ "path": "notes/note.txt" })).await;
    assert_eq!(read.result()["structuredContent"]["content"], "kept");
    let names = alice.tool_names().await;
    assert!(!names.contains(&"filesystem__write_file".to_owned()), "it reads only: {names:?}");

    let own = json!({ "slug": "own", "name": "Own", "transport": "stdio", "command": "trunkline",
        "args": ["server", "filesystem", root] });
    operator.post("/v1/mcp/servers", own).await.status(201);
    let written = alice.call("own__write_file", json!({ "path": "new.txt", "content": "new" })).await;
    assert_eq!(written.result()["structuredContent"]["created"], true);
    assert_eq!(std::fs::read_to_string(scratch.path().join("new.txt")).unwrap(), "new");

    // A server that misses a setting has no tools, and says so.
    let unset =
        alice.call("database__query", json!({ "sql": "SELECT 1" })).await.refused(&[Code::NotConfigured]);
    assert!(unset.to_string().contains("DATABASE_SERVER_URL"), "{unset}");
    let server = operator.get("/v1/mcp/servers/database").await.json_of(200);
    assert_eq!(server["state"], "not_configured", "{server}");
}

async fn a_wrong_name_or_argument(_: Backend) {
    let scratch = Scratch::new("shipped");
    for (arguments, part) in [
        (
            vec!["server", "calculater"],
            "there is no server `calculater`; there are calculator, filesystem, database, web",
        ),
        (vec!["server", "calculator", "--fast"], "takes no argument, not even `--fast`"),
        (vec!["new-server", "Bad Name"], "is no name of a server"),
        (vec!["new-server", "good", "--framework", "/nowhere"], "/nowhere is no framework"),
    ] {
        let output = program(&scratch, &arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {said}");
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
}

/// The crate that `new-server` writes builds and passes its tests, with the versions of this workspace.
async fn a_new_server_passes_its_tests(_: Backend) {
    let scratch = Scratch::new("new-server");
    let made = program(&scratch, &["new-server", "word-counter"]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let again = program(&scratch, &["new-server", "word-counter"]).output().unwrap();
    assert!(String::from_utf8_lossy(&again.stderr).contains("`word-counter` is there already"));
    let directory = scratch.path().join("word-counter");
    std::fs::copy(workspace().join("Cargo.lock"), directory.join("Cargo.lock")).unwrap();
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let built = tests::programs::programs().gateway;
    // Its dependencies are built once in the target directory of these tests.
    let target = std::path::Path::new(built).ancestors().nth(2).unwrap().join("new-server");
    let output = Command::new(cargo)
        .args(["test", "--offline", "--target-dir"])
        .arg(target)
        .current_dir(&directory)
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("test words_are_counted ... ok"), "{said}");
    assert!(said.contains("test it_runs_on_standard_streams ... ok"), "{said}");
}

async fn readiness_shows_them(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let ready = app.anonymous_from_loopback().get("/ready").await.status(200).json();
    let state = |name: &str| {
        let servers = ready["servers"].as_array().unwrap();
        let server = servers.iter().find(|server| server["name"] == name);
        server.unwrap_or_else(|| panic!("{name} is not in {ready}")).clone()
    };
    assert_eq!(state("calculator")["state"], "ready");
    assert_eq!(state("collab")["state"], "ready");
    let missing = state("filesystem");
    assert_eq!(missing["state"], "not_configured");
    assert!(missing["hint"].as_str().unwrap_or_default().contains("FILESYSTEM_ROOTS"), "{missing}");
    assert_eq!(
        (&state("database")["state"], &state("web")["state"]),
        (&json!("not_configured"), &json!("ready"))
    );
}
