//! The gateway's memory under clients that come and go without a word: it stays flat. `SOAK_SECONDS`
//! makes the trial longer.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tests::{Actor, Backend, Case, McpClient, Settings, TestApp, cases, json, proc};

pub const CASES: &[Case] = cases![
    Once: absent_readers_cost_little, memory_stays_flat;
];

fn resident(app: &TestApp) -> u64 {
    proc::resident_bytes(app.process().pid()).expect("the gateway runs")
}

/// A config whose changes change the catalog.
async fn config(app: &TestApp) -> (Actor, String) {
    let operator = app.as_operator();
    let body = json!({ "serverId": "calculator", "blockedTools": ["none"] });
    let id = operator.post("/v1/mcp/configs", body).await.json_of(201)["id"].as_str().unwrap().to_owned();
    (operator, format!("/v1/mcp/configs/{id}"))
}

async fn change((operator, path): &(Actor, String), round: usize) {
    operator.patch(path, json!({ "blockedTools": [format!("none{round}")] })).await.status(200);
}

async fn absent_readers_cost_little(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let config = config(&app).await;
    let agent = app.as_agent("alice").await;
    // What the first sessions cost is not what each costs.
    for _ in 0..50 {
        let client = McpClient::legacy(&agent, "/mcp", "2025-11-25", json!({})).await;
        drop(client.listen(None).await);
    }
    let before = resident(&app);
    let mut last = None;
    for _ in 0..1_000 {
        let client = McpClient::legacy(&agent, "/mcp", "2025-11-25", json!({})).await;
        drop(client.listen(None).await);
        last = Some(client);
    }
    for round in 0..600 {
        change(&config, round).await;
    }
    // Changes are gathered for a moment before they are told.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let grown = resident(&app).saturating_sub(before);
    println!("1,000 absent readers and 600 changes: {grown} bytes more");
    assert!(grown < 16 << 20, "{grown} bytes more");
    // One that comes back is told of each kind of list once.
    let mut home = last.expect("there is a last one").listen(None).await;
    let told = home.rest(Duration::from_secs(1)).await;
    let mut methods: Vec<&str> = told.iter().filter_map(|one| one["method"].as_str()).collect();
    methods.sort_unstable();
    let lists = ["prompts", "resources", "tools"].map(|list| format!("notifications/{list}/list_changed"));
    assert_eq!(methods, lists);
}

async fn memory_stays_flat(backend: Backend) {
    let seconds = std::env::var("SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(24);
    let app = TestApp::start(backend, Settings::new()).await;
    let config = config(&app).await;
    let agent = app.as_agent("alice").await;
    let (over, sessions) = (AtomicBool::new(false), AtomicUsize::new(0));
    let going = || !over.load(Ordering::Relaxed);
    let legacy = async || {
        while going() {
            let client = McpClient::legacy(&agent, "/mcp", "2025-11-25", json!({})).await;
            let home = client.listen(None).await;
            client.open("tools/call", add("calculator__add")).await.result().await;
            client.result("tools/list", json!({})).await;
            drop(home);
            sessions.fetch_add(1, Ordering::Relaxed);
        }
    };
    let modern = async || {
        let client = McpClient::modern(&agent, "/mcp/s/calculator");
        let wanted = json!({ "notifications": { "toolsListChanged": true } });
        while going() {
            let mut listen = client.open("subscriptions/listen", wanted.clone()).await;
            listen.next_of("notifications/subscriptions/acknowledged").await;
            client.open("tools/call", add("add")).await.result().await;
        }
    };
    let changes = async || {
        let mut round = 0;
        while going() {
            change(&config, round).await;
            round += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let watch = async || {
        let begun = Instant::now();
        let mut samples = Vec::new();
        while begun.elapsed() < Duration::from_secs(seconds) {
            tokio::time::sleep(Duration::from_millis(500)).await;
            samples.push((begun.elapsed().as_secs_f64(), resident(&app) as f64));
        }
        over.store(true, Ordering::Relaxed);
        samples
    };
    let (_, _, _, _, _, samples) = tokio::join!(legacy(), legacy(), legacy(), modern(), changes(), watch());
    // The first third fills what is bounded.
    let steady = &samples[samples.len() / 3..];
    let slope = slope(steady);
    let sessions = sessions.load(Ordering::Relaxed);
    println!(
        "{sessions} sessions in {seconds} s: {:.0} bytes a second, {:.1} MB at the end",
        slope,
        steady[steady.len() - 1].1 / 1e6
    );
    let grown = slope * (steady[steady.len() - 1].0 - steady[0].0);
    assert!(grown < 4e6, "memory grew by {grown:.0} bytes");
}

fn add(name: &str) -> tests::Value {
    json!({ "name": name, "arguments": { "a": 1, "b": 2 } })
}

/// Bytes a second, by least squares.
fn slope(samples: &[(f64, f64)]) -> f64 {
    let count = samples.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (time, bytes) = (mean(|sample| sample.0), mean(|sample| sample.1));
    let both: f64 = samples.iter().map(|sample| (sample.0 - time) * (sample.1 - bytes)).sum();
    both / samples.iter().map(|sample| (sample.0 - time).powi(2)).sum::<f64>()
}
