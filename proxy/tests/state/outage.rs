//! Redis goes away in every way it can, and we neither hang nor stay away.

use std::time::{Duration, Instant};

use bytes::Bytes;
use proxy::state::{
    Bucket, LimitKey, Notice, Quota, RedisSettings, RedisState, StateError, StateKey, StateStore,
};
use uuid::Uuid;

use crate::contract::next;
use crate::redis_server::{RedisServer, free_port};

/// More than the timeout of one second, by what a busy machine may need.
const BOUND: Duration = Duration::from_millis(1500);
const TTL: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_store_opens_without_redis_and_connects_when_it_comes() {
    let port = free_port();
    let store = RedisState::open(&RedisSettings::new(format!("redis://127.0.0.1:{port}"))).unwrap();
    assert_fails_in_time(&store).await;
    let Some(_server) = RedisServer::start_as(vec!["--port".to_owned(), port.to_string()], port).await else {
        return;
    };
    wait_until_up(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_redis_is_an_error_in_time_and_comes_back() {
    let Some(mut server) = RedisServer::start().await else { return };
    let store = RedisState::open(&RedisSettings::new(server.url())).unwrap();
    let channel = StateKey::global("news");
    let mut listener = store.subscribe(&channel).await.unwrap();
    let limit = LimitKey::new(protocol::TenantId::new(), Bucket::Caller, Uuid::now_v7());
    let quota = Quota::new(10, TTL);
    assert!(store.admit(limit, &quota, 10).await.unwrap().allowed);

    server.kill();
    assert_fails_in_time(&store).await;
    let started = Instant::now();
    let refused = store.subscribe(&StateKey::global("other")).await;
    assert!(refused.is_err() && started.elapsed() < BOUND);
    // Once it is known to be down, nobody waits for it.
    let started = Instant::now();
    for _ in 0..100 {
        assert!(store.admit(limit, &quota, 1).await.is_err());
    }
    assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());

    server.up().await;
    wait_until_up(&store).await;
    // The script is loaded anew into the new server, which has forgotten the limit.
    assert!(store.admit(limit, &quota, 10).await.unwrap().allowed);
    assert!(!store.admit(limit, &quota, 1).await.unwrap().allowed);
    // The old subscription lives on and knows that it may have missed something.
    assert_eq!(next(&mut listener).await, Notice::Missed);
    store.publish(&channel, Bytes::from_static(b"again")).await.unwrap();
    assert_eq!(next(&mut listener).await, Notice::Message(Bytes::from_static(b"again")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_between_two_commands_is_found_without_a_caller() {
    let Some(mut server) = RedisServer::start().await else { return };
    let store = RedisState::open(&RedisSettings::new(server.url())).unwrap();
    store.ping().await.unwrap();
    server.kill();
    server.up().await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    store.put(&StateKey::global("x"), Bytes::new(), TTL).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_redis_is_an_error_in_time() {
    let Some(server) = RedisServer::start().await else { return };
    let store = RedisState::open(&RedisSettings::new(server.url())).unwrap();
    store.ping().await.unwrap();
    server.freeze(true);
    assert_fails_in_time(&store).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    // By now it counts as down, and many callers together wait no longer than one.
    let started = Instant::now();
    let key = StateKey::global("x");
    let answers = futures_util::future::join_all((0..50).map(|_| store.get(&key))).await;
    assert!(answers.iter().all(Result::is_err) && started.elapsed() < BOUND);
    server.freeze(false);
    wait_until_up(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_master_is_found_through_a_sentinel() {
    let Some(master) = RedisServer::start().await else { return };
    let (replica_port, sentinel_port) = (free_port(), free_port());
    let words = |text: String| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let of_master = format!("--port {replica_port} --replicaof 127.0.0.1 {}", master.port);
    let replica = RedisServer::start_as(words(of_master), replica_port).await.unwrap();
    let sentinel = RedisServer::start_as(words(format!("--sentinel --port {sentinel_port}")), sentinel_port);
    let sentinel = sentinel.await.unwrap();
    let port = master.port.to_string();
    let () = sentinel.command(&["SENTINEL", "MONITOR", "main", "127.0.0.1", &port, "1"]).await;

    let url = format!("redis+sentinel://127.0.0.1:{},127.0.0.1:{sentinel_port}/main", free_port());
    let store = RedisState::open(&RedisSettings::new(url)).unwrap();
    let key = StateKey::global("moved");
    wait_until_up(&store).await;
    store.put(&key, Bytes::from_static(b"1"), TTL).await.unwrap();

    // A failover needs a replica that the sentinel has seen, which takes it up to ten seconds.
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(error) = sentinel.try_command::<()>(&["SENTINEL", "FAILOVER", "main"]).await {
        assert!(Instant::now() < deadline, "the sentinel starts no failover: {error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    let master_role = redis::Value::BulkString(b"master".to_vec());
    while !matches!(replica.try_command::<Vec<redis::Value>>(&["ROLE"]).await, Ok(role) if role[0] == master_role)
    {
        assert!(Instant::now() < deadline, "the replica was not promoted");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(master);
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(error) = store.put(&key, Bytes::from_static(b"2"), TTL).await {
        assert!(Instant::now() < deadline, "the new master is not found: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let stored: String = replica.command(&["GET", key.as_str()]).await;
    assert_eq!(stored, "2");
}

async fn assert_fails_in_time(store: &RedisState) {
    for _ in 0..3 {
        let started = Instant::now();
        let result = store.put(&StateKey::global("x"), Bytes::new(), TTL).await;
        assert!(matches!(result, Err(StateError::Unavailable { .. })), "{result:?}");
        assert!(started.elapsed() < BOUND, "{:?}", started.elapsed());
    }
}

async fn wait_until_up(store: &RedisState) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Err(error) = store.ping().await {
        assert!(Instant::now() < deadline, "Redis is back, and still: {error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
