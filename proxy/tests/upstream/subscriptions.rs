//! Subscriptions to resources: counted, refused, made again, in both eras.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use protocol::mcp::Era;
use proxy::pool::Subscribed;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::app::{App, Server, lives, until};
use crate::test;

pub fn tests() -> Vec<Trial> {
    vec![
        test("subscriptions_are_counted", subscriptions_are_counted),
        test("a_refused_subscription_is_not_counted", a_refused_subscription),
        test("subscriptions_are_made_again", subscriptions_are_made_again),
        test("a_listen_is_replaced_and_not_interrupted", a_listen_is_replaced),
        test("who_leaves_early_is_not_subscribed", who_leaves_early),
    ]
}

/// The subscription, or the error object of the server.
async fn subscribe(server: &Server, uri: &str) -> Result<Subscribed, Value> {
    let deadline = Instant::now() + Duration::from_secs(5);
    let subscribed = server.pool.subscribe(&server.selected(), uri, deadline).await.unwrap();
    subscribed.map_err(|error| serde_json::from_slice(&error).unwrap())
}

async fn subscriptions_are_counted() {
    let app = App::new();
    let server = app.fixture(&[]);
    let first = subscribe(&server, "a:1").await.unwrap();
    let again = subscribe(&server, "a:1").await.unwrap();
    let _other = subscribe(&server, "a:2").await.unwrap();
    assert_eq!(server.see("listens").await, json!(["a:1", "a:2"]), "each is asked for once");
    let counts = || {
        let mut counts: Vec<_> =
            app.pool.subscribed().into_iter().map(|(_, uri, count)| (uri.to_string(), count)).collect();
        counts.sort();
        counts
    };
    assert_eq!(counts(), [("a:1".to_owned(), 2), ("a:2".to_owned(), 1)]);
    drop(first);
    assert_eq!(server.see("listens").await, json!(["a:1", "a:2"]));
    drop(again);
    assert_eq!(server.see("listens").await, json!(["a:2"]));
    assert_eq!(counts(), [("a:2".to_owned(), 1)]);
}

async fn a_refused_subscription() {
    let app = App::new();
    let server = app.fixture(&[]);
    for _ in 0..2 {
        assert_eq!(subscribe(&server, "no:1").await.err().unwrap()["code"], -32002);
    }
    let modern = app.fixture(&["era", "modern"]).in_era(Era::Modern);
    for _ in 0..2 {
        assert_eq!(subscribe(&modern, "no:1").await.err().unwrap()["code"], -32602);
    }
    let _subscribed = subscribe(&modern, "a:1").await.unwrap();
    let expected = json!([{ "toolsListChanged": true, "resourceSubscriptions": ["a:1"] }]);
    assert_eq!(modern.see("listens").await, expected);
}

async fn subscriptions_are_made_again() {
    let app = App::new();
    let idle = Duration::from_millis(300).into();
    for (word, era) in [("legacy", Era::Legacy), ("modern", Era::Modern)] {
        let server = app.fixture_with(&["era", word], |spec| spec.idle_timeout = idle).in_era(era);
        let first = subscribe(&server, "a:1").await.unwrap();
        let second = subscribe(&server, "a:2").await.unwrap();
        let pid = server.status().pid.unwrap();
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert!(lives(pid), "somebody waits for its news");
        kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
        until("it is started again by itself", 5, || server.status().pid.is_some_and(|now| now != pid)).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        // In any order: they are made side by side.
        let listens = server.see("listens").await.to_string();
        assert!(listens.contains("a:1") && listens.contains("a:2"), "{listens}");
        drop((first, second));
        until("it is idle now", 5, || server.status().pid.is_none()).await;
    }
}

async fn a_listen_is_replaced() {
    let app = App::new();
    let server = app.fixture(&["era", "modern"]).in_era(Era::Modern);
    let (first, second, third) =
        tokio::join!(subscribe(&server, "a:1"), subscribe(&server, "a:2"), subscribe(&server, "a:3"));
    let (_first, second, _third) = (first.unwrap(), second.unwrap(), third.unwrap());
    let listens = |uris: &[&str]| json!([{ "toolsListChanged": true, "resourceSubscriptions": uris }]);
    assert_eq!(server.see("listens").await, listens(&["a:1", "a:2", "a:3"]), "and no other one");
    let cancelled = server.see("cancelled").await.as_u64().unwrap();
    drop(second);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(server.see("listens").await, listens(&["a:1", "a:3"]));
    assert_eq!(server.see("cancelled").await, cancelled + 1);
    let mut events = app.pool.events();
    let updated = r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a:1"}}"#;
    server.make_say(updated).await;
    assert!(events.try_recv().is_ok());
}

async fn who_leaves_early() {
    let app = App::new();
    let server = app.fixture(&[]);
    server.assert_well().await;
    let (nap, left) = tokio::join!(server.call("nap", json!({ "ms": 400 })), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        tokio::time::timeout(Duration::from_millis(100), subscribe(&server, "a:1")).await
    });
    assert!(nap.is_ok() && left.is_err());
    assert_eq!(server.see("listens").await, json!([]));
    let _subscribed = subscribe(&server, "a:1").await.unwrap();
    assert_eq!(server.see("listens").await, json!(["a:1"]));
}
