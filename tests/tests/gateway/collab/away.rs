//! Two gateways that share a Redis, and what follows at one of them while it is away: a minute without Redis,
//! and a failover by a sentinel.

use std::time::Duration;

use tests::redis_server::RedisServer;
use tests::{Actor, Backend, Case, Settings, TestApp, cases, json};

use super::{done, make_task, tool};
use crate::outages::{Watched, redis_program};

pub const CASES: &[Case] = cases![
    Postgres: a_minute_without_redis, followers_go_on_after_a_failover;
];

/// Two gateways, and agents at each.
struct Pair {
    app: TestApp,
    other: TestApp,
    _contents: tests::scratch::Scratch,
    ada: Actor,
    bob: Actor,
}

impl Pair {
    async fn start(backend: Backend, redis_url: &str) -> Pair {
        let contents = tests::scratch::Scratch::new("contents");
        let settings =
            || Settings::new().env("WORKSPACE_DIR", contents.path().display()).env("REDIS_URL", redis_url);
        let app = TestApp::start(backend, settings()).await;
        let other = app.start_beside(settings()).await;
        let ada = app.as_agent("ada").await;
        let bob = app.as_agent("bob").await;
        let key = bob.headers().iter().find(|(name, _)| name == "x-mcp-key").unwrap().1.clone();
        let bob = other.with_key(&key);
        for app in [&app, &other] {
            Self::is_ready(app).await;
        }
        make_task(&ada, "t").await;
        Pair { app, other, _contents: contents, ada, bob }
    }

    async fn is_ready(app: &TestApp) {
        let local = app.anonymous_from_loopback();
        local.until("/ready", Duration::from_secs(30), |answer| answer.status == 200).await;
    }

    /// Works at one gateway during the outage and follows at the other: no step is missing or comes twice,
    /// no write is refused, both gateways see each other's writes, and `/ready` shows the outage and its end.
    async fn work(&self, outage: impl Future<Output = ()>) {
        let Pair { app, other, ada, bob, .. } = self;
        let finished = std::sync::atomic::AtomicBool::new(false);
        let follow = async {
            let (mut after, mut steps) = (0, Vec::new());
            while steps.last() != Some(&-1) {
                let arguments = json!({ "task_id": "t", "after": after, "wait_seconds": 10 });
                for event in done(bob, "subscribe_logs", arguments).await["events"].as_array().unwrap() {
                    after += 1;
                    assert_eq!(event["seq"], after, "no number is left out");
                    steps.extend(event["data"]["step"].as_str().map(|step| step.parse::<i64>().unwrap()));
                }
            }
            steps
        };
        let write = async {
            let mut number = 0;
            while !finished.load(std::sync::atomic::Ordering::Relaxed) {
                done(ada, "log_step", json!({ "task_id": "t", "step": number.to_string() })).await;
                let writer = if number % 2 == 0 { ada } else { bob };
                let text = number.to_string();
                let written =
                    json!({ "task_id": "t", "path": "a", "content": text, "expected_version": number });
                done(writer, "file_write", written).await;
                number += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            done(ada, "log_step", json!({ "task_id": "t", "step": "-1" })).await;
            number
        };
        let during = async {
            outage.await;
            Self::is_ready(app).await;
            Self::is_ready(other).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            finished.store(true, std::sync::atomic::Ordering::Relaxed);
        };
        let (steps, number, ()) = tokio::join!(follow, write, during);
        assert!(number > 20, "{number}");
        assert_eq!(steps, (0..number).chain([-1]).collect::<Vec<i64>>());
        let read = json!({ "task_id": "t", "path": "a" });
        assert_eq!(done(ada, "file_read", read).await["version"], number);
        let lease = done(ada, "claim_file", json!({ "task_id": "t", "path": "b" })).await;
        let refused = tool(bob, "claim_file", json!({ "task_id": "t", "path": "b" })).await;
        assert_eq!(refused.problem(tests::Code::LeaseHeld)["holder"], "ada");
        assert!(lease["token"].as_i64().is_some());
    }
}

async fn a_minute_without_redis(backend: Backend) {
    let program = redis_program();
    let mut redis = RedisServer::start(&program).unwrap();
    let pair = Pair::start(backend, &redis.url()).await;
    pair.work(async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        redis.stop();
        let local = pair.app.anonymous_from_loopback();
        local.until("/ready", Duration::from_secs(20), |answer| answer.text().contains("degraded")).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        redis.start_again(&program).unwrap();
    })
    .await;
}

async fn followers_go_on_after_a_failover(backend: Backend) {
    let mut watched = Watched::start().await;
    let pair = Pair::start(backend, &watched.url()).await;
    pair.work(async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        watched.master.stop();
        tokio::time::sleep(Duration::from_secs(3)).await;
    })
    .await;
}
