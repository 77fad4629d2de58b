//! In-process state for a single replica without Redis. Keeps nothing over a restart and knows no other
//! replica.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use dashmap::DashMap;
use futures_util::future::{Either, ready};

use super::channels::Channels;
use super::{Admission, Admitting, LimitKey, Limiter, Quota, StateError, StateKey, StateStore, Subscription};

/// Bytes of values and their keys that are kept before a write is refused.
const CAPACITY: usize = 64 << 20;

/// Estimated bytes of an entry beside its key and value.
const OVERHEAD: usize = 96;

/// Store of a single replica.
pub struct MemoryState {
    values: DashMap<StateKey, Value>,
    bytes: AtomicUsize,
    capacity: usize,
    limiter: Limiter,
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

    /// Creates a store that refuses writes beyond `capacity` bytes of live values.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            values: DashMap::new(),
            bytes: AtomicUsize::new(0),
            capacity,
            limiter: Limiter::default(),
            channels: Arc::default(),
        }
    }

    /// Returns the live values, each with its remaining time to live.
    pub(super) fn living(&self) -> Vec<(StateKey, Bytes, Duration)> {
        let now = Instant::now();
        let living = self.values.iter().filter(|entry| entry.expires > now);
        living.map(|entry| (entry.key().clone(), entry.bytes.clone(), entry.expires - now)).collect()
    }

    /// Counts `cost` calls against the quota, as [`StateStore::admit`] does, at once.
    pub(super) fn admit_now(&self, key: LimitKey, quota: &Quota, cost: u32) -> Admission {
        self.limiter.admit(key, quota, cost)
    }

    /// Makes room for a new value, or refuses it.
    fn reserve(&self, weight: usize) -> Result<(), StateError> {
        let fits = |bytes: usize| bytes.saturating_add(weight) <= self.capacity;
        if !fits(self.bytes.load(Ordering::Relaxed)) {
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
        self.bytes.fetch_add(weight(key, &value), Ordering::Relaxed);
        if let Some(old) = self.values.insert(key.clone(), Value { bytes: value, expires: expiry(ttl) }) {
            self.forget(weight(key, &old.bytes));
        }
        Ok(())
    }

    async fn delete(&self, key: &StateKey) -> Result<bool, StateError> {
        let Some((key, value)) = self.values.remove(key) else { return Ok(false) };
        self.forget(weight(&key, &value.bytes));
        Ok(value.expires > Instant::now())
    }

    fn admit<'a>(&'a self, key: LimitKey, quota: &Quota, cost: u32) -> Admitting<'a> {
        Either::Left(ready(Ok(self.admit_now(key, quota, cost))))
    }

    fn sweep(&self) {
        self.drop_expired_values();
        self.limiter.sweep();
    }

    async fn publish(&self, channel: &StateKey, payload: Bytes) -> Result<(), StateError> {
        self.channels.deliver(channel, payload);
        Ok(())
    }

    async fn subscribe(&self, channel: &StateKey) -> Result<Subscription, StateError> {
        Ok(self.channels.join(channel, |_| ()))
    }
}

fn weight(key: &StateKey, value: &Bytes) -> usize {
    key.as_str().len() + value.len() + OVERHEAD
}

/// Returns the expiry of a value; a time to live out of range counts as a century.
fn expiry(ttl: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(ttl).unwrap_or_else(|| now + Duration::from_secs(100 * 365 * 86_400))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert!(state.delete(&key(i)).await.unwrap());
        }
        assert_eq!(state.bytes.load(Ordering::Relaxed), 0);
    }
}
