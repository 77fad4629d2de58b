//! The first use of a stdio server: the process that is asked for its era is the one that is used, and few
//! servers start at the same time. Each process notes its start in a file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tests::{
    Actor, Backend, Case, McpClient, Registered, Registration, Settings, TestApp, Value, cases, json,
    programs,
};

pub const CASES: &[Case] = cases![
    Once: a_first_call_costs_one_start, a_first_list_costs_one_start, a_stored_verdict_costs_no_start,
        starts_wait_for_their_turn;
];

/// The fixture's arguments, the verdict, and the number of processes for a first use.
const SERVERS: [(&str, &[&str], &str, usize); 5] = [
    ("legacy", &["--era", "legacy"], "legacy", 1),
    ("modern", &["--era", "modern"], "modern", 1),
    ("dual", &["--era", "dual"], "modern", 1),
    ("dies", &["--era", "legacy", "--die-on-probe"], "legacy", 2),
    ("silent", &["--era", "legacy", "--silent-on-probe"], "legacy", 2),
];

/// A registered server, and the file in which its processes note when they start, a line each.
struct Noted {
    server: Registered,
    starts: PathBuf,
}

impl Noted {
    async fn register(app: &TestApp, slug: &str, program: &str, arguments: &[&str]) -> Noted {
        let starts = app.path(&format!("{slug}.starts"));
        let note = format!("date +%s%3N >> {}; exec \"$0\" \"$@\"", starts.display());
        let mut all = vec!["-c", &note, program];
        all.extend(arguments);
        let server = app.as_operator().register(Registration::stdio(slug, "/bin/sh", &all)).await;
        Noted { server, starts }
    }

    fn count(&self) -> usize {
        times(&self.starts).len()
    }

    /// Waits for the stored verdict.
    async fn found(&self, operator: &Actor, eras: &str) {
        let path = self.server.path("");
        let stored = |answer: &tests::Answer| answer.json()["eraFound"]["eras"] == eras;
        operator.until(&path, Duration::from_secs(10), stored).await;
    }
}

/// Milliseconds since 1970 of each start.
fn times(starts: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(starts).unwrap_or_default();
    text.lines().map(|line| line.parse().expect("a time in milliseconds")).collect()
}

fn fixture() -> &'static str {
    programs::programs().fixture_conformance
}

/// Capabilities that give a client upstreams of its own at legacy servers.
fn asked() -> Value {
    json!({ "elicitation": { "form": {} }, "roots": {} })
}

async fn a_first_call_costs_one_start(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (operator, alice) = (app.as_operator(), app.as_agent("alice").await);
    let able = [
        ("able", McpClient::legacy(&alice, "/mcp", "2025-11-25", asked()).await),
        ("newer", McpClient::modern(&alice, "/mcp").declaring(asked())),
    ];
    for (slug, arguments, eras, starts) in SERVERS {
        let plain = Noted::register(&app, slug, fixture(), arguments).await;
        operator.call(&format!("{slug}__test_simple_text"), json!({})).await.result();
        assert_eq!(plain.count(), starts, "{slug}, called by a plain client");
        plain.found(&operator, eras).await;

        for (which, client) in &able {
            let slug = format!("{slug}-{which}");
            let by_able = Noted::register(&app, &slug, fixture(), arguments).await;
            client.call(&format!("{slug}__test_simple_text")).await.result().await;
            assert_eq!(by_able.count(), starts, "{slug}, called by a client with capabilities");
        }
    }
}

async fn a_first_list_costs_one_start(backend: Backend) {
    for version in ["2025-11-25", "2026-07-28"] {
        for capabilities in [json!({}), asked()] {
            let app = TestApp::start(backend, Settings::new()).await;
            let alice = app.as_agent("alice").await;
            let mut servers = Vec::new();
            for (slug, arguments, _, starts) in SERVERS {
                servers.push((Noted::register(&app, slug, fixture(), arguments).await, starts));
            }
            let client = match version {
                "2026-07-28" => McpClient::modern(&alice, "/mcp").declaring(capabilities.clone()),
                _ => McpClient::legacy(&alice, "/mcp", version, capabilities.clone()).await,
            };
            let tools = client.result("tools/list", json!({})).await["tools"].to_string();
            for (noted, starts) in &servers {
                let slug = noted.server.body["slug"].as_str().expect("it has a slug");
                assert!(tools.contains(&format!("{slug}__")), "{slug} is listed: {tools}");
                assert_eq!(noted.count(), *starts, "{slug}, listed by {version} with {capabilities}");
            }
        }
    }
}

async fn a_stored_verdict_costs_no_start(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let mut servers = Vec::new();
    for (slug, arguments, eras, starts) in SERVERS {
        let noted = Noted::register(&app, slug, fixture(), arguments).await;
        operator.call(&format!("{slug}__test_simple_text"), json!({})).await.result();
        noted.found(&operator, eras).await;
        servers.push((slug, noted, starts));
    }
    app.terminate(Duration::from_secs(20)).await;
    app.boot(None).await;
    let operator = app.as_operator();
    for (slug, noted, starts) in servers {
        operator.call(&format!("{slug}__test_simple_text"), json!({})).await.result();
        assert_eq!(noted.count(), starts + 1, "{slug}: one start after the restart of the gateway");
    }
}

async fn starts_wait_for_their_turn(backend: Backend) {
    const SLOW: u64 = 600;
    let app = TestApp::start(backend, Settings::new().env("CHILD_START_CONCURRENCY", 1)).await;
    let slow = SLOW.to_string();
    let mut begun = Vec::new();
    for slug in ["one", "two", "three"] {
        let arguments = ["--slow-start", &slow];
        let noted = Noted::register(&app, slug, programs::programs().fixture_bad, &arguments).await;
        // The three together take longer.
        let short = json!({ "startTimeoutMs": 1500 });
        app.as_operator().patch(&noted.server.path(""), short).await.status(200);
        begun.push(noted.starts);
    }
    let listed = app.as_operator().tool_names().await;
    for slug in ["one__", "two__", "three__"] {
        assert!(listed.iter().any(|name| name.starts_with(slug)), "{slug} is listed: {listed:?}");
    }
    let mut all: Vec<u64> = begun.iter().flat_map(|starts| times(starts)).collect();
    all.sort_unstable();
    assert_eq!(all.len(), 3);
    assert!(all.windows(2).all(|two| two[1] >= two[0] + SLOW), "one start after the other: {all:?}");
}
