//! A server that lives in this process, behind the same pool.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use libtest_mimic::Trial;
use protocol::Code;
use protocol::mcp::Era;
use protocol::provider::{Annotations, ProviderInfo, ToolDefinition, ToolFailure, ToolOutput, ToolProvider};
use proxy::pool::State;
use proxy::server::Launch;
use proxy::upstream::UpstreamAnswer;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::app::{App, Server, refused};
use crate::test;

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_builtin_answers_as_a_server_does", a_builtin_answers),
        test("what_is_not_there_is_not_configured", what_is_not_there),
    ]
}

struct Echo;

#[async_trait]
impl ToolProvider for Echo {
    fn info(&self) -> ProviderInfo {
        ProviderInfo { name: "echo", title: "Echo", version: "1", description: "Says it again." }
    }

    fn list(&self) -> Vec<ToolDefinition> {
        let tool = |name| ToolDefinition {
            name,
            title: name,
            description: name,
            input_schema: json!({
                "type": "object",
                "properties": { "text": { "type": "string" } },
                "required": ["text"],
            }),
            output_schema: json!({ "type": "object" }),
            annotations: Annotations {
                read_only_hint: true,
                destructive_hint: false,
                idempotent_hint: true,
                open_world_hint: false,
            },
        };
        ["say", "fail", "panic", "hang"].map(tool).into()
    }

    async fn call(&self, tool: &str, arguments: &RawValue) -> Result<ToolOutput, ToolFailure> {
        let arguments: Value = serde_json::from_str(arguments.get()).unwrap();
        let text = arguments["text"].as_str().unwrap().to_owned();
        match tool {
            "say" => Ok(ToolOutput { text, structured: Some(arguments) }),
            "fail" => Err(ToolFailure::Failed(text)),
            "panic" => panic!("{text}"),
            _ => std::future::pending().await,
        }
    }
}

fn builtin(app: &App, provider: &str) -> Server {
    app.fixture_with(&[], |spec| spec.launch = Launch::Builtin { provider: provider.to_owned() })
}

async fn a_builtin_answers() {
    let app = App::with_builtins(vec![Arc::new(Echo)]);
    let server = builtin(&app, "echo");
    let call = async |params: Value| {
        let delivered = server.request("tools/call", &params.to_string(), Duration::from_millis(300)).await;
        delivered.map(|delivered| match delivered.answer {
            UpstreamAnswer::Result(json) | UpstreamAnswer::Error(json) => {
                serde_json::from_slice::<Value>(&json).unwrap()
            }
        })
    };
    let said = |text: &str, is_error: bool| json!({ "content": [{ "type": "text", "text": text }], "isError": is_error });
    let mut good = said("hi", false);
    good["structuredContent"] = json!({ "text": "hi" });
    assert_eq!(call(json!({ "name": "say", "arguments": { "text": "hi" } })).await.unwrap(), good);
    let failed = call(json!({ "name": "fail", "arguments": { "text": "no" } })).await.unwrap();
    assert_eq!(failed, said("no", true));
    let missing = call(json!({ "name": "say" })).await.unwrap();
    assert_eq!(missing, said("wrong arguments: `text` is missing", true));
    let panicked = call(json!({ "name": "panic", "arguments": { "text": "inside" } })).await.unwrap();
    assert_eq!(panicked["isError"], true);
    assert_eq!(call(json!({ "name": "other" })).await.unwrap()["code"], -32602);
    assert_eq!(call(json!({})).await.unwrap()["code"], -32602);
    refused(call(json!({ "name": "hang", "arguments": { "text": "" } })).await, Code::TimedOut, "within 3");

    for (method, part) in [
        ("tools/list", "inputSchema"),
        ("initialize", "serverInfo"),
        ("server/discover", "2026-07-28"),
        ("ping", "{}"),
        ("x", "-32601"),
    ] {
        let answer = server.request(method, "", Duration::from_secs(1)).await.unwrap().answer;
        let (UpstreamAnswer::Result(json) | UpstreamAnswer::Error(json)) = answer;
        assert!(String::from_utf8_lossy(&json).contains(part), "{method}: {json:?}");
    }
    let modern = server.in_era(Era::Modern);
    for (server, version, part) in
        [(&server, "2025-11-25", "serverInfo"), (&modern, "2026-07-28", "supportedVersions")]
    {
        let deadline = Instant::now() + Duration::from_secs(1);
        let initialized = app.pool.initialized(&server.selected(), deadline).await.unwrap();
        assert_eq!((initialized.era, &*initialized.protocol_version), (server.key.era, version));
        assert!(String::from_utf8_lossy(&initialized.result).contains(part));
    }
    let meta = r#"{"name":"say","arguments":{"text":"hi"},"_meta":{"x/y":1}}"#;
    assert!(modern.request("tools/call", meta, Duration::from_secs(1)).await.is_ok());
    assert_eq!(server.status().pid, None);
    server.pool.stop(app.tenant, &server.spec).await;
    assert_eq!(server.status().state, State::Stopped);
}

async fn what_is_not_there() {
    let app = App::new();
    refused(builtin(&app, "nobody").echo("x").await, Code::NotConfigured, "no built-in server `nobody`");
    let remote = app.fixture_with(&[], |spec| {
        spec.launch = Launch::Unsupported { transport: "streamable-http".to_owned() };
    });
    refused(remote.echo("x").await, Code::NotConfigured, "`streamable-http` is not supported");
    assert_eq!(remote.status().state, State::NotConfigured);
}
