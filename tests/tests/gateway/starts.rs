//! Servers that do not start, and servers that are stopped: the reason is the line that names the error, a
//! failing start is tried once for an answer, and a stop is said when the last process is gone.

use std::path::Path;
use std::time::{Duration, Instant};

use tests::{Actor, Backend, Case, Registration, Settings, TestApp, Value, cases, json, proc, programs};

pub const CASES: &[Case] = cases![
    Once: the_reason_is_the_telling_line, a_silent_server_says_so, secrets_are_not_shown, a_stop_takes_all,
        a_stop_ends_what_finds_out_the_era;
];

/// A program that fails at its start: how it is run, its text, a part of the reason and of the hint.
struct Row {
    name: &'static str,
    program: &'static str,
    text: &'static str,
    reason: &'static str,
    hint: &'static str,
}

const ROWS: &[Row] = &[
    row("node-syntax", "node", "const a = ;\n", "SyntaxError: Unexpected token ';'", ""),
    row(
        "node-module",
        "node",
        "require('no-such-module');\n",
        "Cannot find module 'no-such-module'",
        "module",
    ),
    row(
        "node-throws",
        "node",
        "function f() { throw new TypeError('bad thing'); }\nf();\n",
        "TypeError: bad thing",
        "",
    ),
    row("node-rejects", "node", "Promise.reject(new Error('no luck'));\n", "Error: no luck", ""),
    row(
        "node-variable",
        "node",
        "console.error('Error: FOO_API_KEY environment variable is required\\n' + '-'.repeat(40));\nprocess.exit(1);\n",
        "FOO_API_KEY environment variable is required",
        "variable",
    ),
    row(
        "node-port",
        "node",
        "const net = require('net');\nconst s = net.createServer().listen(0, '127.0.0.1', () => net.createServer().listen(s.address().port, '127.0.0.1'));\n",
        "EADDRINUSE",
        "port",
    ),
    row(
        "py-traceback",
        "python3",
        "def f():\n    raise ValueError('bad thing')\nf()\n",
        "ValueError: bad thing",
        "",
    ),
    row(
        "py-module",
        "python3",
        "import no_such_module\n",
        "ModuleNotFoundError: No module named 'no_such_module'",
        "module",
    ),
    row(
        "py-variable",
        "python3",
        "import os\nos.environ['FOO_API_KEY']\n",
        "KeyError: 'FOO_API_KEY'",
        "variable",
    ),
    row(
        "py-port",
        "python3",
        "import socket\na = socket.socket(); a.bind(('127.0.0.1', 0)); a.listen()\nb = socket.socket(); b.bind(a.getsockname())\n",
        "Address already in use",
        "port",
    ),
    row("sh-command", "sh", "no_such_command_here\n", "no_such_command_here", ""),
    row(
        "sh-usage",
        "sh",
        "echo 'error: a token is needed' >&2\necho '--------------------' >&2\nexit 2\n",
        "a token is needed",
        "",
    ),
];

const fn row(
    name: &'static str,
    program: &'static str,
    text: &'static str,
    reason: &'static str,
    hint: &'static str,
) -> Row {
    Row { name, program, text, reason, hint }
}

/// Writes a script that notes each of its starts, and registers it.
async fn register(app: &TestApp, operator: &Actor, row: &Row) -> std::path::PathBuf {
    let (script, starts) = (app.path(row.name), app.path(&format!("{}.starts", row.name)));
    let path = starts.display().to_string();
    let note = match row.program {
        "node" => format!("require('fs').appendFileSync({path:?}, 'x');\n"),
        "python3" => format!("open({path:?}, 'a').write('x')\n"),
        _ => format!("printf x >> {path}\n"),
    };
    // A syntax error keeps a program from noting anything.
    let text = if row.name == "node-syntax" { row.text.to_owned() } else { note + row.text };
    std::fs::write(&script, text).expect("a script can be written");
    let program = programs::find(row.program, &[]);
    let program = program.unwrap_or_else(|| tests::not_run(format!("no {} in PATH", row.program)));
    let arguments = [script.display().to_string()];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    operator.register(Registration::stdio(row.name, &program.display().to_string(), &arguments)).await;
    starts
}

fn count(starts: &Path) -> usize {
    std::fs::read_to_string(starts).map_or(0, |text| text.len())
}

async fn the_reason_is_the_telling_line(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    for row in ROWS {
        let starts = register(&app, &operator, row).await;
        let answer = operator.call(&format!("{}__tool", row.name), json!({})).await;
        let error = answer.json()["error"].clone();
        let reason = error["message"].as_str().unwrap_or_default();
        answer.must(reason.contains(row.reason), &format!("{}: the reason holds {:?}", row.name, row.reason));
        let hint = error["data"]["hint"].as_str().unwrap_or_default();
        answer.must(hint.contains(row.hint), &format!("{}: the hint holds {:?}", row.name, row.hint));
        let lines = error["data"]["stderr"].as_array().map_or(0, Vec::len);
        answer.must((1..=10).contains(&lines), &format!("{}: data.stderr has up to ten lines", row.name));
        if row.name != "node-syntax" {
            assert_eq!(count(&starts), 1, "{}: it is started once for the answer", row.name);
        }
        let shown = operator.get(&format!("/v1/mcp/servers/{}", row.name)).await.json_of(200);
        let state = (shown["state"].as_str(), shown["stateReason"].as_str().unwrap_or_default());
        assert!(state.0 == Some("unhealthy") && state.1.contains(row.reason), "{}: {state:?}", row.name);
    }
    operator.register(Registration::stdio("absent", "uvx-of-nobody", &[])).await;
    let answer = operator.call("absent__tool", json!({})).await;
    let message = answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
    answer.must(message.contains("uvx-of-nobody") && message.contains("PATH"), "a missing command is named");
}

async fn a_silent_server_says_so(backend: Backend) {
    let app = TestApp::start(backend, Settings::new().env("CHILD_STOP_GRACE_MS", 4000)).await;
    let operator = app.as_operator();
    // The second one ends only by SIGKILL.
    for (slug, then) in
        [("silent", "exec sleep 600\n"), ("stubborn", "trap '' TERM\nwhile :; do sleep 1; done\n")]
    {
        let (script, starts) = (app.path(slug), app.path(&format!("{slug}.starts")));
        let text = format!(
            "printf x >> {}\necho 'waiting for a login in the browser' >&2\n{then}",
            starts.display()
        );
        std::fs::write(&script, text).unwrap();
        let program = Registration::stdio(slug, "/bin/sh", &[&script.display().to_string()]);
        operator.register(program.with("startTimeoutMs", 1500)).await;
        let begun = Instant::now();
        let answer = operator.call(&format!("{slug}__tool"), json!({})).await;
        let error = answer.json()["error"].clone();
        let message = error["message"].as_str().unwrap_or_default();
        answer.must(message.contains("waits for something"), "it says that the server waits");
        answer.must(message.contains("waiting for a login in the browser"), "and what it wrote");
        assert!(begun.elapsed() < Duration::from_secs(8), "not twice its time: {:?}", begun.elapsed());
        assert_eq!(count(&starts), 1, "it is started once for the answer");
    }
}

async fn secrets_are_not_shown(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\n-----END PRIVATE KEY-----";
    for (slug, value, secret) in
        [("word", "hunter2hunter2", "hunter2"), ("short", "pw1", "pw1"), ("lines", key, "MIIEvQIBADANBgkq")]
    {
        let script = app.path(slug);
        std::fs::write(&script, "echo \"Error: cannot log in with $TOKEN\" >&2\nexit 1\n").unwrap();
        let leaky = Registration::stdio(slug, "/bin/sh", &[&script.display().to_string()]);
        operator.register(leaky.with("env", json!({ "TOKEN": value }))).await;
        let answer = operator.call(&format!("{slug}__tool"), json!({})).await;
        answer.must(answer.text().contains("cannot log in with"), "the line is shown");
        answer.must(!answer.text().contains(secret), "and not the secret in it");
        let shown = operator.get(&format!("/v1/mcp/servers/{slug}")).await;
        shown.must(!shown.text().contains(secret), "nor in the state's reason");
    }
}

/// The processes that the gateway started and that live.
fn alive(app: &TestApp) -> usize {
    let gateway = app.process().pid();
    proc::marked_with(&app.path("tmp")).iter().filter(|process| process.pid != gateway).count()
}

async fn a_stop_takes_all(backend: Backend) {
    let app = TestApp::start(backend, Settings::new().env("CHILD_STOP_GRACE_MS", 1000)).await;
    let operator = app.as_operator();
    let apart = "setsid sh -c \"trap '' TERM HUP INT; while :; do sleep 1; done\" </dev/null >/dev/null 2>&1 &\nexec \"$0\"";
    for (registration, slug, stopped_by) in [
        (Registration::bad("polite", &[]), "polite", "end_of_input"),
        (Registration::bad("parent", &["--grandchild"]), "parent", "sigkill"),
        (Registration::bad("stubborn", &["--ignore-eof"]), "stubborn", "sigkill"),
        (
            Registration::stdio("apart", "/bin/sh", &["-c", apart, programs::programs().fixture_bad]),
            "apart",
            "sigkill",
        ),
    ] {
        let server = operator.register(registration).await;
        operator.call(&format!("{slug}__echo"), json!({ "nonce": "a" })).await.result();
        let pid = operator.post(&server.path("/health"), json!({})).await.json_of(200)["pid"].clone();
        let stopped = operator.post(&server.path("/stop"), json!({})).await;
        let left = alive(&app);
        let body = stopped.json_of(200);
        assert_eq!((&body["state"], &body["stoppedBy"]), (&json!("stopped"), &json!(stopped_by)), "{slug}");
        assert_eq!(left, 0, "{slug}: nothing is left when the answer comes");
        assert!(!proc::is_running(pid.as_u64().expect("it ran") as u32), "{slug}");
        let again = operator.post(&server.path("/stop"), json!({})).await.json_of(200);
        assert_eq!(again["stoppedBy"], Value::Null, "{slug}: nothing ran");
    }
}

/// A stop right after the first call, while the children that were asked for the era may still be ending, and
/// one during a start.
async fn a_stop_ends_what_finds_out_the_era(backend: Backend) {
    let app = TestApp::start(backend, Settings::new().env("CHILD_STOP_GRACE_MS", 1000)).await;
    let operator = app.as_operator();
    let quick = operator.register(Registration::bad("quick", &["--ignore-eof"])).await;
    operator.call("quick__echo", json!({ "nonce": "a" })).await.result();
    operator.post(&quick.path("/stop"), json!({})).await.status(200);
    assert_eq!(alive(&app), 0, "nothing is left of the first start");

    let slow = operator.register(Registration::bad("slow", &["--hang-at-start", "--ignore-eof"])).await;
    let call = operator.call("slow__echo", json!({ "nonce": "a" }));
    let stop = async {
        while alive(&app) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        operator.post(&slow.path("/stop"), json!({})).await.status(200);
        assert_eq!(alive(&app), 0, "nothing is left of a start under way");
    };
    let (answer, ()) = tokio::join!(call, stop);
    answer.refused(&[tests::Code::ServerStopped]);
}
