//! How often somebody may ask: exactly so many, and an answer that says when to come back.

use std::time::Duration;

use tests::{
    Actor, Answer, Backend, Case, Code, McpClient, Registration, Settings, TestApp, Value, cases, json,
};

pub const CASES: &[Case] = cases![
    Every: exactly_a_hundred_pass, a_batch_counts_each_request, agents_do_not_share_a_limit, a_limit_refills,
        protocol_messages_have_a_wider_limit, a_session_for_each_call;
    Once: what_does_not_count, giving_back_is_never_refused, a_call_over_the_limit_is_a_result,
        a_call_over_the_limit_is_429_where_it_is_set, rest_has_a_bucket_of_its_own, zero_is_no_limit, a_batch_over_the_rest,
        a_server_takes_so_many_at_once;
    Postgres: replicas_share_a_limit;
];

/// Sends so many requests at once, and gives their answers.
async fn burst(actor: &Actor, count: usize) -> Vec<Answer> {
    futures_util::future::join_all((0..count).map(|_| actor.rpc("tools/list", json!({})))).await
}

fn passed(answers: &[Answer]) -> usize {
    answers.iter().filter(|answer| answer.status == 200).count()
}

#[track_caller]
fn says_when_to_come_back(answer: &Answer) {
    answer.status(429);
    let error = answer.refused(&[Code::RateLimited]);
    let seconds = answer.header("retry-after").and_then(|value| value.parse::<u64>().ok());
    answer.must(seconds.is_some_and(|seconds| (1..=60).contains(&seconds)), "Retry-After is in seconds");
    answer.must(error["data"]["retryAfterMs"].is_u64(), "the error carries the same fact");
    answer.must(answer.header("ratelimit").is_some(), "the RateLimit header is there");
    answer.must(answer.header("ratelimit-policy").is_some(), "so is the policy");
}

async fn exactly_a_hundred_pass(backend: Backend) {
    let app = TestApp::start(backend, Settings::new().with_stock_limits()).await;
    let agent = app.as_agent("alice").await;
    let first = agent.rpc("tools/list", json!({})).await;
    first.must(first.status == 200 && first.header("ratelimit").is_some(), "an answer says what is left");
    let answers = burst(&agent, 110).await;
    // GCRA gives one back every 600 ms; the burst must not last that long for an exact count.
    let longest = answers.iter().map(|answer| answer.took).max().unwrap_or_default();
    let refilled = usize::try_from(longest.as_millis() / 600 + 1).unwrap();
    let passed = passed(&answers) + 1;
    assert!((100..=100 + refilled).contains(&passed), "{passed} passed in {longest:?}");
    says_when_to_come_back(answers.iter().find(|answer| answer.status != 200).expect("some are refused"));
}

async fn a_batch_counts_each_request(backend: Backend) {
    let app = TestApp::start(backend, Settings::new().with_stock_limits()).await;
    let agent = app.as_agent("alice").await;
    let batch = |size: u32| {
        Value::Array(
            (0..size).map(|id| json!({ "jsonrpc": "2.0", "id": id, "method": "tools/list" })).collect(),
        )
    };
    agent.rpc_text(&batch(60).to_string()).await.status(200);
    agent.rpc_text(&batch(39).to_string()).await.status(200);
    let answers = burst(&agent, 10).await;
    let passed = passed(&answers);
    assert!((1..=3).contains(&passed), "99 of 100 are used by the batches, and {passed} more passed");
}

async fn a_batch_over_the_rest(backend: Backend) {
    let settings = Settings::new().env("RATE_LIMIT_MAX_REQUESTS", 20).env("RATE_LIMIT_WINDOW_MS", 60_000);
    let app = TestApp::start(backend, settings).await;
    let agent = app.as_agent("alice").await;
    let calls: Vec<Value> =
        (0..50).map(|id| json!({ "jsonrpc": "2.0", "id": id, "method": "tools/list" })).collect();
    let answer = agent.rpc_text(&Value::Array(calls).to_string()).await;
    answer.status(429);
    says_when_to_come_back(&answer);
}

async fn agents_do_not_share_a_limit(backend: Backend) {
    let settings = Settings::new().env("RATE_LIMIT_MAX_REQUESTS", 5).env("RATE_LIMIT_WINDOW_MS", 600_000);
    let app = TestApp::start(backend, settings).await;
    let local = app.anonymous_from_loopback();
    for name in ["one", "two", "three"] {
        let answers = burst(&local.header("x-agent-id", name), 8).await;
        assert_eq!(passed(&answers), 5, "{name} has five of its own");
    }
    let again = burst(&local.header("x-agent-id", "one"), 1).await;
    says_when_to_come_back_eventually(&again[0]);
}

#[track_caller]
fn says_when_to_come_back_eventually(answer: &Answer) {
    answer.status(429).must(answer.header("retry-after").is_some(), "it says when");
}

async fn a_limit_refills(backend: Backend) {
    let settings = Settings::new().env("RATE_LIMIT_MAX_REQUESTS", 4).env("RATE_LIMIT_WINDOW_MS", 2_000);
    let app = TestApp::start(backend, settings).await;
    let agent = app.anonymous_from_loopback().header("x-agent-id", "one");
    assert!(passed(&burst(&agent, 8).await) >= 4);
    tokio::time::sleep(Duration::from_millis(2_200)).await;
    let passed = passed(&burst(&agent, 8).await);
    assert!((4..=5).contains(&passed), "after a window the whole burst is there again: {passed}");
}

async fn what_does_not_count(backend: Backend) {
    let settings = Settings::new().env("RATE_LIMIT_MAX_REQUESTS", 5).env("RATE_LIMIT_WINDOW_MS", 600_000);
    let app = TestApp::start(backend, settings).await;
    let local = app.anonymous_from_loopback();
    for _ in 0..20 {
        local.get("/health").await.status(200);
        local.get("/ready").await.status(200);
        let docs = local.get("/docs/").await;
        docs.must(docs.status != 429, "reading the documentation does not count");
    }
    assert_eq!(passed(&burst(&local, 8).await), 5, "all five are left");
    local.get("/health").await.status(200);
}

async fn rest_has_a_bucket_of_its_own(backend: Backend) {
    let settings = Settings::new().env("RATE_LIMIT_MAX_REQUESTS", 5).env("RATE_LIMIT_WINDOW_MS", 600_000);
    let app = TestApp::start(backend, settings).await;
    let local = app.anonymous_from_loopback();
    assert_eq!(passed(&burst(&local, 8).await), 5);
    let mut listed = 0;
    for _ in 0..8 {
        let answer = local.get("/v1/mcp/servers").await;
        match answer.status {
            200 => listed += 1,
            _ => {
                answer.problem(Code::RateLimited);
                answer.must(answer.header("retry-after").is_some(), "it says when");
            }
        }
    }
    assert_eq!(listed, 5, "REST has as many of its own");
}

async fn zero_is_no_limit(backend: Backend) {
    let app = TestApp::start(backend, Settings::new().env("RATE_LIMIT_MAX_REQUESTS", 0)).await;
    let agent = app.as_agent("alice").await;
    assert_eq!(passed(&burst(&agent, 300).await), 300);
}

async fn a_server_takes_so_many_at_once(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    app.as_operator().register(Registration::rmcp("fix").with("maxConcurrency", 2)).await;
    let agent = app.as_agent("alice").await;
    agent.call("fix__count", json!({})).await.tool_text();
    let begun = std::time::Instant::now();
    let calls =
        futures_util::future::join_all((0..4).map(|_| agent.call("fix__sleep", json!({ "ms": 400 })))).await;
    let took = begun.elapsed();
    let done = calls.iter().filter(|answer| answer.json()["result"].is_object()).count();
    assert_eq!(done, 4, "those beyond the limit wait for a place");
    assert!(took >= Duration::from_millis(790), "two at once is the limit: {took:?}");
}

async fn replicas_share_a_limit(backend: Backend) {
    let settings = || Settings::new().env("RATE_LIMIT_MAX_REQUESTS", 40).env("RATE_LIMIT_WINDOW_MS", 600_000);
    let one = TestApp::start(backend, settings()).await;
    let other = one.start_beside(settings()).await;
    let agent = one.as_agent("alice").await;
    let secret = agent.headers()[0].1.clone();
    let same = other.with_key(&secret);
    let (here, there) = tokio::join!(burst(&agent, 35), burst(&same, 35));
    let passed = passed(&here) + passed(&there);
    assert_eq!(passed, 40, "forty pass, whoever is asked");
}

/// A limit that does not refill during a trial.
fn narrow(max: u32) -> Settings {
    Settings::new().env("RATE_LIMIT_MAX_REQUESTS", max).env("RATE_LIMIT_WINDOW_MS", 3_600_000)
}

async fn protocol_messages_have_a_wider_limit(backend: Backend) {
    let app = TestApp::start(backend, narrow(5)).await;
    let local = app.anonymous_from_loopback();
    for round in 0..50 {
        local.rpc("ping", json!({})).await.status(200);
        if round < 5 {
            local.rpc("tools/list", json!({})).await.status(200);
        }
    }
    local.rpc("ping", json!({})).await.status(429).refused(&[Code::RateLimited]);
    local.rpc("tools/list", json!({})).await.status(429).refused(&[Code::RateLimited]);
}

/// What the adapters of LangChain, LlamaIndex and AutoGen send for each call.
async fn a_session_for_each_call(backend: Backend) {
    let app = TestApp::start(backend, narrow(20)).await;
    let agent = app.as_agent("alice").await;
    for _ in 0..10 {
        let client = McpClient::legacy(&agent, "/mcp", "2025-11-25", json!({})).await;
        assert_eq!(client.listen(None).await.status, 200);
        client.open("tools/call", add()).await.result().await;
        client.result("tools/list", json!({})).await;
        assert_eq!(client.delete().await.status, 204);
    }
}

fn add() -> Value {
    json!({ "name": "calculator__add", "arguments": { "a": 1, "b": 2 } })
}

async fn giving_back_is_never_refused(backend: Backend) {
    let app = TestApp::start(backend, narrow(1)).await;
    let agent = app.anonymous_from_loopback().header("x-agent-id", "alice");
    let client = McpClient::legacy(&agent, "/mcp", "2025-11-25", json!({})).await;
    let answers = futures_util::future::join_all((0..10).map(|_| agent.rpc("ping", json!({})))).await;
    assert_eq!(passed(&answers), 8, "the handshake took two of ten");
    for _ in 0..5 {
        client.notify("notifications/cancelled", json!({ "requestId": 1 })).await;
    }
    let unsubscribed = client.open("resources/unsubscribe", json!({ "uri": "time+x://y" })).await;
    assert_eq!(unsubscribed.status, 200, "{unsubscribed:?}");
    assert_eq!(client.open("ping", json!({})).await.status, 429, "what is no giving back has its limit");
    assert_eq!(client.listen(None).await.status, 429);
    assert_eq!(client.delete().await.status, 204);
}

async fn a_call_over_the_limit_is_a_result(backend: Backend) {
    let app = TestApp::start(backend, narrow(1)).await;
    let agent = app.anonymous_from_loopback().header("x-agent-id", "alice");
    let legacy = McpClient::legacy(&agent, "/mcp", "2025-11-25", json!({})).await;
    let modern = McpClient::modern(&agent, "/mcp/s/calculator");
    legacy.open("tools/call", add()).await.result().await;
    for (client, name) in [(&legacy, "calculator__add"), (&modern, "add")] {
        let mut sent = client.open("tools/call", json!({ "name": name, "arguments": {} })).await;
        let result = sent.result().await;
        assert!(sent.status == 200 && sent.header("retry-after").is_some(), "{sent:?}");
        assert_eq!(result["isError"], true, "{result}");
        assert_eq!(result.get("resultType").is_some(), client.is_modern(), "{result}");
        let text = result["content"][0]["text"].as_str().unwrap_or_default();
        assert!(text.contains("limit of 1 requests") && text.contains("try again in"), "{text}");
        let facts = &result["_meta"]["trunkline/refusal"];
        assert!(facts["code"] == "rate_limited" && facts["retryAfterMs"].is_u64(), "{facts}");
        // What is no tool call has no other form.
        let mut listed = client.open("tools/list", json!({})).await;
        assert_eq!((listed.status, &listed.error().await["data"]["code"]), (429, &json!("rate_limited")));
    }
    agent.call("calculator__add", json!({ "a": 1, "b": 2 })).await.status(429).refused(&[Code::RateLimited]);
}

async fn a_call_over_the_limit_is_429_where_it_is_set(backend: Backend) {
    let app = TestApp::start(backend, narrow(1).env("LIMIT_REFUSALS", "http")).await;
    let agent = app.anonymous_from_loopback().header("x-agent-id", "alice");
    let client = McpClient::legacy(&agent, "/mcp", "2025-11-25", json!({})).await;
    client.open("tools/call", add()).await.result().await;
    let mut refused = client.open("tools/call", add()).await;
    assert!(refused.status == 429 && refused.header("retry-after").is_some(), "{refused:?}");
    assert_eq!(refused.error().await["data"]["code"], "rate_limited");
}
