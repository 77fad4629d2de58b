//! Servers that nobody here wrote: registered by REST, discovered, called through the JSON-RPC door,
//! their executions on record. Their programs lie in `TEST_PYTHON_BIN` and `TEST_NODE_BIN`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tests::scratch::Scratch;
use tests::{Backend, Case, Registration, Settings, TestApp, Value, cases, json, not_run};

pub const CASES: &[Case] =
    cases![Every: time, git, everything, filesystem, a_bar_of_servers_is_listed_after_a_restart;];

/// The program, or the end of the trial.
pub fn program(variable: &str, name: &str) -> PathBuf {
    let Ok(directory) = std::env::var(variable) else {
        not_run(format!("{variable} is not set: the directory that holds {name}"));
    };
    let path = PathBuf::from(directory).join(name);
    if !path.is_file() {
        not_run(format!("{} is not there", path.display()));
    }
    path
}

/// Registers, discovers, lists, calls, and reads the record.
async fn works(
    backend: Backend,
    slug: &str,
    registration: Registration,
    tool: &str,
    arguments: Value,
    wanted: &str,
) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let server = operator.register(registration).await;
    let discovered = operator.get(&server.path("/discover")).await;
    let tools = discovered.json_of(200)["tools"].as_array().cloned().unwrap_or_default();
    discovered.must(tools.iter().any(|one| one["name"] == tool), &format!("{tool} is discovered"));
    let exposed = format!("{slug}__{tool}");
    let agent = app.as_agent("alice").await;
    let names = agent.tool_names().await;
    assert!(names.contains(&exposed), "{exposed} is not listed: {names:?}");
    let own = names.iter().filter(|name| name.starts_with(&format!("{slug}__"))).count();
    assert_eq!(own, tools.len(), "every discovered tool is listed: {names:?}");
    let answer = agent.call(&exposed, arguments).await;
    let text = answer.tool_text();
    answer.must(text.contains(wanted), &format!("the answer contains {wanted}"));
    let rows = operator.executions(&format!("server={slug}&tool={tool}&agent=alice")).await;
    assert_eq!((rows.len(), &rows[0]["outcome"]), (1, &json!("ok")), "{rows:#?}");
    let health = operator.post(&server.path("/health"), json!({})).await;
    health.must(health.json_of(200)["state"] == "healthy", "it is healthy");
}

async fn time(backend: Backend) {
    let program = program("TEST_PYTHON_BIN", "mcp-server-time");
    let registration = Registration::stdio("time", program.to_str().unwrap(), &["--local-timezone", "UTC"]);
    let arguments = json!({ "source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo" });
    works(backend, "time", registration, "convert_time", arguments, "21:00").await;
}

async fn git(backend: Backend) {
    let program = program("TEST_PYTHON_BIN", "mcp-server-git");
    let repository = Scratch::new("repository");
    let path = repository.path().to_str().unwrap().to_owned();
    let made =
        std::process::Command::new("git").args(["init", "--quiet", "--initial-branch=trunk", &path]).status();
    assert!(made.is_ok_and(|status| status.success()), "git init");
    let registration = Registration::stdio("git", program.to_str().unwrap(), &["--repository", &path]);
    std::fs::write(repository.join("new-file.txt"), "x").unwrap();
    works(backend, "git", registration, "git_status", json!({ "repo_path": path }), "new-file.txt").await;
}

async fn everything(backend: Backend) {
    let program = program("TEST_NODE_BIN", "mcp-server-everything");
    let registration = Registration::stdio("every", program.to_str().unwrap(), &["stdio"]);
    works(backend, "every", registration, "echo", json!({ "message": "hello there" }), "hello there").await;
}

async fn filesystem(backend: Backend) {
    let program = program("TEST_NODE_BIN", "mcp-server-filesystem");
    let directory = Scratch::new("files");
    std::fs::write(directory.join("note.txt"), "what is written here").unwrap();
    let path = directory.path().to_str().unwrap().to_owned();
    let registration = Registration::stdio("files", program.to_str().unwrap(), &[&path]);
    let arguments = json!({ "path": format!("{path}/note.txt") });
    works(backend, "files", registration, "read_text_file", arguments, "what is written here").await;
}

/// The TypeScript SDK, which refuses a whole list for one definition without `type`: lists, and calls a tool.
const OFFICIAL_CLIENT: &str = r#"
const { createRequire } = require("node:module");
const [, , modules, url, key] = process.argv;
const sdk = createRequire(modules + "/");
const { Client } = sdk("@modelcontextprotocol/sdk/client/index.js");
const { StreamableHTTPClientTransport } = sdk("@modelcontextprotocol/sdk/client/streamableHttp.js");
(async () => {
    const client = new Client({ name: "trial", version: "1" });
    const requestInit = { headers: { "X-MCP-Key": key } };
    await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit }));
    const { tools } = await client.listTools();
    const sum = await client.callTool({ name: "calculator__add", arguments: { a: 1, b: 2 } });
    console.log(JSON.stringify({ tools: tools.map((tool) => tool.name), sum: sum.content[0].text }));
    await client.close();
})();
"#;

async fn a_bar_of_servers_is_listed_after_a_restart(backend: Backend) {
    let node = tests::programs::find("node", &[]).unwrap_or_else(|| not_run("no node in PATH"));
    let files = Scratch::new("files");
    let path = files.path().to_str().unwrap().to_owned();
    let made = std::process::Command::new("git").args(["init", "--quiet", &path]).status();
    assert!(made.is_ok_and(|status| status.success()), "git init");
    let bar = [
        ("time", "TEST_PYTHON_BIN", "mcp-server-time", vec!["--local-timezone", "UTC"]),
        ("git", "TEST_PYTHON_BIN", "mcp-server-git", vec!["--repository", &path]),
        ("every", "TEST_NODE_BIN", "mcp-server-everything", vec!["stdio"]),
        ("files", "TEST_NODE_BIN", "mcp-server-filesystem", vec![&*path]),
        // Its definitions have no `type`.
        ("notes", "TEST_UNTYPED_BIN", "mcp-obsidian", vec![&*path]),
    ];
    let mut app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    for (slug, variable, name, arguments) in &bar {
        let program = program(variable, name).display().to_string();
        operator.register(Registration::stdio(slug, &program, arguments)).await;
    }
    let begun = Instant::now();
    let first = loop {
        let list = operator.rpc("tools/list", json!({})).await.result();
        if list["_meta"]["trunkline/unavailable"].is_null() {
            break list;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "they do not come up: {}", list["_meta"]);
    };
    let own = tests::McpClient::modern(&operator, "/mcp/s/notes").result("tools/list", json!({})).await;
    assert!(own["tools"][0]["name"].is_string(), "{own}");
    assert_eq!(own["tools"][0]["inputSchema"]["type"], Value::Null, "shown as the server said it");
    app.terminate(Duration::from_secs(20)).await;
    app.boot(None).await;

    let operator = app.as_operator();
    let list = operator.rpc("tools/list", json!({})).await.result();
    assert_eq!(list["tools"], first["tools"], "it is complete at once");
    let stored = list["_meta"]["trunkline/stored"].as_array().unwrap();
    assert_eq!(stored.len(), bar.len(), "{stored:?}");
    let script = app.path("client.cjs");
    std::fs::write(&script, OFFICIAL_CLIENT).unwrap();
    let modules = program("TEST_NODE_BIN", "mcp-server-everything").parent().unwrap().with_file_name("");
    let key = std::fs::read_to_string(app.data_dir().join("operator.key")).unwrap();
    let url = operator.url("/mcp");
    let client = tokio::process::Command::new(node)
        .args([&script, &modules])
        .args([&*url, key.trim()])
        .output()
        .await
        .unwrap();
    let said: Value = serde_json::from_slice(&client.stdout)
        .unwrap_or_else(|_| panic!("the client failed: {}", String::from_utf8_lossy(&client.stderr)));
    let names: Vec<&str> =
        first["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!((&said["tools"], &said["sum"]), (&json!(names), &json!("3")));
    assert!(names.iter().any(|name| name.starts_with("notes__")), "{names:?}");
    assert_eq!(app.children().len(), 0, "nothing was started for the lists");
}
