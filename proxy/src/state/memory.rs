//! Shared state in this process: for one replica, and for a machine with nothing but Rust. It keeps
//! nothing over a restart and knows no other replica.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use futures_util::future::{Either, ready};

use super::channels::Channels;
use super::{Admission, Admitting, LimitKey, Quota, StateError, StateKey, StateStore, Subscription, gcra};

/// Bytes of values and their keys that are kept before a write is refused.
const CAPACITY: usize = 64 << 20;

/// What an entry weighs beside its key and value.
const OVERHEAD: usize = 96;

/// Entries below which nobody looks for expired ones.
const SWEEP_FLOOR: usize = 1024;

/// The store of a single replica.
pub struct MemoryState {
    started: Instant,
    values: DashMap<StateKey, Value>,
    bytes: AtomicUsize,
    capacity: usize,
    values_sweep: Sweep,
    /// Per key the theoretical arrival time of GCRA, in nanoseconds since `started`.
    arrivals: DashMap<LimitKey, AtomicU64>,
    arrivals_sweep: Sweep,
    channels: Arc<Channels>,
}

struct Value {
    bytes: Bytes,
    expires: Instant,
}

impl Default for MemoryState {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl MemoryState {
    pub fn new() -> Self {
        Self::default()
    }

    /// A store that refuses writes beyond `capacity` bytes of values that live.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            started: Instant::now(),
            values: DashMap::new(),
            bytes: AtomicUsize::new(0),
            capacity,
            values_sweep: Sweep::new(),
            arrivals: DashMap::new(),
            arrivals_sweep: Sweep::new(),
            channels: Arc::default(),
        }
    }

    /// Keys that a limit remembers now; for the metrics.
    pub fn limits_kept(&self) -> usize {
        self.arrivals.len()
    }

    /// The values that live, each with the time that is left of it.
    pub(super) fn living(&self) -> Vec<(StateKey, Bytes, Duration)> {
        let now = Instant::now();
        let living = self.values.iter().filter(|entry| entry.expires > now);
        living.map(|entry| (entry.key().clone(), entry.bytes.clone(), entry.expires - now)).collect()
    }

    /// Counts at once. A key that was seen costs one look-up and one compare-and-swap.
    pub fn admit_now(&self, key: LimitKey, quota: &Quota, cost: u32) -> Admission {
        if quota.is_unlimited() {
            return Admission::UNLIMITED;
        }
        let now = self.nanos();
        if let Some(arrival) = self.arrivals.get(&key) {
            return settle(&arrival, quota, now, cost);
        }
        if self.arrivals_sweep.is_due() {
            self.arrivals.retain(|_, arrival| *arrival.get_mut() > now);
            self.arrivals_sweep.done(self.arrivals.len());
        }
        let arrival = self.arrivals.entry(key).or_default().downgrade();
        settle(&arrival, quota, now, cost)
    }

    fn nanos(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Makes room for a new value, or refuses it.
    fn reserve(&self, weight: usize) -> Result<(), StateError> {
        let fits = |bytes: usize| bytes.saturating_add(weight) <= self.capacity;
        if self.values_sweep.is_due() || !fits(self.bytes.load(Ordering::Relaxed)) {
            self.drop_expired_values();
        }
        if fits(self.bytes.load(Ordering::Relaxed)) {
            Ok(())
        } else {
            Err(StateError::Full { limit: self.capacity })
        }
    }

    fn drop_expired_values(&self) {
        let now = Instant::now();
        self.values.retain(|key, value| {
            let lives = value.expires > now;
            if !lives {
                self.forget(weight(key, &value.bytes));
            }
            lives
        });
        self.values_sweep.done(self.values.len());
    }

    fn insert(&self, entry: Entry<'_, StateKey, Value>, bytes: Bytes, ttl: Duration) {
        self.bytes.fetch_add(weight(entry.key(), &bytes), Ordering::Relaxed);
        let value = Value { bytes, expires: expiry(ttl) };
        if let Entry::Occupied(mut entry) = entry {
            let old = entry.insert(value);
            self.forget(weight(entry.key(), &old.bytes));
        } else {
            entry.insert(value);
        }
    }

    fn remove(&self, key: &StateKey) -> Option<Bytes> {
        let (key, value) = self.values.remove(key)?;
        self.forget(weight(&key, &value.bytes));
        (value.expires > Instant::now()).then_some(value.bytes)
    }

    fn forget(&self, weight: usize) {
        self.bytes.fetch_sub(weight, Ordering::Relaxed);
    }
}

#[async_trait]
impl StateStore for MemoryState {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn is_shared(&self) -> bool {
        false
    }

    async fn ping(&self) -> Result<(), StateError> {
        Ok(())
    }

    async fn get(&self, key: &StateKey) -> Result<Option<Bytes>, StateError> {
        let value = self.values.get(key).filter(|value| value.expires > Instant::now());
        Ok(value.map(|value| value.bytes.clone()))
    }

    async fn put(&self, key: &StateKey, value: Bytes, ttl: Duration) -> Result<(), StateError> {
        self.reserve(weight(key, &value))?;
        self.insert(self.values.entry(key.clone()), value, ttl);
        Ok(())
    }

    async fn put_if_absent(&self, key: &StateKey, value: Bytes, ttl: Duration) -> Result<bool, StateError> {
        self.reserve(weight(key, &value))?;
        let entry = self.values.entry(key.clone());
        if matches!(&entry, Entry::Occupied(taken) if taken.get().expires > Instant::now()) {
            return Ok(false);
        }
        self.insert(entry, value, ttl);
        Ok(true)
    }

    async fn take(&self, key: &StateKey) -> Result<Option<Bytes>, StateError> {
        Ok(self.remove(key))
    }

    async fn delete(&self, key: &StateKey) -> Result<bool, StateError> {
        Ok(self.remove(key).is_some())
    }

    async fn refresh(&self, key: &StateKey, ttl: Duration) -> Result<bool, StateError> {
        let value = self.values.get_mut(key).filter(|value| value.expires > Instant::now());
        Ok(value.map(|mut value| value.expires = expiry(ttl)).is_some())
    }

    fn admit<'a>(&'a self, key: LimitKey, quota: &Quota, cost: u32) -> Admitting<'a> {
        Either::Left(ready(Ok(self.admit_now(key, quota, cost))))
    }

    async fn publish(&self, channel: &StateKey, payload: Bytes) -> Result<(), StateError> {
        self.channels.deliver(channel, payload);
        Ok(())
    }

    async fn subscribe(&self, channel: &StateKey) -> Result<Subscription, StateError> {
        Ok(self.channels.join(channel, |_| ()))
    }
}

/// Decides until nobody else decided in between.
fn settle(arrival: &AtomicU64, quota: &Quota, now: u64, cost: u32) -> Admission {
    let mut seen = arrival.load(Ordering::Relaxed);
    loop {
        let (admission, next) = gcra::decide(quota, seen, now, cost);
        let Some(next) = next else { return admission };
        match arrival.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return admission,
            Err(newer) => seen = newer,
        }
    }
}

fn weight(key: &StateKey, value: &Bytes) -> usize {
    key.as_str().len() + value.len() + OVERHEAD
}

/// When a value ends; a time to live beyond reckoning is a century.
fn expiry(ttl: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(ttl).unwrap_or_else(|| now + Duration::from_secs(100 * 365 * 86_400))
}

/// When to look for expired entries: when as many came as there were, so that the looking costs a
/// constant amount per new entry and expired ones are at most about half.
struct Sweep {
    left: AtomicUsize,
}

impl Sweep {
    fn new() -> Self {
        Self { left: AtomicUsize::new(SWEEP_FLOOR) }
    }

    /// Counts a new entry; true for exactly one caller when it is time.
    fn is_due(&self) -> bool {
        self.left.fetch_sub(1, Ordering::Relaxed) == 1
    }

    fn done(&self, kept: usize) {
        self.left.store(kept.max(SWEEP_FLOOR), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use protocol::TenantId;
    use uuid::Uuid;

    use super::super::Bucket;
    use super::*;

    #[test]
    fn limits_of_callers_that_went_quiet_are_forgotten() {
        let state = MemoryState::new();
        let quota = Quota::new(100, Duration::from_micros(100));
        let tenant = TenantId::new();
        for _ in 0..100_000 {
            state.admit_now(LimitKey::new(tenant, Bucket::Caller, Uuid::now_v7()), &quota, 1);
        }
        assert!(state.limits_kept() <= 2 * SWEEP_FLOOR, "{} kept", state.limits_kept());
    }

    #[tokio::test]
    async fn expired_values_make_room_and_living_ones_do_not() {
        let state = MemoryState::with_capacity(10_000);
        let value = Bytes::from(vec![0; 1000]);
        let key = |i: usize| StateKey::global(&format!("{i}"));
        for i in 0..9 {
            state.put(&key(i), value.clone(), Duration::from_millis(20)).await.unwrap();
        }
        let refused = state.put(&key(9), value.clone(), Duration::from_secs(9)).await;
        assert!(matches!(refused, Err(StateError::Full { .. })), "{refused:?}");
        tokio::time::sleep(Duration::from_millis(30)).await;
        for i in 10..19 {
            state.put(&key(i), value.clone(), Duration::from_secs(9)).await.unwrap();
            state.put(&key(i), value.clone(), Duration::from_secs(9)).await.ok();
            assert_eq!(state.take(&key(i)).await.unwrap(), Some(value.clone()));
        }
        assert_eq!(state.bytes.load(Ordering::Relaxed), 0);
    }
}
