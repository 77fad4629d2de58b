//! `trunkline stdio`: the official SDK's client over the standard streams of the program, with a running
//! gateway behind it and with one in its own process.

#![expect(deprecated, reason = "sampling is bridged as long as there are clients that have it")]

use std::process::Stdio;

use rmcp::model::{
    CallToolRequestParams, ClientConfig, CreateMessageRequestParams, CreateMessageResult,
    ElicitRequestParams, ElicitResult, ElicitationAction, ErrorData, ProtocolVersion, SamplingMessage,
};
use rmcp::service::{RequestContext, RunningService};
use rmcp::transport::TokioChildProcess;
use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt, RoleClient};
use tests::scratch::Scratch;
use tests::{Backend, Case, Registration, Settings, TestApp, Value, cases, json, process};
use tokio::process::Command;

pub const CASES: &[Case] = cases![
    Every: official_clients_of_both_eras, a_client_is_asked;
    Once: in_the_same_process, one_server_under_its_own_names;
];

/// The program's environment when it is to find this app.
pub fn to(app: &TestApp, key: Option<&str>) -> Vec<(String, String)> {
    let mut environment = vec![("MCP_GATEWAY_URL".to_owned(), app.anonymous_from_loopback().url(""))];
    environment.extend(key.map(|key| ("MCP_KEY".to_owned(), key.to_owned())));
    environment
}

/// The program with this environment, in a directory of its own; `TMPDIR` marks its processes.
pub fn program(scratch: &Scratch, environment: &[(String, String)], further: &[&str]) -> Command {
    let arguments: Vec<String> = ["stdio"].iter().chain(further).map(|one| (*one).to_owned()).collect();
    let mut command = process::command(&arguments, environment, scratch.path());
    command.env("TMPDIR", scratch.path());
    let mut command = Command::from(command);
    command.kill_on_drop(true);
    command
}

/// A client that answers what it is asked.
struct Talkative;

impl ClientHandler for Talkative {
    fn get_info(&self) -> ClientConfig {
        let mut config = ClientConfig::default();
        let capabilities = json!({ "sampling": {}, "elicitation": {} });
        config.capabilities = serde_json::from_value(capabilities).unwrap();
        config
    }

    async fn create_message(
        &self,
        _: CreateMessageRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        let answer = SamplingMessage::assistant_text("forty-two");
        Ok(CreateMessageResult::new(answer, "a-model".to_owned()))
    }

    async fn create_elicitation(
        &self,
        _: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let content = json!({ "username": "ada", "email": "ada@example.com" });
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(content))
    }
}

fn modes() -> [ClientLifecycleMode; 2] {
    let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
    [ClientLifecycleMode::Initialize, ClientLifecycleMode::Discover { preferred_versions }]
}

async fn connect(command: Command, mode: &ClientLifecycleMode) -> RunningService<RoleClient, Talkative> {
    let builder = TokioChildProcess::builder(command).stderr(Stdio::null());
    let (transport, _) = builder.spawn().expect("the program starts");
    Talkative.serve_with_lifecycle(transport, mode.clone()).await.expect("the client connects")
}

/// The text of a tool's answer.
async fn call(client: &RunningService<RoleClient, Talkative>, tool: &str, arguments: Value) -> String {
    let call =
        CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments.as_object().cloned().unwrap());
    let answer = client.call_tool(call).await.expect("the client calls a tool");
    serde_json::to_value(&answer).unwrap()["content"][0]["text"].as_str().unwrap_or_default().to_owned()
}

async fn official_clients_of_both_eras(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    app.as_operator().register(Registration::rmcp("fix")).await;
    let agent = app.as_agent("alice").await;
    let key = agent.headers().iter().find(|(name, _)| name == "x-mcp-key").unwrap().1.clone();
    for mode in modes() {
        let scratch = Scratch::new("stdio");
        let client = connect(program(&scratch, &to(&app, Some(&key)), &[]), &mode).await;
        let tools = client.list_all_tools().await.expect("the client lists tools");
        assert!(tools.iter().any(|tool| tool.name == "fix__echo"), "{mode:?}: {tools:?}");
        let calls = (0..50).map(|number| {
            let client = &client;
            async move {
                let said = call(client, "fix__echo", json!({ "nonce": format!("n{number}") })).await;
                assert_eq!(said, format!("n{number}"));
            }
        });
        futures_util::future::join_all(calls).await;
        let prompts = client.list_all_prompts().await.expect("the client lists prompts");
        assert!(prompts.iter().any(|prompt| prompt.name == "fix__greet"), "{mode:?}: {prompts:?}");
        drop(client.cancel().await);
    }
    let rows = app.as_operator().executions("tool=echo&agent=alice&outcome=ok").await;
    assert_eq!(rows.len(), 100);
}

async fn in_the_same_process(_: Backend) {
    for mode in modes() {
        let scratch = Scratch::new("inside");
        // Nobody listens at port 0.
        let environment = [("PORT".to_owned(), "0".to_owned())];
        let client = connect(program(&scratch, &environment, &[]), &mode).await;
        assert_eq!(call(&client, "calculator__add", json!({ "a": 2, "b": 3 })).await, "5");
        assert!(scratch.join("data").is_dir(), "the ordinary gateway's files lie in ./data");
        let second = program(&scratch, &environment, &[]).stdin(Stdio::null()).output().await.unwrap();
        let said = String::from_utf8_lossy(&second.stderr);
        assert_eq!(second.status.code(), Some(69), "{said}");
        assert!(said.contains("DATA_DIR") && second.stdout.is_empty(), "{said}");
        drop(client.cancel().await);
    }
}

async fn one_server_under_its_own_names(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    app.as_operator().register(Registration::conformance("conf", &[])).await;
    for mode in modes() {
        let scratch = Scratch::new("one");
        let client = connect(program(&scratch, &to(&app, None), &["--server", "conf"]), &mode).await;
        assert!(call(&client, "test_simple_text", json!({})).await.contains("simple text"));
        drop(client.cancel().await);
    }
}

async fn a_client_is_asked(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    for era in ["legacy", "modern", "dual"] {
        app.as_operator().register(Registration::conformance(era, &["--era", era])).await;
    }
    for mode in modes() {
        let scratch = Scratch::new("asked");
        let client = connect(program(&scratch, &to(&app, None), &[]), &mode).await;
        for era in ["legacy", "modern", "dual"] {
            let said = call(&client, &format!("{era}__test_sampling"), json!({ "prompt": "?" })).await;
            assert!(said.contains("forty-two"), "{mode:?}, {era}: {said}");
            let said = call(&client, &format!("{era}__test_elicitation"), json!({ "message": "?" })).await;
            assert!(said.contains("ada@example.com"), "{mode:?}, {era}: {said}");
        }
        drop(client.cancel().await);
    }
}
