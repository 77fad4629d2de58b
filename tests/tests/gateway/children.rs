//! Children that misbehave: the caller gets a clear error within the deadline, another server is
//! unharmed meanwhile, and the bad one comes back when the cause is gone.

use std::time::{Duration, Instant};

use tests::{Actor, Backend, Case, Code, Registered, Registration, Settings, TestApp, cases, json, proc};

pub const CASES: &[Case] = cases![
    Every: a_child_that_dies_mid_call;
    Once: what_never_answers_times_out, what_is_odd_is_tolerated, a_child_that_exits_at_once_shows_its_reason,
        a_child_that_hangs_at_its_start, lines_without_an_end, big_lines, a_flood_harms_nobody,
        a_slow_start_is_waited_for_once, a_program_that_is_not_there, a_late_answer_is_nobody_elses,
        a_stubborn_grandchild_is_killed_at_stop, the_environment_is_clean, an_idle_child_is_stopped,
        one_child_for_all_agents, a_breaker_opens_and_closes, a_stubborn_child_does_not_outlive_sigterm;
];

/// What a call may take beyond its deadline on a loaded machine.
const GRACE: Duration = Duration::from_secs(3);

const BROKEN: [Code; 3] = [Code::UpstreamFailed, Code::UpstreamUnavailable, Code::CircuitOpen];

struct Pair {
    app: TestApp,
    agent: Actor,
    bad: Registered,
}

/// A well-behaved server `fix` and a bad one, `bad`, whose calls have 700 ms.
async fn pair(backend: Backend, arguments: &[&str]) -> Pair {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    operator.register(Registration::rmcp("fix")).await;
    let bad = operator.register(Registration::bad("bad", arguments).with("timeoutMs", 700)).await;
    let agent = app.as_agent("alice").await;
    agent.call("fix__count", json!({})).await.tool_text();
    Pair { app, agent, bad }
}

impl Pair {
    /// The other server answers at once while the bad one is being called.
    async fn bad_call_harms_nobody(&self) -> tests::Answer {
        let bad = self.agent.call("bad__bad", json!({ "nonce": "b" }));
        let others = async {
            for number in 0..10 {
                let nonce = format!("good-{number}");
                let answer = self.agent.call("fix__echo", json!({ "nonce": nonce })).await;
                answer.must(answer.tool_text() == nonce, "the other server answers");
                answer.must(answer.took < Duration::from_secs(2), "and is not held up");
            }
        };
        tokio::join!(bad, others).0
    }

    /// The bad server answers its good tool again, at the latest after a back-off.
    async fn recovers(&self) {
        let until = Instant::now() + Duration::from_secs(40);
        loop {
            let answer = self.agent.call("bad__echo", json!({ "nonce": "back" })).await;
            if answer.json_of(200)["result"]["content"][0]["text"] == "back" {
                return;
            }
            answer.must(Instant::now() < until, "the server should have come back by now");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn a_child_that_dies_mid_call(backend: Backend) {
    for manner in ["--die-on-call", "--half"] {
        let pair = pair(backend, &[manner]).await;
        pair.agent.call("bad__echo", json!({ "nonce": "before" })).await.tool_text();
        let answer = pair.bad_call_harms_nobody().await;
        let error = answer.refused(&BROKEN);
        answer.must(answer.took < GRACE, "death is seen at once, not at the deadline");
        answer
            .must(error["message"].as_str().is_some_and(|said| !said.contains("panic")), "it is a sentence");
        pair.recovers().await;
    }
}

async fn what_never_answers_times_out(backend: Backend) {
    for manner in ["--hang", "--garbage"] {
        let pair = pair(backend, &[manner]).await;
        pair.agent.call("bad__echo", json!({ "nonce": "before" })).await.tool_text();
        let answer = pair.bad_call_harms_nobody().await;
        answer.refused(&[Code::TimedOut, Code::UpstreamFailed]);
        answer.must(answer.took < Duration::from_millis(700) + GRACE, "the deadline is kept");
        if manner == "--hang" {
            answer.refused(&[Code::TimedOut]);
            answer.must(answer.took >= Duration::from_millis(690), "a call has its whole time");
        }
        pair.recovers().await;
    }
}

async fn what_is_odd_is_tolerated(backend: Backend) {
    let manners: [&[&str]; 7] = [
        &["--banner"],
        &["--crlf"],
        &["--twice"],
        &["--wrong-id"],
        &["--garbage-first"],
        &["--stderr-flood"],
        &["--banner", "--crlf", "--twice"],
    ];
    for manner in manners {
        let pair = pair(backend, manner).await;
        pair.app.as_operator().patch(&pair.bad.path(""), json!({ "timeoutMs": 20_000 })).await.status(200);
        for nonce in ["one", "two", "three"] {
            let answer = pair.agent.call("bad__bad", json!({ "nonce": nonce })).await;
            answer.must(answer.tool_text() == nonce, &format!("{manner:?} is tolerated"));
        }
    }
    let pair = pair(backend, &["--ask-roots"]).await;
    let answer = pair.agent.call("bad__bad", json!({})).await;
    let codes = answer.tool_text();
    answer.must(codes == "-32601 -32601 -32601", "what was not offered is answered with an error");
}

async fn a_child_that_exits_at_once_shows_its_reason(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (gate, log) = (app.path("fixed"), app.path("starts"));
    let (gate, log) = (gate.to_str().unwrap(), log.to_str().unwrap());
    let operator = app.as_operator();
    let registration = Registration::bad("bad", &["--exit-at-once", "173", "--unless", gate, "--log", log]);
    let bad = operator.register(registration).await;
    operator.register(Registration::rmcp("fix")).await;
    let agent = app.as_agent("alice").await;
    let pair = Pair { app, agent, bad };
    let answer = pair.bad_call_harms_nobody().await;
    let error = answer.refused(&BROKEN);
    answer.must(answer.took < GRACE, "nobody waits for a program that has ended");
    let why = error["data"]["reason"].as_str().unwrap_or_default().to_owned();
    answer.must(why.contains("173"), "the error says with which code it ended");
    let begun = Instant::now();
    let mut calls = 0;
    while begun.elapsed() < Duration::from_secs(3) {
        pair.agent.call("bad__bad", json!({})).await.refused(&BROKEN);
        calls += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let starts = std::fs::read_to_string(log).unwrap().lines().count();
    assert!(starts < 12 && starts < calls, "{starts} starts in 3 s for {calls} calls is no back-off");
    let health = operator.post(&pair.bad.path("/health"), json!({})).await;
    let body = health.json_of(200);
    health.must(body["state"] == "unhealthy" || body["state"] == "degraded", "its state is visible");
    let server = operator.get(&pair.bad.path("")).await;
    let body = server.json_of(200);
    let reason = body["stateReason"].as_str().unwrap_or_default().to_owned();
    server.must(reason.contains("173"), "the reason for the state says how it ended");
    server.must(body["stateSince"].is_string(), "and since when it is so");
    let logs = operator.get(&pair.bad.path("/logs")).await;
    logs.must(logs.json_of(200)["items"].to_string().contains("it exits at once"), "its stderr can be read");
    std::fs::write(gate, "").unwrap();
    operator.post(&pair.bad.path("/restart"), json!({})).await.must_be_ok();
    pair.recovers().await;
}

/// What answers with any success.
trait MustBeOk {
    fn must_be_ok(&self);
}

impl MustBeOk for tests::Answer {
    #[track_caller]
    fn must_be_ok(&self) {
        self.must((200..300).contains(&self.status), "this should succeed");
    }
}

async fn a_child_that_hangs_at_its_start(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let gate = app.path("fixed");
    let registration = Registration::bad("bad", &["--hang-at-start", "--unless", gate.to_str().unwrap()])
        .with("startTimeoutMs", 800)
        .with("timeoutMs", 5_000);
    let bad = app.as_operator().register(registration).await;
    app.as_operator().register(Registration::rmcp("fix")).await;
    let agent = app.as_agent("alice").await;
    let pair = Pair { app, agent, bad };
    let answer = pair.bad_call_harms_nobody().await;
    let error = answer.refused(&[Code::UpstreamUnavailable]);
    answer.must(error["data"]["hint"].to_string().contains("startTimeoutMs"), "it says which setting");
    answer.must(answer.took < Duration::from_millis(800) + GRACE, "the time-out of the start is kept");
    std::fs::write(gate, "").unwrap();
    pair.recovers().await;
}

async fn lines_without_an_end(backend: Backend) {
    let pair = pair(backend, &["--no-newline-flood"]).await;
    let answer = pair.bad_call_harms_nobody().await;
    answer.refused(&[Code::UpstreamFailed, Code::UpstreamUnavailable, Code::TimedOut]);
    answer.must(answer.took < Duration::from_millis(700) + GRACE, "the deadline is kept");
    memory_is_bounded(&pair).await;
    pair.recovers().await;
}

async fn a_flood_harms_nobody(backend: Backend) {
    let pair = pair(backend, &["--flood"]).await;
    let answer = pair.bad_call_harms_nobody().await;
    answer.refused(&[Code::TimedOut, Code::UpstreamFailed, Code::UpstreamUnavailable]);
    answer.must(answer.took < Duration::from_millis(700) + GRACE, "the deadline is kept");
    tokio::time::sleep(Duration::from_secs(1)).await;
    memory_is_bounded(&pair).await;
    pair.bad_call_harms_nobody().await;
    // It floods for ever and does not read: only a stop ends that.
    pair.app.as_operator().post(&pair.bad.path("/restart"), json!({})).await.must_be_ok();
    pair.recovers().await;
}

async fn memory_is_bounded(pair: &Pair) {
    let held = proc::resident_bytes(pair.app.process().pid()).unwrap_or_default();
    assert!(held > 0 && held < 300 << 20, "the gateway holds {} MB", held >> 20);
}

async fn big_lines(backend: Backend) {
    let pair = pair(backend, &["--big-line", "10000000"]).await;
    let operator = pair.app.as_operator();
    operator.patch(&pair.bad.path(""), json!({ "timeoutMs": 30_000 })).await.status(200);
    let answer = pair.bad_call_harms_nobody().await;
    answer.must(answer.tool_text().len() == 10_000_000, "a line of 10 MB passes whole");
    let registration = Registration::bad("huge", &["--big-line", "40000000"]).with("timeoutMs", 30_000);
    operator.register(registration).await;
    let answer = pair.agent.call("huge__bad", json!({})).await;
    answer.refused(&[Code::UpstreamFailed]);
    let said = answer.text().to_lowercase();
    answer.must(said.contains("line") || said.contains("large") || said.contains("limit"), "it says why");
    pair.recovers().await;
}

async fn a_slow_start_is_waited_for_once(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let log = app.path("starts");
    let arguments = ["--slow-start", "900", "--log", log.to_str().unwrap()];
    let slow = Registration::bad("slow", &arguments).with("timeoutMs", 5_000);
    app.as_operator().register(slow).await;
    let agent = app.as_agent("alice").await;
    let calls = (0..20).map(|number| {
        let (agent, nonce) = (agent.clone(), format!("n-{number}"));
        async move {
            let answer = agent.call("slow__echo", json!({ "nonce": nonce })).await;
            answer.must(answer.tool_text() == nonce, "everybody gets their answer after the start");
        }
    });
    futures_util::future::join_all(calls).await;
    let starts = std::fs::read_to_string(log).unwrap().lines().filter(|line| line.ends_with("start")).count();
    assert_eq!(starts, 1, "one start serves all who wait for it");
}

async fn a_program_that_is_not_there(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    operator.register(Registration::stdio("none", "no-such-program-anywhere", &[])).await;
    let agent = app.as_agent("alice").await;
    let answer = agent.call("none__echo", json!({})).await;
    answer.refused(&[Code::UpstreamUnavailable, Code::UnknownTool, Code::CircuitOpen]);
    let answer =
        agent.post("/v1/mcp/execute", json!({ "server": "none", "tool": "x", "arguments": {} })).await;
    let body = answer.json_of(200);
    answer.must(body["outcome"] == "unavailable", "the server cannot be started");
    answer.must(body["error"].to_string().contains("no-such-program-anywhere"), "it names the program");
}

async fn a_late_answer_is_nobody_elses(backend: Backend) {
    let pair = pair(backend, &["--late", "1200"]).await;
    pair.agent.call("bad__bad", json!({ "nonce": "late" })).await.refused(&[Code::TimedOut]);
    pair.app.as_operator().patch(&pair.bad.path(""), json!({ "timeoutMs": 10_000 })).await.status(200);
    for number in 0..5 {
        let nonce = format!("after-{number}");
        let answer = pair.agent.call("bad__echo", json!({ "nonce": nonce })).await;
        answer.must(answer.tool_text() == nonce, "the late answer goes to nobody");
    }
}

async fn a_stubborn_grandchild_is_killed_at_stop(backend: Backend) {
    let pair = pair(backend, &["--ignore-eof"]).await;
    pair.agent.call("bad__echo", json!({ "nonce": "n" })).await.tool_text();
    let stubborn = |app: &TestApp| {
        let of_bad = |process: &proc::Process| {
            process.command.contains("trap") || process.command.contains("fixture-bad")
        };
        app.children().into_iter().filter(of_bad).collect::<Vec<_>>()
    };
    assert!(stubborn(&pair.app).len() >= 2, "the trial needs both: {:#?}", pair.app.children());
    pair.app.as_operator().post(&pair.bad.path("/stop"), json!({})).await.must_be_ok();
    let until = Instant::now() + Duration::from_secs(20);
    while !stubborn(&pair.app).is_empty() {
        assert!(Instant::now() < until, "still alive: {:#?}", stubborn(&pair.app));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    pair.agent.call("bad__echo", json!({ "nonce": "n" })).await.refused(&[Code::ServerStopped]);
    pair.agent.call("fix__echo", json!({ "nonce": "n" })).await.tool_text();
    pair.app.as_operator().post(&pair.bad.path("/start"), json!({})).await.must_be_ok();
    pair.recovers().await;
}

async fn a_stubborn_child_does_not_outlive_sigterm(backend: Backend) {
    let mut pair = pair(backend, &["--ignore-eof"]).await;
    pair.agent.call("bad__echo", json!({ "nonce": "n" })).await.tool_text();
    let status = pair.app.terminate(Duration::from_secs(30)).await;
    assert!(status.success(), "{status}");
    pair.app.nothing_survives(Duration::from_secs(2)).await;
}

async fn the_environment_is_clean(backend: Backend) {
    let settings = Settings::new()
        .env("JWT_SECRET", "a secret that is longer than thirty-two characters")
        .env("CHILD_ENV_PASSTHROUGH", "ALLOWED_THROUGH")
        .env("ALLOWED_THROUGH", "yes")
        .env("NOT_ALLOWED_THROUGH", "no")
        .env("LANG", "C.UTF-8");
    let app = TestApp::start(backend, settings).await;
    let own = json!({ "OWN": "value with spaces = and ü", "PATH_LIKE": "$HOME" });
    app.as_operator().register(Registration::rmcp("fix").with("env", own)).await;
    let operator = app.as_operator();
    for (name, expected) in [
        ("OWN", "value with spaces = and ü"),
        ("PATH_LIKE", "$HOME"),
        ("ALLOWED_THROUGH", "yes"),
        ("LANG", "C.UTF-8"),
        ("NOT_ALLOWED_THROUGH", "(unset)"),
        ("JWT_SECRET", "(unset)"),
        ("DATABASE_URL", "(unset)"),
        ("DATA_DIR", "(unset)"),
    ] {
        let answer = operator.call("fix__env", json!({ "name": name })).await;
        answer.must(answer.tool_text() == expected, &format!("{name} should be {expected}"));
    }
}

async fn an_idle_child_is_stopped(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    app.as_operator().register(Registration::rmcp("fix").with("idleTimeoutMs", 600)).await;
    let agent = app.as_agent("alice").await;
    let first = agent.call("fix__pid", json!({})).await.tool_text();
    agent.call("fix__sleep", json!({ "ms": 1_200 })).await.tool_text();
    assert!(proc::is_running(first.parse().unwrap()), "one that is in use is not idle");
    let until = Instant::now() + Duration::from_secs(15);
    while proc::is_running(first.parse().unwrap()) {
        assert!(Instant::now() < until, "the idle child still runs");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let second = agent.call("fix__pid", json!({})).await.tool_text();
    assert_ne!(first, second, "the next call starts another");
}

/// A hundred agents with the same JSON-RPC ids: each gets the answer with its own nonce.
async fn one_child_for_all_agents(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    app.as_operator().register(Registration::rmcp("fix")).await;
    let local = app.anonymous_from_loopback();
    let agents = (0..100).map(|number| {
        let agent = local.header("x-agent-id", format!("agent-{number}"));
        async move {
            for round in 1..=20 {
                let nonce = format!("{number}/{round}");
                let call = json!({ "jsonrpc": "2.0", "id": round, "method": "tools/call",
                    "params": { "name": "fix__echo", "arguments": { "nonce": nonce } } });
                let answer = agent.rpc_text(&call.to_string()).await;
                answer.must(answer.tool_text() == nonce, "every answer carries its caller's nonce");
                answer.must(answer.json()["id"] == round, "and its caller's id");
            }
        }
    });
    futures_util::future::join_all(agents).await;
    let rows = app.as_operator().executions("tool=echo&outcome=ok&limit=100").await;
    assert_eq!(rows.len(), 2000, "every call is on record");
    let agents: std::collections::BTreeSet<_> = rows.iter().map(|row| row["agentId"].to_string()).collect();
    assert_eq!(agents.len(), 100, "under its own agent");
    let children = app.children();
    let fixtures = children
        .iter()
        .filter(|one| one.command.ends_with("fixture-rmcp") && !one.command.contains("exec-child"));
    assert_eq!(fixtures.count(), 1, "one child serves all: {children:#?}");
}

async fn a_breaker_opens_and_closes(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let gate = app.path("fixed");
    let arguments = ["--die-on-call", "--unless", gate.to_str().unwrap()];
    let bad = app.as_operator().register(Registration::bad("bad", &arguments)).await;
    let agent = app.as_agent("alice").await;
    let mut opened = false;
    for _ in 0..30 {
        let answer = agent.call("bad__bad", json!({})).await;
        let error = answer.refused(&BROKEN);
        opened |= error["data"]["code"] == "circuit_open" || error["data"]["retryAfterMs"].is_u64();
    }
    assert!(opened, "after thirty deaths nobody says when asking again makes sense");
    std::fs::write(gate, "").unwrap();
    let pair = Pair { app, agent, bad };
    pair.recovers().await;
    pair.agent.call("bad__bad", json!({ "nonce": "n" })).await.tool_text();
}
