//! Starts, ends and what lies between: crash loops, places, the breaker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use libtest_mimic::Trial;
use protocol::Code;
use proxy::breaker::BreakerState;
use proxy::pool::State;
use serde_json::json;

use crate::app::{App, lives, refused, until};
use crate::test;

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_crash_loop_is_slowed_and_explained", a_crash_loop),
        test("stop_start_and_restart", stop_start_and_restart),
        test("a_new_revision_lets_the_old_one_finish", a_new_revision),
        test("places_are_waited_for", places_are_waited_for),
        test("the_breaker_opens_and_closes", the_breaker),
        test("a_hung_child_is_replaced", a_hung_child),
        test("one_death_is_one_failure", one_death),
        test("too_many_children_make_room", too_many_children),
        test("a_killed_child_costs_no_call_that_comes_later", a_killed_child),
        test("shutdown_finishes_what_is_in_flight", shutdown_finishes),
    ]
}

async fn a_crash_loop() {
    let app = App::with(|settings| settings.backoff_base = Duration::from_secs(20));
    let server = app.fixture(&["exit-at-once"]);
    let said = "exited with status 3; on stderr: something is missing here";
    refused(server.echo("x").await, Code::UpstreamUnavailable, said);
    refused(server.echo("x").await, Code::UpstreamUnavailable, said);
    let begun = Instant::now();
    let refusal = refused(server.echo("x").await, Code::UpstreamUnavailable, "2 failures in a row");
    assert!(begun.elapsed() < Duration::from_millis(50), "refused without a start");
    assert!(refusal.reason.contains(said) && refusal.since.is_some() && refusal.retry_after.is_some());
    let status = server.status();
    assert_eq!(status.state, State::Unhealthy);
    assert!(status.reason.unwrap().contains("something is missing here"));
}

async fn stop_start_and_restart() {
    let app = App::new();
    let server = app.fixture(&[]);
    server.pool.start(app.tenant, &server.spec).await.unwrap();
    let first = server.status().pid.unwrap();
    let (hangs, ()) = tokio::join!(server.call("hang", json!({})), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.pool.stop(app.tenant, &server.spec).await;
    });
    refused(hangs, Code::ServerStopped, "was stopped");
    assert!(!lives(first));
    assert_eq!(server.status().state, State::Stopped);
    let refusal = refused(server.echo("x").await, Code::ServerStopped, "is stopped");
    assert!(refusal.since.is_some());
    server.pool.start(app.tenant, &server.spec).await.unwrap();
    let second = server.status().pid.unwrap();
    server.pool.start(app.tenant, &server.spec).await.unwrap();
    assert_eq!(server.status().pid, Some(second), "a start of what runs changes nothing");
    server.pool.restart(app.tenant, &server.spec).await.unwrap();
    assert_ne!(server.status().pid, Some(second));
    server.assert_well().await;
}

async fn a_new_revision() {
    let app = App::new();
    let old = app.fixture(&[]);
    old.assert_well().await;
    let pid = old.status().pid.unwrap();
    let mut new = old.clone();
    let mut spec = (*old.spec).clone();
    spec.revision = 2;
    new.spec = Arc::new(spec);
    new.key.revision = 2;
    let (slow, ()) = tokio::join!(old.call("sleep", json!({ "ms": 400 })), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        new.assert_well().await;
        assert!(lives(pid), "the old one still works");
    });
    assert_eq!(slow.unwrap(), "slept");
    until("the old one is gone", 5, || !lives(pid)).await;
    let pid = new.status().pid.unwrap();
    app.pool.retire(new.key.tenant, new.spec.id).await;
    assert!(!lives(pid));
}

async fn places_are_waited_for() {
    let app = App::with(|settings| settings.max_waiting = 2);
    let server = app.fixture_with(&[], |spec| spec.max_concurrency = 1.into());
    server.assert_well().await;
    let call = |within| server.deliver("sleep", json!({ "ms": 300 }), Duration::from_millis(within));
    let (first, second, hasty, too_many) = tokio::join!(call(5000), call(5000), call(100), call(5000));
    assert!(first.unwrap().queue < Duration::from_millis(100));
    assert!(second.unwrap().queue >= Duration::from_millis(250));
    refused(hasty, Code::TimedOut, "no place came free");
    refused(too_many, Code::ConcurrencyLimited, "too many wait");
}

async fn the_breaker() {
    let app = App::with(|settings| {
        settings.breaker_failures = 2;
        settings.breaker_pause = Duration::from_millis(300);
    });
    let server = app.fixture_with(&[], |spec| spec.timeout = Duration::from_millis(50).into());
    server.assert_well().await;
    for _ in 0..2 {
        let hangs = server.deliver("hang", json!({}), Duration::from_millis(100)).await;
        refused(hangs, Code::TimedOut, "did not answer");
    }
    let refusal =
        refused(server.echo("x").await, Code::CircuitOpen, "`fixture`: the circuit breaker is open");
    assert!(refusal.since.is_some() && refusal.retry_after.is_some());
    assert_eq!((server.status().state, server.status().breaker), (State::Unhealthy, BreakerState::Open));
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert_eq!((server.status().state, server.status().breaker), (State::Degraded, BreakerState::HalfOpen));
    server.assert_well().await;
    assert_eq!((server.status().state, server.status().breaker), (State::Healthy, BreakerState::Closed));
}

async fn a_hung_child() {
    let app = App::with(|settings| {
        settings.breaker_failures = 2;
        settings.ping_patience = Duration::from_millis(200);
    });
    let server = app.fixture_with(&[], |spec| spec.timeout = Duration::from_millis(50).into());
    server.call("deaf", json!({})).await.unwrap();
    let pid = server.status().pid.unwrap();
    for _ in 0..2 {
        let hangs = server.deliver("echo", json!({ "text": "x" }), Duration::from_millis(100)).await;
        refused(hangs, Code::TimedOut, "did not answer");
    }
    until("it is ended", 5, || !lives(pid)).await;
    assert!(server.status().reason.unwrap().contains("did not even answer a ping"));
    server.assert_well().await;
}

async fn one_death() {
    let app = App::new();
    let server = app.fixture(&[]);
    server.assert_well().await;
    let exits = async {
        // All others are with the child by now: what was not sent yet would be sent to the next one.
        tokio::time::sleep(Duration::from_millis(500)).await;
        server.call("exit", json!({ "code": 1 })).await
    };
    let hang = join_all((0..20).map(|_| server.call("hang", json!({}))));
    let (_, hung) = tokio::join!(exits, hang);
    for hung in hung {
        refused(hung, Code::UpstreamFailed, "exited with status 1");
    }
    assert_eq!(server.status().breaker, BreakerState::Closed);
    server.assert_well().await;
}

async fn too_many_children() {
    let app = App::with(|settings| settings.max_children = 2);
    let servers: Vec<_> = (0..3).map(|_| app.fixture(&[])).collect();
    for server in &servers {
        server.assert_well().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(servers[0].status().pid.is_none(), "the longest idle one made room");
    let busy =
        [servers[1].call("sleep", json!({ "ms": 500 })), servers[2].call("sleep", json!({ "ms": 500 }))];
    let (busy, refusal) = tokio::join!(join_all(busy), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        servers[0].echo("x").await
    });
    assert!(busy.iter().all(Result::is_ok));
    refused(refusal, Code::UpstreamUnavailable, "all are in use");
}

async fn a_killed_child() {
    let app = App::new();
    let server = app.fixture(&[]);
    server.assert_well().await;
    let pid = server.status().pid.unwrap() as i32;
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    until("the death is noticed", 2, || server.status().pid.is_none()).await;
    assert_eq!(server.status().state, State::Unhealthy);
    assert!(server.status().reason.unwrap().contains("SIGKILL"));
    server.assert_well().await;
}

async fn shutdown_finishes() {
    let app = App::new();
    let server = app.fixture(&[]);
    server.assert_well().await;
    let pid = server.status().pid.unwrap();
    let (slow, ()) = tokio::join!(server.call("sleep", json!({ "ms": 300 })), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        app.pool.shutdown(Duration::from_secs(5)).await;
    });
    assert_eq!(slow.unwrap(), "slept");
    assert!(!lives(pid));
}
