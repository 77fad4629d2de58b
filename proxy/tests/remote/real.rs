//! Servers that nobody here wrote, by HTTP. Their programs lie in `TEST_NODE_BIN` and `TEST_PYTHON_BIN`;
//! without these variables nothing is tested here.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use protocol::mcp::{Era, Eras};
use proxy::http::{RemotePlan, eras};
use proxy::upstream::Listener;
use serde_json::json;

use crate::app::{App, Ears, egress, remote, result, text};

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn program(variable: &str, name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os(variable)?).join(name);
    if !path.is_file() {
        eprintln!("not run: {} is not there", path.display());
        return None;
    }
    Some(path)
}

async fn free_port() -> u16 {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

async fn start(mut command: Command, port: u16) -> Running {
    let running = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    for _ in 0..200 {
        if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return running;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the server does not listen on {port}");
}

async fn found(url: &str) -> Option<Eras> {
    let plan = RemotePlan::for_probe("probed", egress(&["127.0.0.0/8"]), "trunkline", "1");
    eras(&plan, &remote(url, &[]), std::time::Instant::now() + Duration::from_secs(5)).await.unwrap()
}

async fn everything(transport: &str, path: &str) {
    let Some(program) = program("TEST_NODE_BIN", "mcp-server-everything") else { return };
    let port = free_port().await;
    let mut command = Command::new(program);
    command.arg(transport).env("PORT", port.to_string());
    let _running = start(command, port).await;
    let url = format!("http://127.0.0.1:{port}{path}");
    assert_eq!(found(&url).await, Some(Eras::LEGACY));
    let mut app = App::new(&url, Era::Legacy);
    app.introduce(json!({ "elicitation": {}, "sampling": {} }), None);
    let answer =
        app.ask("tools/call", json!({ "name": "echo", "arguments": { "message": "hello there" } })).await;
    assert_eq!(text(answer.unwrap()), "Echo: hello there");
    let tools = result(app.ask("tools/list", json!({})).await.unwrap());
    assert!(tools["tools"].as_array().unwrap().len() > 10);

    let ears = Arc::new(Ears::default());
    let listener: Arc<dyn Listener> = ears.clone();
    let params = json!({ "name": "trigger-long-running-operation", "arguments": { "duration": 1, "steps": 2 },
        "_meta": { "progressToken": 41 } });
    let answer = app.ask_for("tools/call", params, Some(&listener), Duration::from_secs(8)).await;
    assert!(text(answer.unwrap()).contains("completed"));
    assert!(ears.methods().contains(&"notifications/progress".to_owned()), "{:?}", ears.methods());
    let params =
        json!({ "name": "trigger-sampling-request", "arguments": { "prompt": "p", "maxTokens": 5 } });
    let answer = app.ask_for("tools/call", params, Some(&listener), Duration::from_secs(8)).await;
    assert!(ears.methods().contains(&"sampling/createMessage".to_owned()), "{answer:?}");
    app.pool.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn everything_by_streamable_http() {
    everything("streamableHttp", "/mcp").await;
}

#[tokio::test]
async fn everything_by_http_with_sse() {
    everything("sse", "/sse").await;
}

/// A server of both eras in a few lines of the Python SDK.
const FIXTURE: &str = r#"
import sys
from mcp.server import MCPServer
server = MCPServer("fixture")

@server.tool()
def echo(message: str) -> str:
    return "echo " + message

server.run(transport="streamable-http", port=int(sys.argv[1]))
"#;

#[tokio::test]
async fn a_server_of_both_eras() {
    let Some(program) = program("TEST_PYTHON_BIN", "python3") else { return };
    let port = free_port().await;
    let mut command = Command::new(program);
    command.args(["-c", FIXTURE, &port.to_string()]);
    let _running = start(command, port).await;
    let url = format!("http://127.0.0.1:{port}/mcp");
    assert_eq!(found(&url).await, Some(Eras::DUAL));
    let meta = json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {} });
    for (era, meta) in [(Era::Modern, meta), (Era::Legacy, json!({}))] {
        let app = App::new(&url, era);
        let params = json!({ "name": "echo", "arguments": { "message": "ä" }, "_meta": meta });
        let answer = app.ask("tools/call", params).await.unwrap();
        assert_eq!(text(answer), "echo ä", "{era:?}");
        let tools = result(app.ask("tools/list", json!({ "_meta": meta })).await.unwrap());
        assert_eq!(tools["tools"].as_array().unwrap().len(), 1);
        app.pool.shutdown(Duration::from_secs(1)).await;
    }
}
