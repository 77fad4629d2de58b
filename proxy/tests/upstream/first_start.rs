//! The first start of a server whose era is unknown: how many processes it takes, which upstream it gives,
//! and how many servers start at the same time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use libtest_mimic::Trial;
use protocol::mcp::{Era, Eras};
use protocol::members::raw;
use protocol::{Code, ServerId};
use proxy::bridge::{Bridge, Client};
use proxy::catalog::{Catalog, ListKind};
use proxy::pool::{PoolKey, UpstreamEvent};
use proxy::server::{EraVerdict, Launch, ServerSpec};
use serde_json::json;

use crate::app::{App, Server, refused, until};
use crate::test;

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_first_use_costs_one_start", a_first_use_costs_one_start),
        test("a_first_list_declares_the_clients_capabilities", a_first_list_declares),
        test("a_server_that_runs_is_not_asked", a_server_that_runs_is_not_asked),
        test("changes_are_told_from_the_first_moment", changes_are_told),
        test("a_stop_ends_a_first_start", a_stop_ends_a_first_start),
        test("a_first_start_for_a_client_that_leaves", a_first_start_for_a_client_that_leaves),
        test("a_first_start_that_fails_is_counted", a_first_start_that_fails_is_counted),
        test("one_start_at_a_time", one_start_at_a_time),
        test("a_wait_for_a_turn_has_the_callers_deadline", a_wait_for_a_turn),
    ]
}

/// A file that notes starts; gone when dropped.
struct Starts(PathBuf);

impl Starts {
    fn new() -> Starts {
        Starts(std::env::temp_dir().join(format!("starts-{}", ServerId::new())))
    }

    fn lines(&self) -> Vec<String> {
        std::fs::read_to_string(&self.0).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn count(&self) -> usize {
        self.lines().iter().filter(|line| *line == "start").count()
    }

    /// Returns a change of a server that makes its processes note their starts.
    fn noted(&self, start_ms: u64) -> impl Fn(&mut ServerSpec) + use<> {
        let path = self.0.clone();
        move |spec| note(spec, &path, start_ms)
    }
}

impl Drop for Starts {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

fn note(spec: &mut ServerSpec, path: &Path, start_ms: u64) {
    let Launch::Stdio(launch) = &mut spec.launch else { panic!("it is a child") };
    launch.env.insert("STARTS".to_owned(), path.display().to_string());
    launch.env.insert("START_MS".to_owned(), start_ms.to_string());
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// Uses a server as a plain client does: a list, then a call.
async fn used(app: &App, server: &Server) {
    let bridge = Bridge::new(app.pool.clone());
    let selected = bridge.select_for_owner(app.tenant, &server.spec, &Client::plain(), soon()).await.unwrap();
    let tools = Catalog::new(app.pool.clone()).list(&selected, ListKind::Tools, soon()).await.unwrap();
    assert_eq!(tools.items.len(), 1);
    Server { key: selected.key(), ..server.clone() }.assert_well().await;
}

async fn a_first_use_costs_one_start() {
    for (word, eras, starts) in [
        ("legacy", Eras::LEGACY, 1),
        ("modern", Eras::MODERN, 1),
        ("dual", Eras::MODERN, 1),
        ("dies", Eras::LEGACY, 2),
        ("mute", Eras::LEGACY, 2),
    ] {
        let (app, noted) = (App::new(), Starts::new());
        let server = app.fixture_with(&["era", word], noted.noted(0));
        used(&app, &server).await;
        assert_eq!(noted.count(), starts, "{word}: {}", server.log());
        assert_eq!(app.pool.figures().children, 1, "{word}");
        app.pool.shutdown(Duration::ZERO).await;

        // The verdict is stored, and another gateway begins with it.
        let (_, _, found) = app.pool.take_found()[0];
        assert_eq!(found.eras, eras, "{word}");
        let (app, noted) = (App::new(), Starts::new());
        let server = app.fixture_with(&["era", word], |spec| {
            noted.noted(0)(spec);
            spec.found = Some(found);
        });
        used(&app, &server).await;
        assert_eq!(noted.count(), 1, "{word}, with its verdict: {}", server.log());
    }
}

async fn a_first_list_declares() {
    let (app, noted) = (App::new(), Starts::new());
    let server = app.fixture_with(&[], noted.noted(0));
    let bridge = Bridge::new(app.pool.clone());
    let mut client = Client::new(Era::Legacy, "2025-11-25", Some(raw(r#"{"elicitation":{},"roots":{}}"#)));
    client.owner = 7;
    let selected = bridge.select_for_owner(app.tenant, &server.spec, &client, soon()).await.unwrap();
    let lists = selected.for_lists();
    Catalog::new(app.pool.clone()).list(&lists, ListKind::Tools, soon()).await.unwrap();
    assert_eq!(noted.count(), 1, "{}", server.log());
    assert_eq!((lists.key().owner, lists.key().declared), (0, client.declared));
    let hello = Server { key: lists.key(), ..server.clone() }.see("hello").await;
    assert_eq!(hello["capabilities"], json!({ "elicitation": { "form": {} }, "roots": {} }));
    assert_eq!(noted.count(), 1);
}

async fn a_server_that_runs_is_not_asked() {
    let (app, noted) = (App::new(), Starts::new());
    let found = Some(EraVerdict { eras: Eras::LEGACY, found_at: Timestamp::now() });
    let server = app.fixture_with(&[], |spec| {
        noted.noted(0)(spec);
        spec.found = found;
    });
    server.assert_well().await;
    let spec = Arc::new(ServerSpec { found: None, ..(*server.spec).clone() });
    assert_eq!(app.pool.known_eras(&spec), None, "the verdict is too old, say");
    assert_eq!(app.pool.eras(&spec, server.key, soon()).await.unwrap(), Eras::LEGACY);
    assert_eq!(app.pool.known_eras(&spec), Some(Eras::LEGACY));
    assert_eq!(noted.count(), 1, "{}", server.log());
}

async fn changes_are_told() {
    for (word, era) in [("legacy", Era::Legacy), ("modern", Era::Modern)] {
        let app = App::new();
        let mut events = app.pool.events();
        let server = app.fixture(&["era", word, "tells-a-change"]);
        app.pool.eras(&server.spec, server.key, soon()).await.unwrap();
        let early = events.try_recv().expect("a change before the handshake is told");
        assert_eq!((early.key.server, early.event), (server.spec.id, UpstreamEvent::ToolsChanged), "{word}");
        let server = server.in_era(era);
        let changes = app.pool.changes(&server.key);
        server.make_say(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#).await;
        let late = events.try_recv().unwrap();
        assert_eq!((late.key, late.event), (server.key, UpstreamEvent::ToolsChanged), "{word}");
        let bit = UpstreamEvent::ToolsChanged.list_bit();
        assert_eq!(app.pool.changes(&server.key), (changes + 1) | bit, "{word}");
    }
}

async fn a_stop_ends_a_first_start() {
    let (app, noted) = (App::new(), Starts::new());
    let server = app.fixture_with(&["silent"], noted.noted(0));
    let asking = app.pool.eras(&server.spec, server.key, soon());
    let stopping = async {
        until("it starts", 5, || noted.count() == 1).await;
        app.pool.stop(app.tenant, &server.spec).await;
    };
    let (asked, ()) = tokio::join!(asking, stopping);
    assert_eq!(asked.unwrap(), Eras::LEGACY, "who asked finds the stop at the next request");
    refused(server.echo("x").await, Code::ServerStopped, "is stopped");
    assert_eq!((noted.count(), app.pool.known_eras(&server.spec)), (1, None));
}

/// The end of the client for which a server was started says nothing to another client.
async fn a_first_start_for_a_client_that_leaves() {
    let (app, noted) = (App::new(), Starts::new());
    let server = app.fixture_with(&["era", "mute"], noted.noted(0));
    let own = |owner| Server { key: PoolKey { owner, ..server.key }, ..server.clone() };
    let (first, second) = (own(1), own(2));
    let asked = async |of: &Server| app.pool.eras(&server.spec, of.key, soon()).await.unwrap();
    let leaving = async {
        until("it starts", 5, || noted.count() == 1).await;
        app.pool.dismiss(1);
    };
    let (eras, others, ()) = tokio::join!(asked(&first), asked(&second), leaving);
    assert_eq!((eras, others, app.pool.known_eras(&server.spec)), (Eras::LEGACY, Eras::LEGACY, None));
    second.assert_well().await;
}

async fn a_first_start_that_fails_is_counted() {
    let app = App::with(|settings| settings.backoff_base = Duration::from_secs(20));
    let noted = Starts::new();
    let server = app.fixture_with(&["exit-at-once"], noted.noted(0));
    for starts in [1, 2] {
        let asked = app.pool.eras(&server.spec, server.key, soon()).await;
        refused(asked, Code::UpstreamUnavailable, "something is missing here");
        assert_eq!(noted.count(), starts);
    }
    assert_eq!(app.pool.eras(&server.spec, server.key, soon()).await.unwrap(), Eras::LEGACY);
    refused(server.echo("x").await, Code::UpstreamUnavailable, "2 failures in a row");
    assert_eq!(noted.count(), 2, "it is left alone for a while");
}

async fn one_start_at_a_time() {
    let app = App::with(|settings| settings.start_concurrency = 1);
    let noted = Starts::new();
    let server = |word: &str| {
        app.fixture_with(&["era", word], |spec| {
            noted.noted(300)(spec);
            // The three together take longer.
            spec.start_timeout = Duration::from_millis(800).into();
        })
    };
    let (first, second, third) = (server("legacy"), server("modern"), server("legacy"));
    tokio::join!(used(&app, &first), used(&app, &second), third.assert_well());
    let lines = noted.lines();
    assert_eq!(lines, ["start", "ready", "start", "ready", "start", "ready"], "none starts beside another");
    assert_eq!(app.pool.figures().children, 3);
}

async fn a_wait_for_a_turn() {
    let app = App::with(|settings| settings.start_concurrency = 1);
    let noted = Starts::new();
    let slow = app.fixture_with(&[], noted.noted(1500));
    let next = app.fixture_with(&[], noted.noted(0));
    let slow_one = slow.assert_well();
    let others = async {
        until("the first one starts", 5, || noted.count() == 1).await;
        let begun = Instant::now();
        let late = next.deliver("echo", json!({ "text": "x" }), Duration::from_millis(200)).await;
        refused(late, Code::TimedOut, "waits for its start");
        let late = app.pool.initialized(&next.selected(), begun + Duration::from_millis(400)).await;
        refused(late, Code::TimedOut, "");
        assert!(begun.elapsed() < Duration::from_millis(1000), "{:?}", begun.elapsed());
        // A stop ends the wait, so that nothing starts afterwards.
        app.pool.stop(app.tenant, &next.spec).await;
    };
    tokio::join!(slow_one, others);
    assert_eq!(noted.count(), 1, "what was stopped in its wait is not started");
    app.pool.start(app.tenant, &next.spec).await.unwrap();
    next.assert_well().await;
}
