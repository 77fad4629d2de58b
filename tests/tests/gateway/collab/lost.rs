//! What stays: acknowledged steps and tokens after `kill -9`, with two gateways on one database, without Redis.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::outages::{database, postgres_programs, redis_program};
use protocol::Code;
use tests::redis_server::RedisServer;
use tests::{Actor, Backend, Case, Settings, TestApp, Value, cases, json};

use super::{done, make_task, metric, tool};

pub const CASES: &[Case] = cases![
    Every: acknowledged_steps_and_tokens_survive_a_kill;
    Postgres: a_full_redis_is_degraded_and_ready, tokens_and_steps_survive_postgres_and_redis, copies_have_the_names_of_earlier_gateways,
        two_gateways_are_one, outside_rows_are_seen_within_a_second, redis_is_not_needed;
];

/// All events of a task, whose numbers have no gap.
async fn all_events(actor: &Actor, task: &str) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    loop {
        let answer = done(actor, "subscribe_logs", json!({ "task_id": task, "after": all.len() })).await;
        for event in answer["events"].as_array().unwrap() {
            all.push(event.clone());
            assert_eq!(event["seq"], all.len());
        }
        if answer["more"] == false {
            return all;
        }
    }
}

/// Ids of the steps in a task, each once.
async fn steps_of(actor: &Actor, task: &str) -> HashSet<String> {
    let events = all_events(actor, task).await;
    let ids: Vec<String> =
        events.iter().filter_map(|event| Some(event["stepId"].as_str()?.to_owned())).collect();
    let distinct: HashSet<String> = ids.iter().cloned().collect();
    assert_eq!(distinct.len(), ids.len(), "a step is stored twice");
    distinct
}

/// Logs steps until the time is up; returns the ids of those that were acknowledged.
async fn log_until(actor: Actor, name: String, until: Instant) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if Instant::now() >= until {
            break;
        }
        let id = format!("{name}-{number}");
        let body = json!({ "task_id": "t", "step": id, "step_id": id }).to_string();
        let sent = actor
            .try_send(
                reqwest::Method::POST,
                "/tools/log_step",
                &[("content-type", "application/json")],
                Some(body.into_bytes()),
            )
            .await;
        if sent.is_ok_and(|answer| answer.status == 200) {
            acknowledged.push(id);
        }
    }
    acknowledged
}

async fn acknowledged_steps_and_tokens_survive_a_kill(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    let ada = app.as_agent("ada").await;
    make_task(&ada, "t").await;
    let mut acknowledged: HashSet<String> = HashSet::new();
    let mut last_token = 0;
    for round in 0..3 {
        let actor = app.as_agent("ada").await;
        let lease = done(&actor, "claim_file", json!({ "task_id": "t", "path": format!("{round}") })).await;
        assert!(lease["token"].as_i64().unwrap() > last_token, "no token goes backwards");
        last_token = lease["token"].as_i64().unwrap();
        let until = Instant::now() + Duration::from_millis(1500);
        let writers: Vec<_> = (0..4)
            .map(|number| tokio::spawn(log_until(actor.clone(), format!("{round}-{number}"), until)))
            .collect();
        tokio::time::sleep(Duration::from_millis(700 + 150 * round)).await;
        app.kill().await;
        for writer in writers {
            acknowledged.extend(writer.await.unwrap());
        }
        app.boot(None).await;
    }
    let actor = app.as_agent("ada").await;
    let stored = steps_of(&actor, "t").await;
    assert!(acknowledged.len() > 30, "{}", acknowledged.len());
    let lost: Vec<_> = acknowledged.difference(&stored).collect();
    assert!(
        lost.is_empty(),
        "{} of {} acknowledged steps are lost: {lost:?}",
        lost.len(),
        acknowledged.len()
    );
    let renewed = done(&actor, "renew_file", json!({ "task_id": "t", "path": "0" })).await;
    assert!(renewed["token"].as_i64().unwrap() < last_token, "leases survive too");
}

async fn tokens_and_steps_survive_postgres_and_redis(_: Backend) {
    let (programs, program) = (postgres_programs(), redis_program());
    let mut postgres = database();
    let mut redis = RedisServer::start(&program).unwrap();
    let settings =
        Settings::new().env("DATABASE_URL", postgres.url("postgres")).env("REDIS_URL", redis.url());
    let app = TestApp::start(Backend::Sqlite, settings).await;
    let local = app.anonymous_from_loopback();
    make_task(&local, "t").await;
    let claim = async |path: &str| {
        let lease = done(&local, "claim_file", json!({ "task_id": "t", "path": path })).await;
        lease["token"].as_i64().unwrap()
    };
    let mut tokens = vec![claim("a").await];
    let written = json!({ "task_id": "t", "path": "a", "content": "x", "token": tokens[0] });
    done(&local, "file_write", written.clone()).await;
    let step = json!({ "task_id": "t", "step": "acknowledged", "step_id": "1" });
    done(&local, "log_step", step).await;
    let mut connection =
        redis::Client::open(redis.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await.unwrap();
    tokens.push(claim("b").await);
    redis.stop();
    redis.start_again(&program).unwrap();
    tokens.push(claim("c").await);
    postgres.stop();
    let refused = tool(&local, "claim_file", json!({ "task_id": "t", "path": "d" })).await;
    refused.must(refused.status == 503, "there is no lease without the database");
    postgres.start_again(&programs).unwrap();
    local.until("/ready", Duration::from_secs(20), |answer| answer.status == 200).await;
    tokens.push(claim("d").await);
    assert!(tokens.windows(2).all(|pair| pair[0] < pair[1]), "{tokens:?}");
    assert_eq!(done(&local, "claim_file", json!({ "task_id": "t", "path": "a" })).await["token"], tokens[0]);
    // Its lease and the version that it saw count as before.
    assert_eq!(done(&local, "file_write", written).await["version"], 2);
    assert!(steps_of(&local, "t").await.contains("1"));
}

async fn a_full_redis_is_degraded_and_ready(backend: Backend) {
    let redis = RedisServer::start_with(&redis_program(), &["--maxmemory", "1mb"]).unwrap();
    let app = TestApp::start(backend, Settings::new().env("REDIS_URL", redis.url())).await;
    let local = app.anonymous_from_loopback();
    let ready = local.get("/ready").await.json_of(200);
    assert_eq!((ready["status"].as_str(), ready["ready"].as_bool()), (Some("degraded"), Some(true)));
    let state = ready["dependencies"].as_array().unwrap().iter().find(|one| one["name"] == "state").unwrap();
    assert!(state["ok"] == true && state["detail"].as_str().unwrap().contains("of its memory"), "{state}");
    let health = local.get("/health").await.json_of(200);
    assert_eq!((health["status"].as_str(), health["redis"].as_str()), (Some("degraded"), Some("connected")));
    assert_eq!(metric(&app, "mcp_dependency_up{dependency=\"state\"}").await, 1.0);
    assert_eq!(metric(&app, "mcp_state_memory_allowed_bytes").await, 1_048_576.0);
    assert!(metric(&app, "mcp_state_memory_used_bytes").await > 800_000.0);
}

async fn copies_have_the_names_of_earlier_gateways(backend: Backend) {
    use futures_util::StreamExt;
    let app = TestApp::start(backend, Settings::new().env("REDIS_COMPAT_KEYS", true)).await;
    let url = app.storage.redis_url.clone().unwrap();
    let client = redis::Client::open(url).unwrap();
    let mut messages = client.get_async_pubsub().await.unwrap();
    messages.subscribe("task:compat-1:updates").await.unwrap();
    let ada = app.as_agent("ada").await;
    make_task(&ada, "compat-1").await;
    let mut messages = messages.into_on_message();
    let message = tokio::time::timeout(Duration::from_secs(10), messages.next()).await.unwrap().unwrap();
    let told: Value = serde_json::from_str(&message.get_payload::<String>().unwrap()).unwrap();
    assert_eq!(told, json!({ "topic": "task:compat-1", "seq": 1 }));
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let copy: String = redis::cmd("GET").arg("task:compat-1").query_async(&mut connection).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&copy).unwrap()["title"], "A task");
    ada.delete("/v1/tasks/compat-1").await.status(204);
    let gone = async || {
        let mut connection = connection.clone();
        redis::cmd("EXISTS").arg("task:compat-1").query_async::<i64>(&mut connection).await.unwrap() == 0
    };
    super::until(Duration::from_secs(10), gone).await;
}

async fn two_gateways_are_one(backend: Backend) {
    let contents = tests::scratch::Scratch::new("contents");
    let settings = || Settings::new().env("WORKSPACE_DIR", contents.path().display());
    let app = TestApp::start(backend, settings()).await;
    let other = app.start_beside(settings()).await;
    let ada = app.as_agent("ada").await;
    let key = ada.headers().iter().find(|(name, _)| name == "x-mcp-key").unwrap().1.clone();
    let bob = app.as_agent("bob").await;
    let bobs = bob.headers().iter().find(|(name, _)| name == "x-mcp-key").unwrap().1.clone();
    let (ada_there, bob_there) = (other.with_key(&key), other.with_key(&bobs));
    make_task(&ada, "t").await;
    let lease = done(&ada, "claim_file", json!({ "task_id": "t", "path": "a" })).await;
    tool(&bob_there, "claim_file", json!({ "task_id": "t", "path": "*" })).await.problem(Code::LeaseHeld);
    tool(&bob_there, "file_write", json!({ "task_id": "t", "path": "a", "content": "x" }))
        .await
        .problem(Code::LeaseHeld);
    let written = json!({ "task_id": "t", "path": "a", "content": "from here", "token": lease["token"] });
    done(&ada_there, "file_write", written).await;
    assert_eq!(done(&bob, "file_read", json!({ "task_id": "t", "path": "a" })).await["content"], "from here");
    let waits = {
        let bob_there = bob_there.clone();
        tokio::spawn(async move {
            let arguments = json!({ "task_id": "t", "path": "a", "wait_seconds": 20 });
            (done(&bob_there, "claim_file", arguments).await, Instant::now())
        })
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    let released = Instant::now();
    done(&ada, "release_file", json!({ "task_id": "t", "path": "a" })).await;
    let (granted, at) = waits.await.unwrap();
    assert!(granted["token"].as_i64() > lease["token"].as_i64() && at < released + Duration::from_secs(3));
    // The version that bob saw at one gateway is known at the other.
    done(&bob_there, "file_write", json!({ "task_id": "t", "path": "a", "content": "from there" })).await;
    let follow = {
        let bob = bob.clone();
        tokio::spawn(async move {
            let newest = done(&bob, "subscribe_logs", json!({ "task_id": "t" })).await["newest"].clone();
            done(&bob, "subscribe_logs", json!({ "task_id": "t", "after": newest, "wait_seconds": 20 })).await
        })
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    done(&ada_there, "log_step", json!({ "task_id": "t", "step": "there" })).await;
    assert_eq!(follow.await.unwrap()["events"][0]["data"]["step"], "there");
    let until = Instant::now() + Duration::from_millis(1500);
    let writers = [(&ada, "here"), (&ada_there, "there"), (&bob, "bob"), (&bob_there, "bob-there")]
        .map(|(actor, name)| tokio::spawn(log_until(actor.clone(), name.to_owned(), until)));
    let mut acknowledged = HashSet::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    assert!(acknowledged.len() > 30);
    assert!(acknowledged.is_subset(&steps_of(&ada, "t").await));
}

async fn outside_rows_are_seen_within_a_second(backend: Backend) {
    use sea_orm::{ConnectionTrait, Database, TransactionTrait};
    let app = TestApp::start(backend, Settings::new()).await;
    let ada = app.as_agent("ada").await;
    make_task(&ada, "t").await;
    let outside = Database::connect(app.storage.database_url.clone().unwrap()).await.unwrap();
    let step = "INSERT INTO task_events (tenant_id, task_id, agent, data) \
                SELECT id, 't', 'script', '{\"step\": \"outside\"}' FROM tenants WHERE slug = 'default'";
    let held = outside.begin().await.unwrap();
    held.execute_unprepared(step).await.unwrap();
    let mut after = 1;
    for _ in 0..5 {
        let sent = Instant::now();
        outside.execute_unprepared(step).await.unwrap();
        let arguments = json!({ "task_id": "t", "after": after, "wait_seconds": 5 });
        let answer = done(&ada, "subscribe_logs", arguments).await;
        assert_eq!(
            (answer["events"].as_array().unwrap().len(), &answer["events"][0]["agent"]),
            (1, &json!("script"))
        );
        assert!(sent.elapsed() < Duration::from_millis(1500), "{:?}", sent.elapsed());
        after = answer["after"].as_i64().unwrap();
    }
    assert!(metric(&app, "mcp_task_sync_lag_seconds").await < 1.0);
    held.commit().await.unwrap();
    outside.execute_unprepared("UPDATE tasks SET status = 'review' WHERE id = 't'").await.unwrap();
    super::until(Duration::from_secs(5), async || all_events(&ada, "t").await.len() == 8).await;
    let events = all_events(&ada, "t").await;
    assert_eq!(events.iter().filter(|event| event["kind"] == "step").count(), 6, "each once");
    assert_eq!(done(&ada, "task_get", json!({ "task_id": "t" })).await["task"]["status"], "review");
    assert_eq!(metric(&app, "mcp_task_outbox_rows_total").await, 7.0);
}

async fn redis_is_not_needed(backend: Backend) {
    let program = redis_program();
    let mut redis = RedisServer::start(&program).unwrap();
    let app = TestApp::start(backend, Settings::new().env("REDIS_URL", redis.url())).await;
    let ada = app.as_agent("ada").await;
    make_task(&ada, "t").await;
    done(&ada, "file_write", json!({ "task_id": "t", "path": "a", "content": "0" })).await;
    let follow = {
        let ada = ada.clone();
        tokio::spawn(async move {
            let mut after = 0;
            let mut steps = Vec::new();
            while steps.len() < 60 {
                let arguments = json!({ "task_id": "t", "after": after, "wait_seconds": 10 });
                for event in done(&ada, "subscribe_logs", arguments).await["events"].as_array().unwrap() {
                    after += 1;
                    assert_eq!(event["seq"], after);
                    steps.extend(event["data"]["step"].as_str().and_then(|step| step.parse::<i64>().ok()));
                }
            }
            steps
        })
    };
    for number in 0..60 {
        match number {
            20 => redis.stop(),
            40 => redis.start_again(&program).unwrap(),
            _ => {}
        }
        done(&ada, "log_step", json!({ "task_id": "t", "step": number.to_string() })).await;
        let text = number.to_string();
        let edit = json!({ "task_id": "t", "path": "a", "content": text, "expected_version": number + 1 });
        done(&ada, "file_write", edit).await;
    }
    assert_eq!(follow.await.unwrap(), (0..60).collect::<Vec<_>>());
    assert_eq!(done(&ada, "file_read", json!({ "task_id": "t", "path": "a" })).await["version"], 61);
    let local = app.anonymous_from_loopback();
    local.until("/ready", Duration::from_secs(20), |answer| answer.status == 200).await;
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    done(&ada, "log_step", json!({ "task_id": "t", "step": "last" })).await;
    let keys = async || {
        let mut connection = connection.clone();
        let keys: Vec<String> =
            redis::cmd("KEYS").arg("t:*:task:t").query_async(&mut connection).await.unwrap();
        keys
    };
    super::until(Duration::from_secs(10), async || keys().await.len() == 1).await;
    let key = keys().await.remove(0);
    let copy: String = redis::cmd("GET").arg(&key).query_async(&mut connection).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&copy).unwrap()["id"], "t");
    let life: i64 = redis::cmd("TTL").arg(&key).query_async(&mut connection).await.unwrap();
    assert!((1..=3600).contains(&life), "{life}");
}
