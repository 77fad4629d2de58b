//! Which eras a child speaks, how that is found out, and what is said to one of the modern era.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use libtest_mimic::Trial;
use protocol::mcp::{Era, Eras};
use protocol::{Code, Refusal};
use proxy::catalog::{Catalog, ListKind};
use proxy::pool::UpstreamEvent;
use proxy::server::{BuiltinLaunch, EraVerdict, Launch};
use serde_json::json;

use crate::app::{App, Server, refused};
use crate::test;

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_modern_child_is_discovered_and_listened_to", a_modern_child),
        test("a_child_of_another_revision_is_refused", another_revision),
        test("eras_are_found_out_by_the_first_start", eras_are_found_out),
        test("a_silent_child_is_started_again", a_silent_child_is_started_again),
        test("a_verdict_is_for_one_revision", a_verdict_is_for_one_revision),
        test("a_verdict_that_a_start_disproves_is_dropped", a_disproved_verdict),
        test("all_who_wait_share_one_probe", all_who_wait_share_one_probe),
        test("no_verdict_without_an_answer", no_verdict_without_an_answer),
        test("a_start_is_in_the_right_era", a_start_is_in_the_right_era),
    ]
}

async fn eras(app: &App, server: &Server) -> Eras {
    asked(app, server).await.unwrap()
}

async fn asked(app: &App, server: &Server) -> Result<Eras, Refusal> {
    app.pool.eras(&server.spec, server.key, Instant::now() + Duration::from_secs(20)).await
}

fn probes(server: &Server) -> usize {
    server.log().matches("asked which era it speaks").count()
}

async fn a_modern_child() {
    let app = App::new();
    let server = app.fixture(&["era", "modern"]).in_era(Era::Modern);
    let mut events = app.pool.events();
    let deadline = Instant::now() + Duration::from_secs(5);
    let initialized = app.pool.initialized(&server.selected(), deadline).await.unwrap();
    assert_eq!((initialized.era, &*initialized.protocol_version), (Era::Modern, "2026-07-28"));
    assert!(initialized.result.starts_with(b"{"));
    let meta = server.see("hello").await["_meta"].clone();
    assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
    assert_eq!(meta["io.modelcontextprotocol/clientInfo"]["name"], "trunkline");

    let catalog = Catalog::new(app.pool.clone());
    let tools = catalog.list(&server.selected(), ListKind::Tools, deadline).await.unwrap();
    assert_eq!(&*tools.items[0].name, "echo");

    assert_eq!(server.see("listens").await, json!([{ "toolsListChanged": true }]));
    let before = app.pool.changes(&server.key);
    let told = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":1}}}"#;
    let asked = r#"{"jsonrpc":"2.0","id":"x","method":"roots/list"}"#;
    server.make_say(&format!("{told}\n{asked}")).await;
    assert_eq!(app.pool.changes(&server.key), (before + 1) | UpstreamEvent::ToolsChanged.list_bit());
    let event = events.try_recv().unwrap();
    assert_eq!((event.key, event.event), (server.key, UpstreamEvent::ToolsChanged));
    assert_eq!(server.see("answers").await[0]["error"]["code"], -32601);

    server.call("end-listens", json!({})).await.unwrap();
    assert_eq!(server.see("listens").await, json!([]));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(server.see("listens").await, json!([{ "toolsListChanged": true }]));
    assert_eq!(
        events.try_recv().unwrap().event,
        UpstreamEvent::ToolsChanged,
        "something may have been missed"
    );
}

async fn another_revision() {
    let app = App::new();
    let future = app.fixture(&["era", "future"]).in_era(Era::Modern);
    refused(future.echo("x").await, Code::UpstreamUnavailable, "does not list 2026-07-28");
    let legacy = app.fixture(&[]).in_era(Era::Modern);
    refused(legacy.echo("x").await, Code::UpstreamUnavailable, "refused `server/discover`");
    let modern = app.fixture(&["era", "modern"]);
    refused(modern.echo("x").await, Code::UpstreamUnavailable, "refused the handshake");
}

async fn eras_are_found_out() {
    let app = App::new();
    for (word, found) in [
        ("legacy", Eras::LEGACY),
        ("modern", Eras::MODERN),
        ("dual", Eras::MODERN),
        ("dies", Eras::LEGACY),
        ("picky-but-legacy", Eras::LEGACY),
    ] {
        let server = app.fixture(&["era", word]);
        assert_eq!(app.pool.known_eras(&server.spec), None);
        assert_eq!(eras(&app, &server).await, found, "{word}: {}", server.log());
        assert_eq!(app.pool.known_eras(&server.spec), Some(found), "{word}");
        let used = if found.modern { server.in_era(Era::Modern) } else { server };
        let pid = used.status().pid.expect("what was asked runs").to_string();
        assert_eq!(used.call("pid", json!({})).await.unwrap(), pid, "{word}: and is used");
    }
    let future = app.fixture(&["era", "future"]);
    refused(asked(&app, &future).await, Code::UpstreamUnavailable, "refused the handshake");
    assert_eq!(app.pool.known_eras(&future.spec), None);
    let picky = app.fixture(&["era", "picky"]);
    refused(asked(&app, &picky).await, Code::UpstreamUnavailable, "refused `server/discover`");
    let stored = app.pool.take_found();
    assert_eq!(stored.len(), 5);
    assert!(app.pool.take_found().is_empty());
    let builtin = app.fixture_with(&[], |spec| {
        spec.launch = Launch::Builtin(BuiltinLaunch::new("x"));
    });
    assert_eq!(app.pool.known_eras(&builtin.spec), Some(Eras::DUAL));
}

async fn a_silent_child_is_started_again() {
    let app = App::new();
    let server =
        app.fixture_with(&["era", "mute"], |spec| spec.start_timeout = Duration::from_secs(60).into());
    let begun = Instant::now();
    assert_eq!(eras(&app, &server).await, Eras::LEGACY);
    assert!(begun.elapsed() >= Duration::from_secs(2) && begun.elapsed() < Duration::from_secs(10));
    assert_eq!(app.pool.known_eras(&server.spec), Some(Eras::LEGACY));
    assert!(server.log().contains("`server/discover`: silence"), "{}", server.log());
}

async fn a_verdict_is_for_one_revision() {
    let app = App::new();
    let server = app.fixture(&["era", "dual"]);
    for _ in 0..2 {
        assert_eq!(eras(&app, &server).await, Eras::MODERN);
    }
    assert_eq!(probes(&server), 1);
    let with = |change: &dyn Fn(&mut proxy::server::ServerSpec)| {
        let mut spec = (*server.spec).clone();
        change(&mut spec);
        Server { spec: Arc::new(spec), ..server.clone() }
    };
    let newer = with(&|spec| spec.revision = 2);
    assert_eq!(app.pool.known_eras(&newer.spec), None);
    assert_eq!(eras(&app, &newer).await, Eras::MODERN);
    assert_eq!(probes(&server), 2);
    let revisions: Vec<i32> = app.pool.take_found().iter().map(|(_, revision, _)| *revision).collect();
    assert_eq!(revisions, [1, 2]);

    let set = with(&|spec| (spec.revision, spec.era) = (3, Some(Eras::MODERN)));
    assert_eq!(app.pool.known_eras(&set.spec), Some(Eras::MODERN));
    let found = |age: i64| {
        let found_at = Timestamp::now() - SignedDuration::from_hours(24 * age);
        with(&move |spec| {
            spec.revision = 4;
            spec.found = Some(EraVerdict { eras: Eras::LEGACY, found_at });
        })
    };
    assert_eq!(app.pool.known_eras(&found(6).spec), Some(Eras::LEGACY));
    assert_eq!(app.pool.known_eras(&found(8).spec), None);
}

async fn a_disproved_verdict() {
    let app = App::new();
    let found_at = Timestamp::now() - SignedDuration::from_hours(1);
    let server = app.fixture_with(&[], |spec| spec.found = Some(EraVerdict { eras: Eras::MODERN, found_at }));
    assert_eq!(eras(&app, &server).await, Eras::MODERN);
    refused(server.in_era(Era::Modern).echo("x").await, Code::UpstreamUnavailable, "server/discover");
    assert_eq!(app.pool.known_eras(&server.spec), None);
    assert_eq!(eras(&app, &server).await, Eras::LEGACY);
    refused(server.in_era(Era::Modern).echo("x").await, Code::UpstreamUnavailable, "server/discover");
    assert_eq!(app.pool.known_eras(&server.spec), Some(Eras::LEGACY), "that was just found out");
}

async fn all_who_wait_share_one_probe() {
    let app = App::new();
    let word = protocol::ServerId::new().to_string();
    let server = app.fixture(&["era", "dual", &word]);
    let all = (0..20).map(|_| eras(&app, &server));
    let all = futures_util::future::join_all(all).await;
    assert!(all.iter().all(|eras| *eras == Eras::MODERN));
    assert_eq!(probes(&server), 1);
    assert_eq!(processes_with(&word), 2, "one child and its supervisor");
    let hasty = app.fixture(&["era", "dual"]);
    let late = app.pool.eras(&hasty.spec, hasty.key, Instant::now()).await;
    refused(late, Code::TimedOut, "which era it speaks");
}

async fn no_verdict_without_an_answer() {
    let app = App::with(|settings| settings.backoff_base = Duration::from_secs(20));
    let silent = app.fixture_with(&["silent"], |spec| spec.start_timeout = Duration::from_millis(300).into());
    refused(asked(&app, &silent).await, Code::UpstreamUnavailable, "did not answer the handshake in time");
    assert_eq!(app.pool.known_eras(&silent.spec), None);
    let absent = app.command("uvx-of-nobody", &[], |_| {});
    refused(asked(&app, &absent).await, Code::UpstreamUnavailable, "uvx-of-nobody");

    let ends = app.fixture(&["exit-at-once"]);
    for _ in 0..2 {
        refused(asked(&app, &ends).await, Code::UpstreamUnavailable, "something is missing here");
    }
    for _ in 0..2 {
        assert_eq!(eras(&app, &ends).await, Eras::LEGACY, "it is left alone, and its start says why");
        refused(ends.echo("x").await, Code::UpstreamUnavailable, "something is missing here");
    }
    assert!(app.pool.take_found().is_empty());
}

async fn a_start_is_in_the_right_era() {
    let app = App::new();
    let server = app.fixture(&["era", "modern"]);
    app.pool.start(app.tenant, &server.spec).await.unwrap();
    let modern = server.in_era(Era::Modern);
    assert!(app.pool.is_running(&modern.key) && !app.pool.is_running(&server.key));
    let first = server.status().pid.unwrap();
    app.pool.restart(app.tenant, &server.spec).await.unwrap();
    assert!(server.status().pid.is_some_and(|pid| pid != first));
    modern.assert_well().await;
    let dual = app.fixture(&["era", "dual"]).in_era(Era::Modern);
    dual.assert_well().await;
    app.pool.restart(app.tenant, &dual.spec).await.unwrap();
    assert!(app.pool.is_running(&dual.key), "the era that it ran in");
    assert_eq!(app.pool.figures().children, 2);
}

/// Supervisors and children that were started with this word.
fn processes_with(word: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok());
    lines.filter(|line| line.contains(word)).count()
}
