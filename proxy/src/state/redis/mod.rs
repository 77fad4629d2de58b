//! Shared state in Redis, for several replicas. Every written key has a time to live, limits run on the
//! clock of Redis, and a dead Redis is an error within the timeout, never a hang.

mod address;
mod connect;
mod link;
mod live;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{Either, ready};
use redis::{Cmd, Script, cmd};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::address::Source;
pub use self::address::{InvalidRedisUrl, RedisSettings};
use self::connect::Connector;
use self::link::Link;
use self::live::Live;
use super::{
    Admission, Admitting, LimitKey, Quota, StateError, StateKey, StateStore, StoreMemory, Subscription,
};

/// Store of several replicas.
pub struct RedisState {
    link: Link,
    live: Live,
    admit: Script,
    /// Guard that stops the two tasks with the store.
    _stop: DropGuard,
}

impl RedisState {
    /// Reads the settings and starts connecting. Does not wait for Redis: a gateway starts without Redis
    /// and reports the outage at `/ready`. Must be called within a Tokio runtime.
    pub fn open(settings: &RedisSettings) -> Result<Self, InvalidRedisUrl> {
        crate::tls::prepare();
        let connector = Arc::new(Connector { source: Source::parse(settings)?, timeout: settings.timeout });
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (link, keeper) = link::link(connector.clone());
        tasks.spawn(keeper.run(stop.clone()));
        let (live, listener) = live::live(connector);
        tasks.spawn(listener.run(stop.clone()));
        Ok(Self { link, live, admit: Script::new(include_str!("admit.lua")), _stop: stop.drop_guard() })
    }

    /// Returns whether Redis is known to be away: an operation would fail at once.
    pub fn is_down(&self) -> bool {
        self.link.is_down()
    }

    /// Waits until Redis is connected anew or answers again, and returns the connection's number: 0 is
    /// before the first.
    pub(super) async fn up_after(&self, number: u64) -> u64 {
        self.link.up_after(number).await
    }

    /// Writes unless the key exists.
    pub(super) async fn put_if_absent(
        &self,
        key: &StateKey,
        value: Bytes,
        ttl: Duration,
    ) -> Result<(), StateError> {
        let mut set = cmd("SET");
        set.arg(key.as_str()).arg(&value[..]).arg("NX").arg("PX").arg(millis(ttl));
        self.link.query(&set).await
    }

    pub(super) async fn admit_shared(
        &self,
        key: LimitKey,
        quota: Quota,
        cost: u32,
    ) -> Result<Admission, StateError> {
        let mut call = self.admit.key(key.to_string());
        call.arg(quota.interval().as_micros() as u64).arg(quota.max).arg(cost);
        let run = |mut connection| async move { call.invoke_async(&mut connection).await };
        let (allowed, remaining, reset, wait): (bool, u32, u64, u64) = self.link.run(run).await?;
        Ok(Admission {
            allowed,
            remaining,
            reset_after: Duration::from_micros(reset),
            retry_after: (!allowed && cost <= quota.max).then(|| Duration::from_micros(wait)),
            share: None,
        })
    }
}

#[async_trait]
impl StateStore for RedisState {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn ping(&self) -> Result<(), StateError> {
        self.link.query(&cmd("PING")).await
    }

    async fn memory(&self) -> Result<Option<StoreMemory>, StateError> {
        let info: String = self.link.query(cmd("INFO").arg("memory")).await?;
        let field = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|value| value.trim().parse().ok())
        };
        let used = field("used_memory")
            .ok_or_else(|| StateError::Unexpected { reason: "INFO names no used_memory".to_owned() })?;
        Ok(Some(StoreMemory { used, allowed: field("maxmemory").unwrap_or(0) }))
    }

    async fn get(&self, key: &StateKey) -> Result<Option<Bytes>, StateError> {
        let value: Option<Vec<u8>> = self.link.query(&Cmd::get(key.as_str())).await?;
        Ok(value.map(Bytes::from))
    }

    async fn put(&self, key: &StateKey, value: Bytes, ttl: Duration) -> Result<(), StateError> {
        self.link.query(&Cmd::pset_ex(key.as_str(), &value[..], millis(ttl))).await
    }

    async fn delete(&self, key: &StateKey) -> Result<bool, StateError> {
        self.link.query(&Cmd::del(key.as_str())).await
    }

    fn admit<'a>(&'a self, key: LimitKey, quota: &Quota, cost: u32) -> Admitting<'a> {
        if quota.is_unlimited() {
            return Either::Left(ready(Ok(Admission::UNLIMITED)));
        }
        Either::Right(self.admit_shared(key, *quota, cost).boxed())
    }

    async fn publish(&self, channel: &StateKey, payload: Bytes) -> Result<(), StateError> {
        self.link.query::<i64>(&Cmd::publish(channel.as_str(), &payload[..])).await.map(|_| ())
    }

    async fn subscribe(&self, channel: &StateKey) -> Result<Subscription, StateError> {
        self.live.subscribe(channel).await
    }
}

/// Converts a time to live for Redis: whole milliseconds, at least one, at most a century.
fn millis(ttl: Duration) -> u64 {
    const CENTURY: u128 = 100 * 365 * 86_400 * 1000;
    ttl.as_millis().clamp(1, CENTURY) as u64
}
