//! `trunkline stdio`: the official SDK's client, and lines written by hand, over the standard streams of
//! the program, with a running gateway behind it and with one in its own process.

#![expect(deprecated, reason = "sampling is bridged as long as there are clients that have it")]

use std::process::Stdio;
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, ClientConfig, CreateMessageRequestParams, CreateMessageResult,
    ElicitRequestParams, ElicitResult, ElicitationAction, ErrorData, ProtocolVersion, SamplingMessage,
};
use rmcp::service::{RequestContext, RunningService};
use rmcp::transport::TokioChildProcess;
use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt, RoleClient};
use tests::scratch::Scratch;
use tests::{Backend, Case, Registration, Settings, TestApp, Value, cases, json, process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

pub const CASES: &[Case] = cases![
    Every: official_clients_of_both_eras, a_client_is_asked, a_session_that_is_lost;
    Once: in_the_same_process, one_server_under_its_own_names, a_key_that_is_none, a_gateway_that_dies,
        nothing_behind_it, cancelled_in_both_eras, subscriptions, mirrored_parameters, odd_lines, the_end;
];

const SOON: Duration = Duration::from_secs(20);

/// The program's environment when it is to find this app.
fn to(app: &TestApp, key: Option<&str>) -> Vec<(String, String)> {
    let mut environment = vec![("MCP_GATEWAY_URL".to_owned(), app.anonymous_from_loopback().url(""))];
    environment.extend(key.map(|key| ("MCP_KEY".to_owned(), key.to_owned())));
    environment
}

/// The program with this environment, in a directory of its own; `TMPDIR` marks its processes.
fn program(scratch: &Scratch, environment: &[(String, String)], further: &[&str]) -> Command {
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

/// The program with its lines in the trial's hands.
struct Hand {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    _scratch: Scratch,
}

impl Hand {
    fn start(environment: &[(String, String)], further: &[&str]) -> Hand {
        let scratch = Scratch::new("hand");
        let mut command = program(&scratch, environment, further);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()).lines());
        Hand { child, input, output, _scratch: scratch }
    }

    async fn say(&mut self, line: impl ToString) {
        let line = line.to_string() + "\n";
        self.input.as_mut().unwrap().write_all(line.as_bytes()).await.unwrap();
    }

    /// The next line.
    async fn hear(&mut self) -> Value {
        let line = tokio::time::timeout(SOON, self.output.next_line()).await.expect("a line comes");
        let line = line.unwrap().expect("the program still runs");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("this is no JSON: {line}"))
    }

    /// The next answer under this id; what is said before it is passed over.
    async fn answer(&mut self, id: impl Into<Value>) -> Value {
        let id = id.into();
        loop {
            let heard = self.hear().await;
            if heard["id"] == id && heard.get("method").is_none() {
                return heard;
            }
        }
    }

    async fn ask(&mut self, id: u32, method: &str, params: Value) -> Value {
        self.say(json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })).await;
        self.answer(id).await
    }

    async fn initialize(&mut self) -> Value {
        let client = json!({ "name": "by hand", "version": "1" });
        let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client });
        let answer = self.ask(0, "initialize", params).await;
        self.say(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
        answer
    }

    /// Ends the input; all lines that still come, and the exit code.
    async fn end(mut self) -> (String, Option<i32>) {
        drop(self.input.take());
        let mut rest = String::new();
        let mut output = self.output.into_inner();
        tokio::time::timeout(SOON, output.read_to_string(&mut rest)).await.expect("it ends").unwrap();
        (rest, self.child.wait().await.unwrap().code())
    }
}

/// Parameters of a modern request.
fn modern(mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    params
}

#[track_caller]
fn refused(answer: &Value, code: &str) {
    assert_eq!(answer["error"]["data"]["code"], code, "{answer:#}");
    assert!(answer["error"]["data"]["hint"].is_string() || code == "session_not_found", "{answer:#}");
}

async fn a_key_that_is_none(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let mut hand = Hand::start(&to(&app, Some("mcp_live_wrong")), &[]);
    refused(&hand.initialize().await, "invalid_credential");
    refused(&hand.ask(1, "server/discover", modern(json!({}))).await, "invalid_credential");
    let (rest, code) = hand.end().await;
    assert_eq!((rest.as_str(), code), ("", Some(0)));
}

async fn a_gateway_that_dies(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    app.as_operator().register(Registration::conformance("conf", &["--slow", "60000"])).await;
    let mut hand = Hand::start(&to(&app, None), &[]);
    hand.initialize().await;
    let call = json!({ "name": "conf__test_simple_text", "arguments": {} });
    let request =
        |id: u32, params| json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params });
    hand.say(request(1, call.clone())).await;
    hand.say(request(2, modern(call.clone()))).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    app.kill().await;
    let mut codes = Vec::new();
    for _ in 0..2 {
        codes.push(hand.hear().await["error"]["data"]["code"].as_str().unwrap_or_default().to_owned());
    }
    assert_eq!(codes, ["upstream_failed", "upstream_failed"]);
    refused(&hand.ask(3, "tools/list", json!({})).await, "upstream_unavailable");
    refused(&hand.ask(4, "tools/list", modern(json!({}))).await, "upstream_unavailable");
}

async fn nothing_behind_it(_: Backend) {
    let nowhere = format!("http://127.0.0.1:{}", tests::postgres::free_port());
    let mut hand = Hand::start(&[("MCP_GATEWAY_URL".to_owned(), nowhere)], &[]);
    refused(&hand.initialize().await, "upstream_unavailable");
    let scratch = Scratch::new("mistake");
    for wrong in ["ftp://example.com", "nonsense"] {
        let environment = [("MCP_GATEWAY_URL".to_owned(), wrong.to_owned())];
        let ended = program(&scratch, &environment, &[]).stdin(Stdio::null()).output().await.unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(64), "{said}");
        assert!(said.contains("MCP_GATEWAY_URL"), "{said}");
    }
}

async fn a_session_that_is_lost(backend: Backend) {
    let settings = Settings::new().env("PORT", tests::postgres::free_port());
    let mut app = TestApp::start(backend, settings.clone()).await;
    app.as_operator().register(Registration::conformance("conf", &[])).await;
    let mut hand = Hand::start(&to(&app, None), &["--server", "conf"]);
    hand.initialize().await;
    let watched = json!({ "uri": "test://watched-resource" });
    assert!(hand.ask(1, "resources/subscribe", watched).await["result"].is_object());
    // Another gateway at the same address, which knows nothing of the session.
    app.kill().await;
    let app = TestApp::start(backend, settings).await;
    app.as_operator().register(Registration::conformance("conf", &[])).await;
    let answer = hand.ask(2, "tools/call", json!({ "name": "test_simple_text", "arguments": {} })).await;
    assert!(answer["result"]["content"].is_array(), "{answer:#}");
    // What the client had set in the lost session holds in the new one.
    hand.say(json!({
        "jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": { "name": "test_touch_watched", "arguments": {} },
    }))
    .await;
    let (mut touched, mut answered) = (false, false);
    while !touched || !answered {
        let heard = hand.hear().await;
        touched |= heard["method"] == "notifications/resources/updated";
        answered |= heard["id"] == 3;
    }
}

async fn cancelled_in_both_eras(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    app.as_operator().register(Registration::conformance("conf", &[])).await;
    let mut hand = Hand::start(&to(&app, None), &[]);
    hand.initialize().await;
    let call = json!({ "name": "conf__test_wait_for_cancel", "arguments": {} });
    for (id, params) in [(1, call.clone()), (2, modern(call))] {
        hand.say(json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params })).await;
        // The second time it is running for certain.
        tokio::time::sleep(Duration::from_millis(500 * (id - 1))).await;
        let params = json!({ "requestId": id });
        hand.say(json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params })).await;
    }
    let until = tokio::time::Instant::now() + SOON;
    while app.as_operator().executions("tool=test_wait_for_cancel&outcome=cancelled").await.len() < 2 {
        assert!(tokio::time::Instant::now() < until, "both calls are cancelled");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let answer = hand.ask(3, "ping", json!({})).await;
    assert!(answer["result"].is_object(), "{answer:#}");
    assert_eq!(hand.end().await.0, "", "what was taken back is not answered");
}

async fn subscriptions(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    app.as_operator().register(Registration::conformance("conf", &[])).await;
    let mut hand = Hand::start(&to(&app, None), &["--server", "conf"]);
    let wanted = modern(json!({ "notifications": { "toolsListChanged": true } }));
    hand.say(json!({ "jsonrpc": "2.0", "id": "s", "method": "subscriptions/listen", "params": wanted }))
        .await;
    assert_eq!(hand.hear().await["method"], "notifications/subscriptions/acknowledged");
    let change = modern(json!({ "name": "test_trigger_tool_change", "arguments": {} }));
    hand.say(json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": change })).await;
    let (mut told, mut answered) = (false, false);
    while !told || !answered {
        let heard = hand.hear().await;
        told |= heard["method"] == "notifications/tools/list_changed"
            && heard["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == "s";
        answered |= heard["id"] == 1;
    }
    let begun = std::time::Instant::now();
    hand.end().await;
    assert!(begun.elapsed() < Duration::from_secs(4), "a subscription does not hold up the end");
}

async fn mirrored_parameters(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    app.as_operator().register(Registration::conformance("conf", &[])).await;
    for further in [&[][..], &["--server", "conf"][..]] {
        let name = if further.is_empty() { "conf__test_header_param" } else { "test_header_param" };
        let mut hand = Hand::start(&to(&app, None), further);
        let arguments = json!({ "region": "münchen", "priority": 3, "urgent": true });
        let params = modern(json!({ "name": name, "arguments": arguments }));
        let answer = hand.ask(1, "tools/call", params.clone()).await;
        assert!(answer["result"]["content"].is_array(), "without a list before: {answer:#}");
        hand.ask(2, "tools/list", modern(json!({}))).await;
        let answer = hand.ask(3, "tools/call", params).await;
        assert!(answer["result"]["content"].is_array(), "{answer:#}");
    }
}

async fn odd_lines(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let mut hand = Hand::start(&to(&app, None), &[]);
    for (line, code) in
        [("nonsense", -32700), ("{}", -32600), ("[]", -32600), (r#"{"jsonrpc":"2.0","id":[]}"#, -32600)]
    {
        hand.say(line).await;
        let heard = hand.hear().await;
        assert_eq!((&heard["id"], &heard["error"]["code"]), (&Value::Null, &json!(code)), "{line}");
    }
    hand.say("x".repeat((16 << 20) + 1)).await;
    assert_eq!(hand.hear().await["error"]["data"]["code"], "body_too_large");
    let big = "y".repeat(5 << 20);
    let answer = hand
        .ask(7, "tools/call", modern(json!({ "name": "calculator__add", "arguments": { "a": big } })))
        .await;
    refused(&answer, "body_too_large");
    refused(&hand.ask(8, "tools/list", json!({})).await, "session_required");
    // A client that does not wait for the answer to its introduction.
    let client = json!({ "name": "by hand", "version": "1" });
    let params = json!({ "protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": client });
    hand.say(json!({ "jsonrpc": "2.0", "id": "i", "method": "initialize", "params": params })).await;
    hand.say(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
    hand.say(json!([
        { "jsonrpc": "2.0", "id": "p", "method": "ping" },
        { "jsonrpc": "2.0", "id": "q", "method": "ping" },
    ]))
    .await;
    assert_eq!(hand.hear().await["result"]["protocolVersion"], "2025-03-26");
    assert_eq!(hand.hear().await.as_array().map(Vec::len), Some(2), "a batch is answered by a batch");
    // An answer that is on its way at the end of the input still comes.
    hand.say(json!({ "jsonrpc": "2.0", "id": "last", "method": "tools/list" })).await;
    let (rest, code) = hand.end().await;
    assert!(rest.contains(r#""id":"last""#) && code == Some(0), "{code:?}: {rest}");
}

async fn the_end(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    app.as_operator().register(Registration::conformance("conf", &["--slow", "60000"])).await;
    for in_flight in [false, true] {
        let mut hand = Hand::start(&to(&app, None), &[]);
        hand.initialize().await;
        if in_flight {
            let call = json!({ "name": "conf__test_simple_text", "arguments": {} });
            hand.say(json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call })).await;
        }
        hand.ask(2, "ping", json!({})).await;
        let begun = std::time::Instant::now();
        tests::proc::signal(hand.child.id().unwrap(), rustix::process::Signal::TERM);
        let status = tokio::time::timeout(SOON, hand.child.wait()).await.expect("it ends").unwrap();
        assert!(
            status.success() && begun.elapsed() < Duration::from_secs(3),
            "{status} {:?}",
            begun.elapsed()
        );
    }
}
