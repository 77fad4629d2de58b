//! Subscriptions to resources: counted, refused, made again, in both eras.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use protocol::mcp::Era;
use proxy::upstream::UpstreamAnswer;
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

async fn subscribe(server: &Server, uri: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(5);
    match server.pool.subscribe(&server.selected(), uri, deadline).await.unwrap() {
        UpstreamAnswer::Result(json) | UpstreamAnswer::Error(json) => serde_json::from_slice(&json).unwrap(),
    }
}

async fn subscriptions_are_counted() {
    let app = App::new();
    let server = app.fixture(&[]);
    assert_eq!(subscribe(&server, "a:1").await, json!({ "first": true }));
    assert_eq!(subscribe(&server, "a:1").await, json!({}));
    assert_eq!(subscribe(&server, "a:2").await, json!({ "first": true }));
    assert_eq!(server.see("listens").await, json!(["a:1", "a:2"]));
    server.pool.unsubscribe(&server.key, "a:1");
    server.pool.unsubscribe(&server.key, "a:3");
    assert_eq!(server.see("listens").await, json!(["a:1", "a:2"]));
    server.pool.unsubscribe(&server.key, "a:1");
    server.pool.unsubscribe(&server.key, "a:1");
    assert_eq!(server.see("listens").await, json!(["a:2"]));
}

async fn a_refused_subscription() {
    let app = App::new();
    let server = app.fixture(&[]);
    for _ in 0..2 {
        assert_eq!(subscribe(&server, "no:1").await["code"], -32002);
    }
    let modern = app.fixture(&["era", "modern"]).in_era(Era::Modern);
    for _ in 0..2 {
        assert_eq!(subscribe(&modern, "no:1").await["code"], -32602);
    }
    assert_eq!(subscribe(&modern, "a:1").await, json!({}));
    let expected = json!([{ "toolsListChanged": true, "resourceSubscriptions": ["a:1"] }]);
    assert_eq!(modern.see("listens").await, expected);
}

async fn subscriptions_are_made_again() {
    let app = App::new();
    let idle = Some(Duration::from_millis(300));
    for (word, era) in [("legacy", Era::Legacy), ("modern", Era::Modern)] {
        let server = app.fixture_with(&["era", word], |spec| spec.idle_timeout = idle).in_era(era);
        for uri in ["a:1", "a:2"] {
            subscribe(&server, uri).await;
        }
        let pid = server.status().pid.unwrap();
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert!(lives(pid), "somebody waits for its news");
        kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
        until("it is started again by itself", 5, || server.status().pid.is_some_and(|now| now != pid)).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        // In any order: they are made side by side.
        let listens = server.see("listens").await.to_string();
        assert!(listens.contains("a:1") && listens.contains("a:2"), "{listens}");
        for uri in ["a:1", "a:2"] {
            server.pool.unsubscribe(&server.key, uri);
        }
        until("it is idle now", 5, || server.status().pid.is_none()).await;
    }
}

async fn a_listen_is_replaced() {
    let app = App::new();
    let server = app.fixture(&["era", "modern"]).in_era(Era::Modern);
    let all = ["a:1", "a:2", "a:3"].map(|uri| subscribe(&server, uri));
    assert!(futures_util::future::join_all(all).await.iter().all(|answer| *answer == json!({})));
    let listens = |uris: &[&str]| json!([{ "toolsListChanged": true, "resourceSubscriptions": uris }]);
    assert_eq!(server.see("listens").await, listens(&["a:1", "a:2", "a:3"]), "and no other one");
    let cancelled = server.see("cancelled").await.as_u64().unwrap();
    server.pool.unsubscribe(&server.key, "a:2");
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
    assert_eq!(subscribe(&server, "a:1").await, json!({ "first": true }));
}
