//! The shared state of a replica that goes on while Redis is away: limits are decided from this
//! process's memory as its share of the quota, values that it wrote itself are still read, and what
//! Redis did not hear of is written to it when it is back. What needs another replica fails as before.

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
    Subscription,
};

/// Most writes that wait for Redis; of further ones the copies expire by themselves.
const MOST_OWED: usize = 100_000;

/// After a write that Redis did not take although it is connected.
const AGAIN: Duration = Duration::from_millis(200);

/// Redis, and this process's memory while Redis is away.
pub struct FallbackState {
    inner: Arc<Inner>,
    /// Ends the task that settles what is owed.
    _stop: DropGuard,
}

/// Number of decisions of this replica alone, since its start.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Alone {
    /// Requests counted against this replica's share of a limit.
    pub limits: u64,
    /// Copies that were not read from or written to Redis: their original decides.
    pub copies: u64,
    /// Values read from or kept in this process's memory.
    pub values: u64,
}

struct Inner {
    redis: RedisState,
    /// True if limits are decided alone, or fail.
    limits_alone: bool,
    memory: MemoryState,
    /// Among how many replicas a quota is divided.
    replicas: AtomicU32,
    /// Writes for Redis when it is back.
    owed: DashMap<StateKey, Owed>,
    owing: AtomicBool,
    told: Notify,
    next: AtomicU64,
    limits: AtomicU64,
    copies: AtomicU64,
    values: AtomicU64,
}

/// A write that Redis did not confirm; the newest of each key counts.
#[derive(Clone)]
struct Owed {
    number: u64,
    what: Write,
}

#[derive(Clone)]
enum Write {
    Delete,
    Put(Bytes, Instant),
}

impl FallbackState {
    /// `limits_alone` says whether limits are decided without Redis, or fail. Must be called within a
    /// Tokio runtime.
    pub fn new(redis: RedisState, limits_alone: bool) -> Self {
        let inner = Arc::new(Inner {
            redis,
            limits_alone,
            memory: MemoryState::new(),
            replicas: AtomicU32::new(1),
            owed: DashMap::new(),
            owing: AtomicBool::new(false),
            told: Notify::new(),
            next: AtomicU64::new(0),
            limits: AtomicU64::new(0),
            copies: AtomicU64::new(0),
            values: AtomicU64::new(0),
        });
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (settling, stopped) = (Arc::clone(&inner), stop.clone());
        tasks.spawn(async move { stopped.run_until_cancelled(settling.settle()).await });
        let (restoring, stopped) = (Arc::clone(&inner), stop.clone());
        tasks.spawn(async move { stopped.run_until_cancelled(restoring.restore()).await });
        Self { inner, _stop: stop.drop_guard() }
    }

    /// Says how many replicas live now; 0 counts as one.
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

    fn owe(&self, key: &StateKey, what: Write) {
        if self.owed.len() >= MOST_OWED && !self.owed.contains_key(key) {
            return tracing::warn!(
                "too much is to be written to Redis when it is back; the rest expires there"
            );
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.owed.insert(key.clone(), Owed { number, what });
        self.owing.store(true, Ordering::Release);
        self.told.notify_one();
    }

    /// Forgets what Redis confirmed.
    fn settled(&self, key: &StateKey) {
        if self.owing.load(Ordering::Acquire) {
            self.owed.remove(key);
        }
    }

    /// Returns true if Redis has something else than what was last written here.
    fn is_owed(&self, key: &StateKey) -> bool {
        self.owing.load(Ordering::Acquire) && self.owed.contains_key(key)
    }

    /// Reads what this replica wrote itself. That it wrote nothing does not say that nobody did.
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

    /// Writes to Redis what it did not hear of, whenever it can be reached.
    async fn settle(&self) {
        loop {
            self.told.notified().await;
            while !self.owed.is_empty() {
                self.redis.up_after(0).await;
                if self.pay().await.is_err() {
                    sleep(AGAIN).await;
                }
            }
            self.owing.store(false, Ordering::Release);
            if !self.owed.is_empty() {
                // One came between the two.
                self.owing.store(true, Ordering::Release);
                self.told.notify_one();
            }
        }
    }

    async fn pay(&self) -> Result<(), StateError> {
        let owed: Vec<(StateKey, Owed)> =
            self.owed.iter().map(|entry| (entry.key().clone(), entry.value().clone())).collect();
        for (key, Owed { number, what }) in owed {
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
            self.owed.remove_if(&key, |_, newest| newest.number == number);
        }
        Ok(())
    }

    /// Gives a Redis that lost everything the values that this replica wrote and still has.
    async fn restore(&self) {
        let mut number = self.redis.up_after(0).await;
        loop {
            number = self.redis.up_after(number).await;
            for (key, value, left) in self.memory.living() {
                if !self.is_owed(&key) && self.redis.put_if_absent(&key, value, left).await.is_err() {
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

    async fn get(&self, key: &StateKey) -> Result<Option<Bytes>, StateError> {
        if self.inner.is_owed(key) {
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
            Ok(()) => self.inner.settled(key),
            Err(_) => {
                kept?;
                self.inner.values.fetch_add(1, Ordering::Relaxed);
                self.inner.owe(key, Write::Put(value, Instant::now() + ttl));
            }
        }
        Ok(())
    }

    async fn put_copy(&self, key: &StateKey, value: Bytes, ttl: Duration) -> Result<(), StateError> {
        let put = self.inner.redis.put(key, value, ttl).await;
        match put {
            Ok(()) => self.inner.settled(key),
            Err(_) => {
                self.inner.copies.fetch_add(1, Ordering::Relaxed);
                self.inner.owe(key, Write::Delete);
            }
        }
        put
    }

    async fn delete(&self, key: &StateKey) -> Result<bool, StateError> {
        let own = self.inner.memory.delete(key).await?;
        match self.inner.redis.delete(key).await {
            Ok(there) => {
                self.inner.settled(key);
                Ok(there || own)
            }
            Err(_) => {
                self.inner.copies.fetch_add(1, Ordering::Relaxed);
                self.inner.owe(key, Write::Delete);
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
