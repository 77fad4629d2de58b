//! Turns within this process: a lock for each of many things, of which two may share one.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};

const LOCKS: usize = 256;

pub struct Turns([Arc<Mutex<()>>; LOCKS]);

impl Default for Turns {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Arc::default()))
    }
}

impl Turns {
    /// Waits for the turn of a thing.
    pub async fn of(&self, thing: impl Hash) -> OwnedMutexGuard<()> {
        let mut hasher = DefaultHasher::new();
        thing.hash(&mut hasher);
        // The remainder is below the number of locks.
        let place = (hasher.finish() % LOCKS as u64) as usize;
        Arc::clone(&self.0[place]).lock_owned().await
    }
}
