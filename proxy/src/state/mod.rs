//! State that replicas share: short-lived values, rate limits and live messages, in this process
//! ([`MemoryState`]), in Redis ([`RedisState`]), or in Redis with this process's memory while Redis is away
//! ([`FallbackState`]). All key names are defined here. Knows nothing of sessions, limits or tasks, and
//! nothing acknowledged may depend on this state alone.

mod channels;
mod fallback;
mod key;
mod limiter;
mod memory;
mod quota;
mod redis;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{BoxFuture, Either, Ready};
use futures_util::stream::BoxStream;
use protocol::{Code, Refusal};

pub use self::fallback::{Alone, FallbackState};
pub use self::key::{Bucket, LimitKey, StateKey};
pub use self::limiter::Limiter;
pub use self::memory::MemoryState;
pub use self::quota::{Admission, Quota};
pub use self::redis::{InvalidRedisUrl, RedisSettings, RedisState};

/// Store of shared state. Every value and every limit expires by itself; every method answers or fails
/// within about a second.
#[async_trait]
pub trait StateStore: Send + Sync + 'static {
    /// Returns `memory` or `redis`, for `/ready` and the log.
    fn name(&self) -> &'static str;

    /// Returns whether other replicas see the values of this store.
    fn is_shared(&self) -> bool;

    /// Checks that the store answers.
    async fn ping(&self) -> Result<(), StateError>;

    /// Returns the memory that the store uses and may use, if it is one with such a bound.
    async fn memory(&self) -> Result<Option<StoreMemory>, StateError> {
        Ok(None)
    }

    async fn get(&self, key: &StateKey) -> Result<Option<Bytes>, StateError>;

    /// Writes a new or existing key; the value is gone after `ttl`.
    async fn put(&self, key: &StateKey, value: Bytes, ttl: Duration) -> Result<(), StateError>;

    /// Writes a copy of a value kept elsewhere. A write that fails leaves no older copy behind: where the
    /// store cannot be reached now, the key is deleted before it is read from the store again.
    async fn put_copy(&self, key: &StateKey, value: Bytes, ttl: Duration) -> Result<(), StateError> {
        self.put(key, value, ttl).await
    }

    /// Deletes a key, and returns whether there was a value.
    async fn delete(&self, key: &StateKey) -> Result<bool, StateError>;

    /// Counts `cost` calls against the quota, all or none of them. In memory the answer is ready at once,
    /// without allocation.
    fn admit<'a>(&'a self, key: LimitKey, quota: &Quota, cost: u32) -> Admitting<'a>;

    /// Frees the memory of values and limits that have expired; for a regular task.
    fn sweep(&self) {}

    /// Sends to all present subscribers, on every replica. No subscriber is no error.
    async fn publish(&self, channel: &StateKey, payload: Bytes) -> Result<(), StateError>;

    /// Subscribes until the subscription is dropped. A message published after the return arrives, or
    /// [`Notice::Missed`] reports a possible loss.
    async fn subscribe(&self, channel: &StateKey) -> Result<Subscription, StateError>;
}

/// Future of [`StateStore::admit`]: ready at once from memory, later from Redis.
pub type Admitting<'a> =
    Either<Ready<Result<Admission, StateError>>, BoxFuture<'a, Result<Admission, StateError>>>;

/// Memory of a store, bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreMemory {
    pub used: u64,
    /// 0 without a bound.
    pub allowed: u64,
}

/// Live messages of one channel, in order; ends only when the store goes away.
pub type Subscription = BoxStream<'static, Notice>;

/// Event of a subscription.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    Message(Bytes),
    /// A possible loss of messages: the reader was too slow, or the connection was away in between. A
    /// reader that needs all messages reads them again from their source.
    Missed,
}

/// Failure of the store. The text is for the operator and the log.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StateError {
    #[error("the shared state cannot be reached: {reason}")]
    Unavailable { reason: String, since: jiff::Timestamp },
    #[error("the shared state in memory is full ({limit} bytes)")]
    Full { limit: usize },
    #[error("the shared state gave an unexpected answer: {reason}")]
    Unexpected { reason: String },
}

impl From<StateError> for Refusal {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Unavailable { since, .. } => {
                Refusal::new(Code::StateUnavailable, "the gateway's shared state cannot be reached")
                    .since(since)
                    .hint("try again shortly; the operator sees the cause in the log and at `/ready`")
            }
            StateError::Full { .. } => {
                Refusal::new(Code::StateUnavailable, "the gateway's shared state is full")
                    .hint("try again when entries have expired; with Redis there is more room")
            }
            StateError::Unexpected { .. } => {
                Refusal::new(Code::StateUnavailable, "the gateway's shared state does not answer as expected")
            }
        }
    }
}
