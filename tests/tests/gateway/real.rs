//! Servers that nobody here wrote: registered by REST, discovered, called through the JSON-RPC door,
//! their executions on record. Their programs lie in `TEST_PYTHON_BIN` and `TEST_NODE_BIN`.

use std::path::PathBuf;

use tests::scratch::Scratch;
use tests::{Backend, Case, Registration, Settings, TestApp, Value, cases, json, not_run};

pub const CASES: &[Case] = cases![Every: time, git, everything, filesystem;];

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
