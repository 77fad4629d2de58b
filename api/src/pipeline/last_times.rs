//! Times of last use and last success of servers, gathered in memory and written at intervals.

use std::sync::atomic::{AtomicI64, Ordering};

use entity::DbError;
use jiff::Timestamp;
use protocol::{ServerId, TenantId};

use crate::pipeline::directory::Directory;

impl Directory {
    /// Notes that a tenant uses a server now.
    pub fn note_use(&self, tenant: TenantId, server: ServerId) {
        let now = Timestamp::now().as_microsecond();
        match self.used.get(&(tenant, server)) {
            Some(used) => used.store(now, Ordering::Relaxed),
            None => drop(self.used.insert((tenant, server), AtomicI64::new(now))),
        }
    }

    /// Writes the times of last use and last success of servers, and of last use of keys.
    pub async fn touch(&self) {
        let used = self.used.iter().filter_map(|entry| {
            let at = entry.value().swap(0, Ordering::Relaxed);
            let at = (at != 0).then(|| Timestamp::from_microsecond(at).ok()).flatten()?;
            let (tenant, server) = *entry.key();
            Some((tenant, server, at))
        });
        let used: Vec<_> = used.collect();
        let servers =
            async { if used.is_empty() { Ok(()) } else { self.db.operator().touch_servers(used).await } };
        for outcome in [servers.await, self.note_successes().await, self.authn.touch().await] {
            if let Err(error) = outcome {
                tracing::warn!(error = error.detail(), "the times of last use and success cannot be written");
            }
        }
    }

    /// Writes the times of last success that are later than the written ones.
    pub async fn note_successes(&self) -> Result<(), DbError> {
        let last = self.pool.last_successes();
        let later: Vec<_> = {
            let written = self.succeeded.lock();
            let is_later = |(server, at): &(&(TenantId, ServerId), &Timestamp)| {
                written.get(*server).is_none_or(|written| written < *at)
            };
            last.iter().filter(is_later).map(|(&(tenant, server), at)| (tenant, server, *at)).collect()
        };
        self.db.operator().note_successes(later).await?;
        *self.succeeded.lock() = last;
        Ok(())
    }
}
