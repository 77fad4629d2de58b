//! `trunkline stdio`: lines written by hand, for what no well-behaved client does, and for what goes wrong
//! behind it.

use std::process::Stdio;
use std::time::Duration;

use tests::cut::{Cut, Line};
use tests::scratch::Scratch;
use tests::{Backend, Case, Registration, Settings, TestApp, Value, cases, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::stdio_door::{program, to};

pub const CASES: &[Case] = cases![
    Every: a_session_that_is_lost;
    Once: a_new_session_that_breaks_off, a_batch_is_cancelled_in_part, a_key_that_is_none, a_gateway_that_dies, nothing_behind_it, cancelled_in_both_eras, subscriptions,
        mirrored_parameters, odd_lines, the_end, a_server_that_starts_slowly,
        progress_is_read_before_the_answer, an_answer_is_fetched_after_a_cut, a_large_message_passes;
];

const SOON: Duration = Duration::from_secs(20);

/// The program with its lines in the trial's hands.
pub struct Hand {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    _scratch: Scratch,
}

impl Hand {
    pub fn start(environment: &[(String, String)], further: &[&str]) -> Hand {
        let scratch = Scratch::new("hand");
        let mut command = program(&scratch, environment, further);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()).lines());
        Hand { child, input, output, _scratch: scratch }
    }

    pub async fn say(&mut self, line: impl ToString) {
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
    pub async fn answer(&mut self, id: impl Into<Value>) -> Value {
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

    pub async fn initialize(&mut self) -> Value {
        let client = json!({ "name": "by hand", "version": "1" });
        let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client });
        let answer = self.ask(0, "initialize", params).await;
        self.say(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
        answer
    }

    /// Touches a resource to which the session is subscribed, and hears of that.
    async fn touch_watched(&mut self) {
        let touch = json!({ "name": "test_touch_watched", "arguments": {} });
        self.say(json!({ "jsonrpc": "2.0", "id": "touch", "method": "tools/call", "params": touch })).await;
        let (mut touched, mut answered) = (false, false);
        while !touched || !answered {
            let heard = self.hear().await;
            touched |= heard["method"] == "notifications/resources/updated";
            answered |= heard["id"] == "touch";
        }
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
    app.kill().await;
    // It knows nothing of the session.
    let app = TestApp::start(backend, settings).await;
    app.as_operator().register(Registration::conformance("conf", &[])).await;
    let answer = hand.ask(2, "tools/call", json!({ "name": "test_simple_text", "arguments": {} })).await;
    assert!(answer["result"]["content"].is_array(), "{answer:#}");
    // What the client had set in the lost session holds in the new one.
    hand.touch_watched().await;
}

/// A new session whose `notifications/initialized` does not arrive is not used.
async fn a_new_session_that_breaks_off(backend: Backend) {
    let port = tests::postgres::free_port();
    let settings = Settings::new().env("PORT", port);
    let mut app = TestApp::start(backend, settings.clone()).await;
    app.as_operator().register(Registration::conformance("conf", &[])).await;
    let cut = Cut::before(port).await;
    let gateway = ("MCP_GATEWAY_URL".to_owned(), format!("http://127.0.0.1:{}", cut.port));
    let mut hand = Hand::start(&[gateway], &["--server", "conf"]);
    hand.initialize().await;
    let watched = json!({ "uri": "test://watched-resource" });
    assert!(hand.ask(1, "resources/subscribe", watched).await["result"].is_object());
    app.kill().await;
    cut.set(Line::DropsOnce("notifications/initialized"));
    let app = TestApp::start(backend, settings).await;
    app.as_operator().register(Registration::conformance("conf", &[])).await;
    let call = json!({ "name": "test_simple_text", "arguments": {} });
    let mut id = 2;
    while hand.ask(id, "tools/call", call.clone()).await["error"].is_object() {
        id += 1;
        assert!(id < 9, "the session begins again");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    hand.touch_watched().await;
}

/// The requests of a batch that were not cancelled are answered, also where the answer is a stream.
async fn a_batch_is_cancelled_in_part(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    app.as_operator().register(Registration::conformance("conf", &[])).await;
    let mut hand = Hand::start(&to(&app, None), &["--server", "conf"]);
    let client = json!({ "name": "by hand", "version": "1" });
    let params = json!({ "protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": client });
    hand.ask(0, "initialize", params).await;
    hand.say(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
    let waits = json!({ "name": "test_wait_for_cancel", "arguments": {} });
    let tells =
        json!({ "name": "test_tool_with_progress", "arguments": {}, "_meta": { "progressToken": "t" } });
    hand.say(json!([
        { "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": waits },
        { "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": tells },
    ]))
    .await;
    assert_eq!(hand.hear().await["params"]["progressToken"], "t");
    let cancelled = json!({ "requestId": 1 });
    hand.say(json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancelled })).await;
    assert!(hand.answer(2).await["result"]["content"].is_array());
    assert_eq!(hand.end().await.0, "", "what was taken back is not answered");
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

/// The answer to `initialize` names the session in a header, so it must not come on a stream.
async fn a_server_that_starts_slowly(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let fixture = tests::programs::programs().fixture_conformance;
    let script = format!("sleep 11; exec {fixture} --era legacy");
    let slow = Registration::stdio("slow", "sh", &["-c", &script]).with("era", "legacy");
    app.as_operator().register(slow.with("startTimeoutMs", 60_000)).await;
    let mut hand = Hand::start(&to(&app, None), &["--server", "slow"]);
    assert!(hand.initialize().await["result"].is_object());
    let answer = hand.ask(1, "tools/list", json!({})).await;
    assert!(answer["result"]["tools"].is_array(), "{answer:#}");
}

/// A burst of progress and the answer, which the server writes at once, reach the client in two reads: the
/// official TypeScript clients drop what they read together with the answer.
async fn progress_is_read_before_the_answer(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let raw = Registration::stdio("raw", tests::programs::programs().fixture_raw, &[]);
    app.as_operator().register(raw).await;
    let mut hand = Hand::start(&to(&app, None), &[]);
    hand.initialize().await;
    let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":$TOKEN,"progress":1}}"#;
    let answer = r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[]}}"#;
    let text = tests::raw_server::packed(format!("{progress}\n{progress}\n{progress}\n{answer}").as_bytes());
    let mut apart = 0;
    for id in 1..=10 {
        let params =
            json!({ "name": "raw__raw", "arguments": { "text": text }, "_meta": { "progressToken": id } });
        hand.say(json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params })).await;
        for _ in 0..3 {
            assert_eq!(hand.hear().await["params"]["progressToken"], id);
        }
        // What is in the reader's buffer was read together with the last progress.
        apart += u32::from(hand.output.get_ref().buffer().is_empty());
        assert_eq!(hand.hear().await["id"], id);
    }
    assert!(apart >= 8, "{apart} of 10 answers were read apart, the machine's own delays aside");
}

/// The gateway begins a stream for an answer that takes 10 s; when its connection breaks after that, the
/// answer comes on another one.
async fn an_answer_is_fetched_after_a_cut(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    app.as_operator().register(Registration::conformance("conf", &["--slow", "13000"])).await;
    let url = app.anonymous_from_loopback().url("");
    let port = url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("the address has a port");
    let cut = Cut::before(port).await;
    let mut hand =
        Hand::start(&[("MCP_GATEWAY_URL".to_owned(), format!("http://127.0.0.1:{}", cut.port))], &[]);
    hand.initialize().await;
    let params = json!({ "name": "conf__test_simple_text", "arguments": {} });
    hand.say(json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params })).await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    cut.set(Line::Drops);
    tokio::time::sleep(Duration::from_millis(300)).await;
    cut.set(Line::Passes);
    let answer = hand.answer(1).await;
    assert!(answer["result"]["content"][0]["text"].is_string(), "{answer:#}");
    let (rest, code) = hand.end().await;
    assert_eq!((rest.as_str(), code), ("", Some(0)), "it comes once");
}

async fn a_large_message_passes(backend: Backend) {
    let app = TestApp::start(backend, Settings::new().env("MAX_BODY_BYTES", 16_000_000)).await;
    app.as_operator().register(Registration::rmcp("fix")).await;
    let mut hand = Hand::start(&to(&app, None), &[]);
    hand.initialize().await;
    let text = "x".repeat(7_000_000);
    let params = json!({ "name": "fix__echo", "arguments": { "nonce": text } });
    let answer = hand.ask(1, "tools/call", params).await;
    let said = answer["result"]["content"][0]["text"].as_str().expect("the tool answers");
    assert!(said.contains(&text), "all of it comes back: {} bytes", said.len());
}
