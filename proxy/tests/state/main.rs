//! What every store of shared state does: one suite, run in memory, on Redis, and on Redis with TLS;
//! and what only Redis can do to us: be away, come back, hang, move to another server.

mod contract;
mod equivalence;
mod outage;
mod redis_server;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use proxy::state::{MemoryState, RedisSettings, RedisState, StateKey, StateStore};

use crate::redis_server::RedisServer;

#[tokio::test]
async fn memory_keeps_the_contract() {
    contract::run(&MemoryState::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_the_contract() {
    // One given from outside, or one of our own.
    if let Some(url) = redis_server::given_url() {
        return contract::run(&RedisState::open(&RedisSettings::new(url)).unwrap()).await;
    }
    let Some(server) = RedisServer::start().await else { return };
    contract::run(&RedisState::open(&RedisSettings::new(server.url())).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_with_tls_keeps_the_contract() {
    let Some(server) = RedisServer::start_with_tls().await else { return };
    let store = RedisState::open(&RedisSettings::new(server.url())).unwrap();
    contract::run(&store).await;

    // The same by the setting beside the URL.
    let plain = server.url().split('?').next().unwrap().to_owned();
    let ca = PathBuf::from(server.url().split("ca=").nth(1).unwrap());
    let settings = RedisSettings { ca_file: Some(ca), ..RedisSettings::new(plain.clone()) };
    RedisState::open(&settings).unwrap().ping().await.unwrap();

    // An authority that did not sign it is not believed.
    let stranger = RedisState::open(&RedisSettings::new(plain)).unwrap();
    let error = stranger.ping().await.unwrap_err().to_string();
    assert!(error.contains("certificate") || error.contains("UnknownIssuer"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_share_what_they_write() {
    let Some(server) = RedisServer::start().await else { return };
    let one = RedisState::open(&RedisSettings::new(server.url())).unwrap();
    let two = RedisState::open(&RedisSettings::new(server.url())).unwrap();
    let key = StateKey::global("shared");
    one.put(&key, Bytes::from_static(b"here"), Duration::from_secs(5)).await.unwrap();
    assert_eq!(two.get(&key).await.unwrap().as_deref(), Some(&b"here"[..]));
    contract::two_replicas_share_a_limit(&one, &two).await;
    contract::two_replicas_share_a_channel(&one, &two).await;
    // Nothing is left that lives for ever.
    assert_eq!(server.keys_without_expiry().await, Vec::<String>::new());
}
