//! PostgreSQL and Redis killed, frozen and cut off under load: acknowledged calls are compared with the
//! record's rows, and refused calls are counted. `OUTAGE_SECONDS` makes the outages longer.

mod load;

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait, Database, Statement};
use tests::backend::{Source, postgres_source, redis_source};
use tests::cut::{Cut, Line};
use tests::postgres::PostgresServer;
use tests::redis_server::RedisServer;
use tests::{Actor, Backend, Case, Code, McpClient, Settings, TestApp, Value, cases, json, not_run};

use self::load::{Counts, load};

pub const CASES: &[Case] = cases![
    Once: redis_is_killed, redis_is_frozen, redis_is_cut_off, redis_holds_its_answers, sentinels_fail_over,
        postgres_is_killed, postgres_is_frozen, postgres_is_cut_off, a_share_of_the_limit,
        limits_may_be_refused, a_session_that_ended_stays_ended;
];

fn outage() -> Duration {
    let seconds = std::env::var("OUTAGE_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(3))
}

pub fn redis_program() -> PathBuf {
    match redis_source() {
        Ok(Source::Program(program)) => program,
        Ok(Source::Url(_)) => not_run("TEST_REDIS_URL is somebody else's, and not ours to stop"),
        Err(reason) => not_run(reason),
    }
}

pub fn postgres_programs() -> PathBuf {
    match postgres_source() {
        Ok(Source::Program(programs)) => programs,
        Ok(Source::Url(_)) => not_run("TEST_DATABASE_URL is somebody else's, and not ours to stop"),
        Err(reason) => not_run(reason),
    }
}

/// A gateway with servers of its own.
struct Bench {
    postgres: PostgresServer,
    app: TestApp,
}

impl Bench {
    /// `redis_url` and, for a proxy in between, `port` of the database.
    async fn start(postgres: PostgresServer, port: u16, redis_url: &str, limit: u32) -> Bench {
        let database = postgres.url("postgres").replace(&postgres.port.to_string(), &port.to_string());
        let settings = Settings::new()
            .env("DATABASE_URL", database)
            .env("REDIS_URL", redis_url)
            .env("RATE_LIMIT_MAX_REQUESTS", limit);
        let app = TestApp::start(Backend::Sqlite, settings).await;
        Bench { postgres, app }
    }

    async fn with_redis(redis_url: &str) -> Bench {
        let postgres = database();
        let port = postgres.port;
        Self::start(postgres, port, redis_url, 100_000_000).await
    }

    /// Calls in loops while `outage` happens, and compares what was acknowledged with the rows.
    async fn under_load(&self, what: &str, outage: impl Future<Output = ()>) -> Counts {
        let counts = load(&self.app, what, outage).await;
        self.compare(&counts).await;
        counts
    }

    /// No acknowledged call is missing in the record, and no call is there twice.
    async fn compare(&self, counts: &Counts) {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let rows = self.rows().await;
            let distinct: HashSet<i64> = rows.iter().copied().collect();
            assert_eq!(distinct.len(), rows.len(), "a call is on record twice");
            let missing = counts.acknowledged.iter().filter(|call| !distinct.contains(call)).count();
            if missing == 0 {
                return;
            }
            assert!(Instant::now() < until, "{missing} acknowledged calls are not on record");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The first argument of each call on record that ended well.
    async fn rows(&self) -> Vec<i64> {
        let connection = Database::connect(self.postgres.url("postgres")).await.expect("it is back");
        let query = "SELECT arguments::text FROM mcp_tool_executions WHERE outcome = 'ok'";
        let statement = Statement::from_string(connection.get_database_backend(), query);
        let rows = connection.query_all_raw(statement).await.expect("the record can be read");
        let number = |text: String| serde_json::from_str::<Value>(&text).ok()?["a"].as_i64();
        rows.iter().filter_map(|row| number(row.try_get_by_index(0).ok()?)).collect()
    }

    async fn redis_is_back(&self) {
        let local = self.app.anonymous_from_loopback();
        local.until("/ready", Duration::from_secs(20), |answer| answer.status == 200).await;
    }
}

/// A database that keeps what it acknowledged when it is killed.
pub fn database() -> PostgresServer {
    PostgresServer::start(&postgres_programs(), &["synchronous_commit = on"])
        .unwrap_or_else(|error| panic!("{error}"))
}

async fn redis_is_killed(_: Backend) {
    let program = redis_program();
    let mut redis = RedisServer::start(&program).unwrap();
    let bench = Bench::with_redis(&redis.url()).await;
    let counts = bench
        .under_load("Redis killed", async {
            redis.stop();
            tokio::time::sleep(outage()).await;
            redis.start_again(&program).unwrap();
            bench.redis_is_back().await;
        })
        .await;
    counts.none_refused().none_waits();
    let metrics = reqwest::get(format!("{}/metrics", bench.app.metrics_url())).await.unwrap();
    let text = metrics.text().await.unwrap();
    let alone = text.lines().find_map(|line| line.strip_prefix("mcp_decided_alone_total{what=\"limits\"} "));
    assert!(alone.is_some_and(|count| count != "0"), "what was decided alone is counted: {alone:?}");
}

async fn redis_is_frozen(_: Backend) {
    let redis = RedisServer::start(&redis_program()).unwrap();
    let bench = Bench::with_redis(&redis.url()).await;
    let counts = bench
        .under_load("Redis frozen", async {
            redis.freeze();
            tokio::time::sleep(outage()).await;
            redis.thaw();
            bench.redis_is_back().await;
        })
        .await;
    counts.none_refused().none_waits();
}

async fn redis_is_cut_off(_: Backend) {
    redis_behind("Redis cut off", Line::Drops).await;
}

async fn redis_holds_its_answers(_: Backend) {
    redis_behind("Redis behind a line that holds everything", Line::Holds).await;
}

async fn redis_behind(what: &str, line: Line) {
    let redis = RedisServer::start(&redis_program()).unwrap();
    let cut = Cut::before(redis.port).await;
    let bench = Bench::with_redis(&format!("redis://127.0.0.1:{}/0", cut.port)).await;
    let counts = bench
        .under_load(what, async {
            cut.set(line);
            tokio::time::sleep(outage()).await;
            cut.set(Line::Passes);
            bench.redis_is_back().await;
        })
        .await;
    counts.none_refused().none_waits();
}

/// A Redis with a replica and a sentinel that watches both.
pub struct Watched {
    pub master: RedisServer,
    sentinel: RedisServer,
    _replica: RedisServer,
}

impl Watched {
    pub async fn start() -> Watched {
        let program = redis_program();
        let master = RedisServer::start(&program).unwrap();
        let port = master.port.to_string();
        let replica = RedisServer::start_with(&program, &["--replicaof", "127.0.0.1", &port]).unwrap();
        let sentinel = RedisServer::start_sentinel(&program, &port).unwrap();
        let client = redis::Client::open(sentinel.url()).unwrap();
        let mut asking = client.get_multiplexed_async_connection().await.unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let replicas = redis::cmd("SENTINEL").arg("REPLICAS").arg("main").to_owned();
            let known: Vec<std::collections::HashMap<String, String>> =
                replicas.query_async(&mut asking).await.unwrap();
            let linked = |replica: &std::collections::HashMap<String, String>| {
                replica.get("master-link-status").is_some_and(|status| status == "ok")
            };
            if known.iter().any(linked) {
                return Watched { master, sentinel, _replica: replica };
            }
            assert!(Instant::now() < until, "the sentinel does not find the replica: {known:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    pub fn url(&self) -> String {
        format!("redis+sentinel://127.0.0.1:{}/main", self.sentinel.port)
    }
}

async fn sentinels_fail_over(_: Backend) {
    let mut watched = Watched::start().await;
    let bench = Bench::with_redis(&watched.url()).await;
    bench.redis_is_back().await;
    let counts = bench
        .under_load("Redis killed with a sentinel and a replica", async {
            watched.master.stop();
            tokio::time::sleep(outage()).await;
            bench.redis_is_back().await;
        })
        .await;
    counts.none_refused().none_waits();
}

async fn postgres_is_killed(_: Backend) {
    let redis = RedisServer::start(&redis_program()).unwrap();
    let programs = postgres_programs();
    let Bench { mut postgres, app } = Bench::with_redis(&redis.url()).await;
    let counts = load(&app, "PostgreSQL killed", async {
        postgres.stop();
        tokio::time::sleep(outage()).await;
        postgres.start_again(&programs).unwrap();
    })
    .await;
    Bench { postgres, app }.compare(&counts).await;
    counts.none_refused();
}

async fn postgres_is_frozen(_: Backend) {
    let redis = RedisServer::start(&redis_program()).unwrap();
    let bench = Bench::with_redis(&redis.url()).await;
    let counts = bench
        .under_load("PostgreSQL frozen", async {
            bench.postgres.freeze();
            tokio::time::sleep(outage()).await;
            bench.postgres.thaw();
        })
        .await;
    counts.none_refused();
}

async fn postgres_is_cut_off(_: Backend) {
    let redis = RedisServer::start(&redis_program()).unwrap();
    let postgres = database();
    let cut = Cut::before(postgres.port).await;
    let bench = Bench::start(postgres, cut.port, &redis.url(), 100_000_000).await;
    let counts = bench
        .under_load("PostgreSQL cut off", async {
            cut.set(Line::Drops);
            tokio::time::sleep(outage()).await;
            cut.set(Line::Passes);
        })
        .await;
    counts.none_refused();
}

/// Two replicas share a limit of ten; without Redis each grants five.
async fn a_share_of_the_limit(_: Backend) {
    let program = redis_program();
    let mut redis = RedisServer::start(&program).unwrap();
    let postgres = database();
    let port = postgres.port;
    let bench = Bench::start(postgres, port, &redis.url(), 10).await;
    let other = bench.app.start_beside(bench.app.settings().clone()).await;
    let alice = bench.app.as_agent("alice").await;
    let there = other.with_key(&key_of(&alice));
    // A heartbeat comes every ten seconds.
    tokio::time::sleep(Duration::from_secs(14)).await;
    redis.stop();
    for actor in [&alice, &there] {
        let mut passed = 0;
        let refused = loop {
            let answer = actor.call("calculator__add", json!({ "a": 1, "b": 2 })).await;
            match answer.text().contains("\"result\"") {
                true => passed += 1,
                false => break answer,
            }
        };
        refused.refused(&[Code::RateLimited]);
        assert_eq!(passed, 5, "half of ten: {}", refused.exchange());
    }
    redis.start_again(&program).unwrap();
    bench.redis_is_back().await;
    other.anonymous_from_loopback().until("/ready", Duration::from_secs(20), |a| a.status == 200).await;
    for round in 0..10 {
        let actor = if round % 2 == 0 { &alice } else { &there };
        actor.call("calculator__add", json!({ "a": 1, "b": 2 })).await.tool_text();
    }
    let over = there.call("calculator__add", json!({ "a": 1, "b": 2 })).await;
    over.refused(&[Code::RateLimited]);
}

async fn limits_may_be_refused(backend: Backend) {
    let mut redis = RedisServer::start(&redis_program()).unwrap();
    let settings = Settings::new()
        .env("REDIS_URL", redis.url())
        .env("RATE_LIMIT_MAX_REQUESTS", 1000)
        .env("LIMITS_WITHOUT_REDIS", "refuse");
    let app = TestApp::start(backend, settings).await;
    let agent = app.as_agent("alice").await;
    agent.call("calculator__add", json!({ "a": 1, "b": 2 })).await.tool_text();
    redis.stop();
    agent.call("calculator__add", json!({ "a": 1, "b": 2 })).await.refused(&[Code::StateUnavailable]);
}

/// A copy that Redis still has does not bring back a session that ended while it was away.
async fn a_session_that_ended_stays_ended(_: Backend) {
    let redis = RedisServer::start(&redis_program()).unwrap();
    let bench = Bench::with_redis(&redis.url()).await;
    let other = bench.app.start_beside(bench.app.settings().clone()).await;
    let alice = bench.app.as_agent("alice").await;
    let here = McpClient::legacy(&alice, "/mcp", "2025-11-25", json!({})).await;
    let there = here.by(&other.with_key(&key_of(&alice)));
    let kept = McpClient::legacy(&alice, "/mcp", "2025-11-25", json!({})).await;
    assert_eq!(there.result("ping", json!({})).await, json!({}));
    redis.freeze();
    assert!((200..300).contains(&here.delete().await.status));
    assert_eq!(there.open("ping", json!({})).await.status, 404, "the row is gone for the other replica too");
    // One that lives is found by both meanwhile, and a new one too.
    let fresh = McpClient::legacy(&alice, "/mcp", "2025-11-25", json!({})).await;
    for client in [&kept, &fresh] {
        assert_eq!(client.result("ping", json!({})).await, json!({}));
        assert_eq!(client.by(&other.with_key(&key_of(&alice))).result("ping", json!({})).await, json!({}));
    }
    redis.thaw();
    bench.redis_is_back().await;
    other.anonymous_from_loopback().until("/ready", Duration::from_secs(20), |a| a.status == 200).await;
    for client in [&here, &there] {
        assert_eq!(client.open("ping", json!({})).await.status, 404, "it stays ended");
    }
    assert_eq!(fresh.result("ping", json!({})).await, json!({}));
}

fn key_of(actor: &Actor) -> String {
    actor.headers().iter().find(|(name, _)| name == "x-mcp-key").expect("an agent has a key").1.clone()
}
