//! The record of executions: one row for every call, whatever its end, and none lost when the
//! gateway is killed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tests::{Actor, Backend, Case, Code, Registration, Settings, TestApp, Value, cases, json};

pub const CASES: &[Case] = cases![
    Every: every_outcome_is_a_row, filters_and_cursor, secrets_are_not_kept, an_open_call_is_running,
        a_killed_gateway_loses_no_call, tokens_are_counted;
    Once: a_row_says_everything, a_call_by_rest_is_a_row, reads_and_prompts_are_rows, large_arguments_are_capped,
        a_cancelled_call_is_a_row, a_bad_query_is_refused;
];

async fn every_outcome_is_a_row(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let server = operator.register(Registration::rmcp("fix")).await;
    operator.register(Registration::bad("own", &["--error"])).await;
    operator.register(Registration::bad("gone", &["--exit-at-once", "1"])).await;
    operator.register(Registration::bad("dies", &["--die-on-call"])).await;
    operator.register(Registration::bad("hangs", &["--hang"]).with("timeoutMs", 300)).await;
    let blocked = json!({ "serverId": server.id, "blockedTools": ["env"] });
    operator.post("/v1/mcp/configs", blocked).await.status(201);
    let agent = app.as_agent("alice").await;
    agent.call("fix__echo", json!({ "nonce": "n" })).await.tool_text();
    agent.call("fix__fail", json!({})).await.status(200);
    agent.call("own__bad", json!({})).await.status(200);
    agent.call("fix__env", json!({ "name": "PATH" })).await.refused(&[Code::DeniedByPolicy]);
    agent.call("hangs__bad", json!({})).await.refused(&[Code::TimedOut]);
    let down = [Code::UpstreamUnavailable, Code::UpstreamFailed];
    agent.call("gone__bad", json!({})).await.refused(&down);
    agent.call("dies__bad", json!({})).await.refused(&down);
    for (tool, server, outcome) in [
        ("echo", "fix", "ok"),
        ("fail", "fix", "tool_error"),
        ("bad", "own", "protocol_error"),
        ("env", "fix", "denied"),
        ("bad", "hangs", "timed_out"),
        ("bad", "gone", "unavailable"),
        ("bad", "dies", "unavailable"),
    ] {
        let rows = operator.executions(&format!("server={server}&tool={tool}")).await;
        assert_eq!(rows.len(), 1, "{server} {tool}: {rows:#?}");
        assert_eq!(rows[0]["outcome"], outcome, "{server} {tool}: {rows:#?}");
        assert!(rows[0]["finishedAt"].is_string(), "{rows:#?}");
        if !matches!(outcome, "ok" | "tool_error") {
            assert!(rows[0]["error"]["code"].is_string(), "a refusal carries its code: {rows:#?}");
            assert!(rows[0]["error"]["message"].is_string(), "and its sentence: {rows:#?}");
        }
    }
    let denied = operator.executions("outcome=denied").await;
    assert!(denied[0]["error"]["rule"].as_str().is_some_and(|rule| !rule.is_empty()), "{denied:#?}");
    let count = operator.executions("limit=2").await.len();
    assert_eq!(count, 7, "one row for each call and none more");
}

async fn a_row_says_everything(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    app.as_operator().register(Registration::rmcp("fix")).await;
    let alice = app.as_agent("alice").await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let answer = alice.header("traceparent", trace).call("fix__sleep", json!({ "ms": 120 })).await;
    answer.tool_text();
    let row = app.as_operator().executions("tool=sleep").await.remove(0);
    let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
    assert!(text("id").starts_with("exe_") && text("requestId").starts_with("req_"), "{row:#}");
    assert_eq!(Some(text("requestId").as_str()), answer.header("x-request-id"), "{}", answer.exchange());
    assert_eq!(text("traceId"), "0af7651916cd43dd8448eb211c80319c");
    assert!(text("serverId").starts_with("srv_") && text("agentId").starts_with("agt_"), "{row:#}");
    assert_eq!((text("serverSlug"), text("tool")), ("fix".into(), "sleep".into()));
    assert_eq!((text("kind"), text("callerKind")), ("tools/call".into(), "api_key".into()));
    let time = |name: &str| text(name).parse::<jiff::Timestamp>().expect("a time as RFC 3339 has it");
    let measured = time("finishedAt").duration_since(time("startedAt")).as_millis();
    assert!((120..20_000).contains(&measured), "{row:#}");
    let number = |name: &str| row[name].as_f64().unwrap_or(-1.0);
    assert!(number("durationMs") >= 120.0 && number("upstreamMs") >= 120.0, "{row:#}");
    assert!(number("upstreamMs") <= number("durationMs") && number("queueMs") >= 0.0, "{row:#}");
    assert_eq!(number("attempts"), 1.0, "{row:#}");
    assert!(number("resultBytes") > 20.0 && number("tokensIn") > 0.0 && number("tokensOut") > 0.0, "{row:#}");
    assert!(row["tokensEstimated"].is_boolean(), "{row:#}");
    assert_eq!(row["argumentsRedacted"].to_string().replace(['\\', '"', ' '], ""), "{ms:120}", "{row:#}");
    assert_eq!(text("argumentsDigest").trim_start_matches("sha256:").len(), 64, "{row:#}");
    assert!(row["error"].is_null(), "{row:#}");
    let one = app.as_operator().get(&format!("/v1/mcp/executions/{}", text("id"))).await.json_of(200);
    assert_eq!(one, row, "one execution is the same as in the list");
    let path = "/v1/mcp/executions/exe_00000000000070008000000000000000";
    app.as_operator().get(path).await.problem(Code::NotFound);
}

async fn filters_and_cursor(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let server = operator.register(Registration::rmcp("fix")).await;
    operator.register(Registration::rmcp("other")).await;
    let (alice, bob) = (app.as_agent("alice").await, app.as_agent("bob").await);
    let before = jiff::Timestamp::now();
    for number in 0..12 {
        alice.call("fix__echo", json!({ "nonce": format!("a-{number}") })).await.tool_text();
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    let middle = jiff::Timestamp::now();
    for number in 0..5 {
        bob.call("other__add", json!({ "a": number, "b": 1 })).await.tool_text();
    }
    bob.call("fix__fail", json!({})).await.status(200);
    let counts = [
        ("server=fix".to_owned(), 13),
        (format!("server={}", server.id), 13),
        ("server=other&tool=add".to_owned(), 5),
        ("tool=echo".to_owned(), 12),
        ("agent=bob".to_owned(), 6),
        ("agent=alice&tool=add".to_owned(), 0),
        ("outcome=tool_error".to_owned(), 1),
        ("kind=tools/call".to_owned(), 18),
        (format!("startedAfter={middle}"), 6),
        (format!("startedAfter={before}&startedBefore={middle}"), 12),
        (format!("startedBefore={before}"), 0),
        ("server=nobody".to_owned(), 0),
    ];
    for (query, expected) in counts {
        let rows = operator.executions(&query).await;
        assert_eq!(rows.len(), expected, "{query}: {rows:#?}");
    }
    let rows = operator.executions("limit=5").await;
    let ids: Vec<&str> = rows.iter().filter_map(|row| row["id"].as_str()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 18, "each row is on one page: {ids:?}");
    assert!(ids.is_sorted_by(|newer, older| newer > older), "the newest comes first: {ids:?}");
    let page = operator.get("/v1/mcp/executions?limit=5").await;
    page.must(
        page.json_of(200)["items"].as_array().is_some_and(|items| items.len() == 5),
        "a page has its size",
    );
}

async fn secrets_are_not_kept(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    operator.register(Registration::bad("raw", &[])).await;
    let agent = app.as_agent("alice").await;
    let arguments = json!({
        "nonce": "kept", "password": "s3cr3t-one", "Api-Key": "s3cr3t-two", "nested": { "ACCESS_TOKEN": "s3cr3t-three" },
        "list": [{ "authorization": "Bearer s3cr3t-four" }], "private_key": { "pem": "s3cr3t-five" },
        "to\\u006ben": "harmless", "tok\u{65}n": "s3cr3t-six",
    });
    agent.call("raw__echo", arguments).await.tool_text();
    let escaped = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"raw__echo",
        "arguments":{"nonce":"kept","pass\u0077ord":"s3cr3t-seven"}}}"#;
    agent.rpc_text(escaped).await.tool_text();
    let rows = operator.executions("tool=echo").await;
    assert_eq!(rows.len(), 2, "{rows:#?}");
    let text = serde_json::to_string(&rows).unwrap();
    assert!(text.contains("kept") && text.contains("[redacted]"), "{text}");
    assert!(!text.contains("s3cr3t"), "a secret is shown: {text}");
    for file in files_below(&app.data_dir()) {
        let bytes = std::fs::read(&file).unwrap_or_default();
        assert!(!bytes.windows(6).any(|window| window == b"s3cr3t"), "a secret is in {}", file.display());
    }
}

fn files_below(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

async fn an_open_call_is_running(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    operator.register(Registration::rmcp("fix")).await;
    let agent = app.as_agent("alice").await;
    agent.call("fix__count", json!({})).await.tool_text();
    let sleeping = {
        let agent = agent.clone();
        async move { agent.call("fix__sleep", json!({ "ms": 2500 })).await }
    };
    let looking = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let rows = operator.executions("tool=sleep").await;
        assert_eq!(rows.len(), 1, "{rows:#?}");
        assert_eq!(rows[0]["outcome"], "running", "{rows:#?}");
        assert!(rows[0]["finishedAt"].is_null(), "{rows:#?}");
    };
    let (answer, ()) = tokio::join!(sleeping, looking);
    answer.tool_text();
    let rows = operator.executions("tool=sleep").await;
    assert_eq!((rows.len(), &rows[0]["outcome"]), (1, &json!("ok")), "{rows:#?}");
}

/// Many callers at once, then `kill -9`: every call that reached the child has a row, an open one is
/// `unknown`, what was answered is `ok`, and no process is left.
async fn a_killed_gateway_loses_no_call(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    let log = app.path("calls.log");
    let log = log.to_str().unwrap().to_owned();
    let operator = app.as_operator();
    operator.register(Registration::bad("raw", &["--log", &log, "--grandchild"])).await;
    operator.register(Registration::bad("hangs", &["--hang", "--log", &log, "--ignore-eof"])).await;
    let agent = app.as_agent("alice").await;
    agent.call("raw__echo", json!({ "nonce": "warm" })).await.tool_text();
    let answered = std::rc::Rc::new(std::cell::RefCell::new(BTreeSet::new()));
    let callers: Vec<_> = (0..24).map(|caller| hammer(agent.clone(), caller, answered.clone())).collect();
    let hanging = {
        let agent = agent.clone();
        async move {
            let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
                "params": { "name": "hangs__bad", "arguments": { "nonce": "open" } } });
            let headers = [("content-type", "application/json")];
            let body = Some(body.to_string().into_bytes());
            drop(agent.try_send(reqwest::Method::POST, "/mcp/rpc", &headers, body).await);
        }
    };
    let killing = async {
        tokio::time::sleep(Duration::from_millis(2000)).await;
        assert!(app.children().len() >= 4, "the trial needs children to be left: {:#?}", app.children());
        app.kill().await;
        app.nothing_survives(Duration::from_secs(5)).await;
    };
    tokio::join!(killing, hanging, futures_util::future::join_all(callers));
    let delivered: BTreeSet<String> = std::fs::read_to_string(&log)
        .unwrap()
        .lines()
        .filter_map(|line| line.split_once(" call ")?.1.split_once(' ').map(|(_, nonce)| nonce.to_owned()))
        .collect();
    assert!(delivered.len() > 100, "the load was no load: {} calls", delivered.len());
    app.boot(None).await;
    let rows = app.as_operator().executions("limit=100").await;
    let plain =
        |row: &Value| (row["argumentsRedacted"].to_string().replace('\\', ""), row["outcome"].clone());
    let outcomes: Vec<(String, Value)> = rows.iter().map(plain).collect();
    let outcome = |nonce: &str| {
        let wanted = format!("\"{nonce}\"");
        outcomes.iter().find(|(arguments, _)| arguments.contains(&wanted)).map(|(_, outcome)| outcome.clone())
    };
    let missing: Vec<_> = delivered.iter().filter(|nonce| outcome(nonce).is_none()).collect();
    assert!(missing.is_empty(), "{} of {} calls have no row: {missing:?}", missing.len(), delivered.len());
    assert_eq!(outcome("open"), Some(json!("unknown")), "the call that hung");
    let known = |nonce: &String| matches!(outcome(nonce), Some(Value::String(end)) if end == "ok" || end == "unknown");
    let wrong: Vec<_> = delivered.iter().filter(|nonce| !known(nonce)).collect();
    assert!(wrong.is_empty(), "these are neither ok nor unknown: {wrong:?}");
    let answered = answered.take();
    let lost: Vec<_> = answered.iter().filter(|nonce| outcome(nonce).is_none()).collect();
    assert!(lost.is_empty(), "these were answered and have no row: {lost:?}");
    let running = app.as_operator().executions("outcome=running").await;
    assert!(running.is_empty(), "nothing runs after the restart: {running:#?}");
    let ids: BTreeSet<&str> = rows.iter().filter_map(|row| row["id"].as_str()).collect();
    assert_eq!(ids.len(), rows.len(), "no row is there twice");
}

async fn hammer(agent: Actor, caller: u32, answered: std::rc::Rc<std::cell::RefCell<BTreeSet<String>>>) {
    for number in 0.. {
        let nonce = format!("n-{caller}-{number}");
        let body = json!({ "jsonrpc": "2.0", "id": number, "method": "tools/call",
            "params": { "name": "raw__echo", "arguments": { "nonce": nonce } } });
        let headers = [("content-type", "application/json")];
        let sent =
            agent.try_send(reqwest::Method::POST, "/mcp/rpc", &headers, Some(body.to_string().into_bytes()));
        let Ok(answer) = sent.await else { return };
        answer.must(answer.tool_text() == nonce, "an answer is its caller's own");
        answered.borrow_mut().insert(nonce);
    }
}

async fn a_call_by_rest_is_a_row(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    operator.register(Registration::rmcp("fix")).await;
    operator.register(Registration::bad("hangs", &["--hang"])).await;
    let agent = app.as_agent("alice").await;
    let execute = |server: &str, tool: &str, arguments: Value| {
        agent.post("/v1/mcp/execute", json!({ "server": server, "tool": tool, "arguments": arguments }))
    };
    let answer = execute("fix", "echo", json!({ "nonce": "n" })).await;
    let body = answer.json_of(200);
    answer.must(body["outcome"] == "ok", "it says how it ended");
    answer.must(body["result"]["content"][0]["text"] == "n", "it carries the result");
    answer.must(body["durationMs"].is_number() && body["tokensUsed"].is_u64(), "it says what it took");
    let path = format!("/v1/mcp/executions/{}", body["executionId"].as_str().unwrap_or_default());
    let row = operator.get(&path).await.json_of(200);
    assert_eq!((&row["outcome"], &row["tool"]), (&json!("ok"), &json!("echo")), "{row:#}");
    let answer = execute("fix", "fail", json!({})).await;
    answer.must(answer.json_of(200)["outcome"] == "tool_error", "a failed tool is an outcome, not a status");
    let timed = json!({ "server": "hangs", "tool": "bad", "arguments": {}, "timeoutMs": 200 });
    let answer = agent.post("/v1/mcp/execute", timed).await;
    let body = answer.json_of(200);
    answer.must(body["outcome"] == "timed_out" && body["error"]["code"] == "timed_out", "so is a time-out");
    answer.must(answer.took < Duration::from_secs(3), "and it comes in time");
    execute("fix", "nothing", json!({})).await.problem(Code::UnknownTool);
    execute("nobody", "echo", json!({})).await.problem(Code::UnknownServer);
}

async fn reads_and_prompts_are_rows(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    operator.register(Registration::rmcp("fix")).await;
    let agent = app.as_agent("alice").await;
    let listed = agent.rpc("resources/list", json!({})).await.result();
    let uri = listed["resources"][0]["uri"].clone();
    agent.rpc("resources/read", json!({ "uri": uri })).await.result();
    agent.rpc("prompts/get", json!({ "name": "fix__greet" })).await.result();
    let reads = operator.executions("kind=resources/read").await;
    assert_eq!((reads.len(), &reads[0]["outcome"]), (1, &json!("ok")), "{reads:#?}");
    assert_eq!(reads[0]["tool"], "fixture://greeting", "{reads:#?}");
    let prompts = operator.executions("kind=prompts/get").await;
    assert_eq!((prompts.len(), &prompts[0]["tool"]), (1, &json!("greet")), "{prompts:#?}");
}

async fn large_arguments_are_capped(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    operator.register(Registration::bad("raw", &[])).await;
    let agent = app.as_agent("alice").await;
    let nonce = "ü".repeat(100_000);
    agent.call("raw__echo", json!({ "nonce": nonce })).await.tool_text();
    let row = operator.executions("tool=echo").await.remove(0);
    let kept = row["argumentsRedacted"].to_string().len();
    assert!((1000..8192).contains(&kept), "{kept} bytes of the arguments are kept");
    assert!(row["resultBytes"].as_u64().is_some_and(|bytes| bytes > 200_000), "{row:#}");
    assert_eq!(row["tokensEstimated"], true, "{row:#}");
}

/// Counts of o200k_base for these texts, by the reference implementation in Python.
async fn tokens_are_counted(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    operator.register(Registration::rmcp("fix")).await;
    let text = "internationalization is straightforward";
    let until = Instant::now() + Duration::from_secs(30);
    // The first calls are estimated, while the tokenizer is loaded.
    let row = loop {
        operator.call("fix__echo", json!({ "nonce": text })).await.tool_text();
        let id = operator.executions("tool=echo&limit=1").await[0]["id"].as_str().unwrap().to_owned();
        let row = operator.get(&format!("/v1/mcp/executions/{id}")).await.json_of(200);
        if row["tokensEstimated"] == false {
            break row;
        }
        assert_eq!((&row["tokensIn"], &row["tokensEstimated"]), (&json!(13), &json!(true)), "{row:#}");
        assert!(Instant::now() < until, "the tokenizer is loaded by now: {row:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!((&row["tokensIn"], &row["tokensOut"]), (&json!(8), &json!(21)), "{row:#}");
    operator.call("fix__echo", json!({ "nonce": "x".repeat(5_000) })).await.tool_text();
    let row = operator.executions("tool=echo&limit=1").await.remove(0);
    assert_eq!((&row["tokensIn"], &row["tokensEstimated"]), (&json!(1253), &json!(true)), "{row:#}");
    let rows = operator.executions("tool=echo").await;
    let sum = |name: &str| rows.iter().filter_map(|row| row[name].as_u64()).sum::<u64>();
    let stats = operator.get("/v1/mcp/executions/stats?by=tool").await.json_of(200);
    let figures = &stats["items"][0];
    assert_eq!(figures["tokensIn"], sum("tokensIn"), "{stats:#}");
    assert_eq!(figures["tokensOut"], sum("tokensOut"), "{stats:#}");
}

async fn a_cancelled_call_is_a_row(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    operator.register(Registration::rmcp("fix")).await;
    let agent = app.as_agent("alice").await;
    agent.call("fix__count", json!({})).await.tool_text();
    let calling = agent.call("fix__sleep", json!({ "ms": 30_000 }));
    assert!(tokio::time::timeout(Duration::from_millis(300), calling).await.is_err());
    operator
        .until("/v1/mcp/executions?tool=sleep", Duration::from_secs(5), |answer| {
            answer.json_of(200)["items"][0]["outcome"] == "cancelled"
        })
        .await;
}

async fn a_bad_query_is_refused(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    for query in
        ["outcome=nonsense", "cursor=garbage", "startedAfter=yesterday", "limit=-1", "limit=x", "kind=x"]
    {
        let answer = operator.get(&format!("/v1/mcp/executions?{query}")).await;
        let refused = matches!(answer.status, 400 | 422);
        answer.must(refused, "a filter that cannot be read is refused");
        answer.must(answer.json()["code"].is_string(), "with a code");
    }
}
