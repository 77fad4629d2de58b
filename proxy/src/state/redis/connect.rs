//! Connection attempts to Redis, with pauses in between.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use redis::{Client, RedisResult};
use tokio::time::{sleep, timeout};

use super::address::Source;

/// Time limit of one attempt where several sentinels are queried in turn.
const SENTINELS: Duration = Duration::from_secs(5);
/// Pauses between attempts, without jitter: doubled from the first to the last.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// The server, and the time limit of one answer.
pub(super) struct Connector {
    pub source: Source,
    pub timeout: Duration,
}

impl Connector {
    /// Opens a connection, however many attempts it takes. Calls `failed` with the reason of each failure.
    pub async fn connect<C, F>(&self, open: impl Fn(Client) -> F, failed: impl Fn(String)) -> C
    where
        F: Future<Output = RedisResult<C>>,
    {
        let mut pause = PAUSE.0;
        loop {
            match self.attempt(&open).await {
                Ok(connection) => return connection,
                Err(reason) => failed(reason),
            }
            sleep(with_jitter(pause)).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    async fn attempt<C, F>(&self, open: impl Fn(Client) -> F) -> Result<C, String>
    where
        F: Future<Output = RedisResult<C>>,
    {
        // A single server gets no more time than a caller would wait.
        let patience = match self.source {
            Source::Server(_) => self.timeout,
            Source::Sentinels(_) => SENTINELS,
        };
        match timeout(patience, async { open(self.source.client().await?).await }).await {
            Ok(opened) => opened.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no connection within {patience:?}")),
        }
    }
}

/// Adds up to a quarter, so that replicas that lost Redis together do not come back in step.
fn with_jitter(pause: Duration) -> Duration {
    // The keys of the standard library's hash maps are random.
    let random = RandomState::new().hash_one(()) as u32;
    pause + pause.mul_f64(f64::from(random) / f64::from(u32::MAX) / 4.0)
}
