//! Fallback state for outages of Redis: limits are decided from this process's memory as its share of the
//! quota, values of this replica are still readable, and unconfirmed writes are sent when Redis is back.
//! Operations that need another replica fail as before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use dashmap::DashMap;
use futures_util::FutureExt;
use futures_util::future::{Either, ready};
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::{
    Admission, Admitting, LimitKey, MemoryState, Quota, RedisState, StateError, StateKey, StateStore,
    StoreMemory, Subscription,
};

/// Most unconfirmed writes; of further ones the copies expire by themselves.
const MAX_UNCONFIRMED: usize = 100_000;

/// Pause after a write that Redis refused although connected.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Redis, and this process's memory while Redis is away.
pub struct FallbackState {
    inner: Arc<Inner>,
    /// Guard that stops the tasks of this state.
    _stop: DropGuard,
}

/// Numbers of decisions without Redis, since the start of this replica.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Alone {
    /// Requests counted against this replica's share of a limit.
    pub limits: u64,
    /// Copies that were neither read from nor written to Redis: their original decides.
    pub copies: u64,
    /// Values read from or kept in this process's memory.
    pub values: u64,
}

struct Inner {
    redis: RedisState,
    /// Choice of local limits during an outage; otherwise limits fail.
    limits_alone: bool,
    memory: MemoryState,
    /// Number of replicas that share a quota.
    replicas: AtomicU32,
    /// Writes to be sent when Redis is back.
    unconfirmed: DashMap<StateKey, Unconfirmed>,
    has_unconfirmed: AtomicBool,
    added: Notify,
    next: AtomicU64,
    limits: AtomicU64,
    copies: AtomicU64,
    values: AtomicU64,
}

/// A write that Redis did not confirm; the newest of each key counts.
#[derive(Clone)]
struct Unconfirmed {
    number: u64,
    what: Write,
}

#[derive(Clone)]
enum Write {
    Delete,
    Put(Bytes, Instant),
}

impl FallbackState {
    /// Creates the state. `limits_alone` selects local limits during an outage; otherwise limits fail. Must
    /// be called within a Tokio runtime.
    pub fn new(redis: RedisState, limits_alone: bool) -> Self {
        let inner = Arc::new(Inner {
            redis,
            limits_alone,
            memory: MemoryState::new(),
            replicas: AtomicU32::new(1),
            unconfirmed: DashMap::new(),
            has_unconfirmed: AtomicBool::new(false),
            added: Notify::new(),
            next: AtomicU64::new(0),
            limits: AtomicU64::new(0),
            copies: AtomicU64::new(0),
            values: AtomicU64::new(0),
        });
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (flushing, stopped) = (Arc::clone(&inner), stop.clone());
        tasks.spawn(async move { stopped.run_until_cancelled(flushing.flush_when_connected()).await });
        let (restoring, stopped) = (Arc::clone(&inner), stop.clone());
        tasks.spawn(async move { stopped.run_until_cancelled(restoring.restore()).await });
        Self { inner, _stop: stop.drop_guard() }
    }

    /// Sets the number of live replicas; 0 counts as one.
    pub fn set_replicas(&self, number: u32) {
        self.inner.replicas.store(number.max(1), Ordering::Relaxed);
    }

    pub fn alone(&self) -> Alone {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Inner { limits, copies, values, .. } = &*self.inner;
        Alone { limits: read(limits), copies: read(copies), values: read(values) }
    }
}

impl Inner {
    /// Counts against this replica's part of the quota.
    fn admit_alone(&self, key: LimitKey, quota: &Quota, cost: u32) -> Admission {
        self.limits.fetch_add(1, Ordering::Relaxed);
        let share = (quota.max / self.replicas.load(Ordering::Relaxed)).max(1);
        let admission = self.memory.admit_now(key, &Quota::new(share, quota.window), cost);
        Admission { share: Some(share), ..admission }
    }

    fn add_unconfirmed(&self, key: &StateKey, what: Write) {
        if self.unconfirmed.len() >= MAX_UNCONFIRMED && !self.unconfirmed.contains_key(key) {
            return tracing::warn!(
                "too much is to be written to Redis when it is back; the rest expires there"
            );
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.unconfirmed.insert(key.clone(), Unconfirmed { number, what });
        self.has_unconfirmed.store(true, Ordering::Release);
        self.added.notify_one();
    }

    /// Forgets an earlier write of a key that Redis has confirmed.
    fn confirm(&self, key: &StateKey) {
        if self.has_unconfirmed.load(Ordering::Acquire) {
            self.unconfirmed.remove(key);
        }
    }

    /// Returns whether Redis may lack the last write of this key.
    fn is_unconfirmed(&self, key: &StateKey) -> bool {
        self.has_unconfirmed.load(Ordering::Acquire) && self.unconfirmed.contains_key(key)
    }

    /// Reads a value of this replica. Absence here does not prove absence at other replicas.
    async fn own(&self, key: &StateKey, error: StateError) -> Result<Option<Bytes>, StateError> {
        match self.memory.get(key).await? {
            Some(value) => {
                self.values.fetch_add(1, Ordering::Relaxed);
                Ok(Some(value))
            }
            None => {
                self.copies.fetch_add(1, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    /// Sends unconfirmed writes to Redis, whenever it is connected.
    async fn flush_when_connected(&self) {
        loop {
            self.added.notified().await;
            while !self.unconfirmed.is_empty() {
                self.redis.up_after(0).await;
                if self.flush().await.is_err() {
                    sleep(RETRY_PAUSE).await;
                }
            }
            self.has_unconfirmed.store(false, Ordering::Release);
            if !self.unconfirmed.is_empty() {
                // A write was added between the check and the store.
                self.has_unconfirmed.store(true, Ordering::Release);
                self.added.notify_one();
            }
        }
    }

    async fn flush(&self) -> Result<(), StateError> {
        let unconfirmed: Vec<(StateKey, Unconfirmed)> =
            self.unconfirmed.iter().map(|entry| (entry.key().clone(), entry.value().clone())).collect();
        for (key, Unconfirmed { number, what }) in unconfirmed {
            match what {
                Write::Delete => {
                    self.redis.delete(&key).await?;
                }
                Write::Put(value, until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if !left.is_zero() {
                        self.redis.put(&key, value, left).await?;
                    }
                }
            }
            self.unconfirmed.remove_if(&key, |_, newest| newest.number == number);
        }
        Ok(())
    }

    /// Restores the values of this replica to a Redis that lost everything.
    async fn restore(&self) {
        let mut number = self.redis.up_after(0).await;
        loop {
            number = self.redis.up_after(number).await;
            for (key, value, left) in self.memory.living() {
                if !self.is_unconfirmed(&key) && self.redis.put_if_absent(&key, value, left).await.is_err() {
                    break;
                }
            }
        }
    }
}

#[async_trait]
impl StateStore for FallbackState {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn ping(&self) -> Result<(), StateError> {
        self.inner.redis.ping().await
    }

    async fn memory(&self) -> Result<Option<StoreMemory>, StateError> {
        self.inner.redis.memory().await
    }

    async fn get(&self, key: &StateKey) -> Result<Option<Bytes>, StateError> {
        if self.inner.is_unconfirmed(key) {
            let reason = "Redis does not have the newest value yet".to_owned();
            let error = StateError::Unavailable { reason, since: jiff::Timestamp::now() };
            return self.inner.own(key, error).await;
        }
        match self.inner.redis.get(key).await {
            Err(error) => self.inner.own(key, error).await,
            found => found,
        }
    }

    async fn put(&self, key: &StateKey, value: Bytes, ttl: Duration) -> Result<(), StateError> {
        let kept = self.inner.memory.put(key, value.clone(), ttl).await;
        match self.inner.redis.put(key, value.clone(), ttl).await {
            Ok(()) => self.inner.confirm(key),
            Err(_) => {
                kept?;
                self.inner.values.fetch_add(1, Ordering::Relaxed);
                self.inner.add_unconfirmed(key, Write::Put(value, Instant::now() + ttl));
            }
        }
        Ok(())
    }

    async fn put_copy(&self, key: &StateKey, value: Bytes, ttl: Duration) -> Result<(), StateError> {
        let put = self.inner.redis.put(key, value, ttl).await;
        match put {
            Ok(()) => self.inner.confirm(key),
            Err(_) => {
                self.inner.copies.fetch_add(1, Ordering::Relaxed);
                self.inner.add_unconfirmed(key, Write::Delete);
            }
        }
        put
    }

    async fn delete(&self, key: &StateKey) -> Result<bool, StateError> {
        let own = self.inner.memory.delete(key).await?;
        match self.inner.redis.delete(key).await {
            Ok(there) => {
                self.inner.confirm(key);
                Ok(there || own)
            }
            Err(_) => {
                self.inner.copies.fetch_add(1, Ordering::Relaxed);
                self.inner.add_unconfirmed(key, Write::Delete);
                Ok(own)
            }
        }
    }

    fn admit<'a>(&'a self, key: LimitKey, quota: &Quota, cost: u32) -> Admitting<'a> {
        if quota.is_unlimited() {
            return Either::Left(ready(Ok(Admission::UNLIMITED)));
        }
        let (inner, quota) = (&*self.inner, *quota);
        if inner.limits_alone && inner.redis.is_down() {
            return Either::Left(ready(Ok(inner.admit_alone(key, &quota, cost))));
        }
        let asking = async move {
            match inner.redis.admit_shared(key, quota, cost).await {
                Ok(admission) => Ok(admission),
                Err(error) if !inner.limits_alone => Err(error),
                Err(error) => {
                    tracing::debug!(%error, "a limit is decided without Redis");
                    Ok(inner.admit_alone(key, &quota, cost))
                }
            }
        };
        Either::Right(asking.boxed())
    }

    fn sweep(&self) {
        self.inner.memory.sweep();
    }

    async fn publish(&self, channel: &StateKey, payload: Bytes) -> Result<(), StateError> {
        self.inner.redis.publish(channel, payload).await
    }

    async fn subscribe(&self, channel: &StateKey) -> Result<Subscription, StateError> {
        self.inner.redis.subscribe(channel).await
    }
}
