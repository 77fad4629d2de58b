//! Upkeep of sessions: eviction from memory, deletion of rows, and missed changes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use entity::DbError;
use jiff::Timestamp;

use crate::session::{IDLE, Session, SessionHash, Sessions, Stored, expiry, key};

/// Time for which an idle session is kept in memory; its row stays.
const REMEMBERED: Duration = Duration::from_secs(300);

/// Most idle sessions that are kept in memory.
const MOST_QUIET: usize = 500;

/// Age below which a session that is read from its row can have missed nothing.
const NEW: Duration = Duration::from_secs(60);

/// Most rows of one caller; the most recently used stay.
const MOST_ROWS: u32 = 10_000;

impl Sessions {
    /// Deletes rows that have expired or are too many, and renews those of sessions with a reader.
    pub async fn tidy(&self) {
        let rows = self.db.operator();
        let purged = rows.purge_sessions(Timestamp::now()).await;
        if let Err(error) = purged.and(rows.trim_sessions(MOST_ROWS).await) {
            tracing::warn!(error = error.detail(), "sessions cannot be deleted");
        }
        let read: Vec<Arc<Session>> = self
            .known
            .iter()
            .filter(|known| known.1.state.get_stream.has_reader())
            .map(|known| Arc::clone(&known.1))
            .collect();
        for session in read {
            self.prolong(&session, IDLE / 24).await;
        }
    }

    /// Forgets abandoned streams, and sessions that were not used here for long or are too many. A session
    /// that comes back is read from its row.
    pub fn sweep(&self) {
        self.known.iter().for_each(|known| known.1.state.tidy());
        let owners = self.pool.owners();
        let is_quiet =
            |session: &Session| !session.state.is_busy() && !owners.contains(&session.client.owner);
        let mut quiet: Vec<(Instant, SessionHash)> = self
            .known
            .iter()
            .filter(|known| is_quiet(&known.1))
            .map(|known| (known.1.used.lock().here, *known.key()))
            .collect();
        quiet.sort_unstable_by_key(|(used, _)| *used);
        let surplus = quiet.len().saturating_sub(MOST_QUIET);
        if surplus > 0 {
            *self.forgotten.lock() = Some(Instant::now());
        }
        for (index, (used, hash)) in quiet.iter().enumerate() {
            if index < surplus || used.elapsed() > REMEMBERED {
                self.forget(hash);
            }
        }
    }

    /// Returns true if a session that is not in memory may have missed changes: one that is not quite new,
    /// and every one if new ones were forgotten lately.
    pub(super) fn may_have_missed(&self, stored: &Stored) -> bool {
        let forgotten = self.forgotten.lock().is_some_and(|at| at.elapsed() < NEW);
        forgotten || Timestamp::now().as_second() - stored.opened > NEW.as_secs() as i64
    }

    /// Renews the row of a used session, unless that was done lately.
    pub(super) async fn prolong(&self, session: &Session, lately: Duration) {
        {
            let mut used = session.used.lock();
            if used.row.elapsed() < lately {
                return;
            }
            used.row = Instant::now();
        }
        let rows = self.db.tenant(session.tenant);
        if let Err(error) = rows.touch_session(&session.hash, expiry()).await {
            tracing::debug!(error = error.detail(), "a session's life was not prolonged");
            if matches!(error, DbError::NotFound) && self.state.is_shared() {
                // A session that was ended meanwhile must not come back.
                self.forget(&session.hash);
                let deleted = self.state.delete(&key(session.tenant, &session.hash)).await;
                tracing::debug!(deleted = deleted.is_ok(), "a session had ended");
            }
            return;
        }
        let Some(raw) = self.known.get(&session.hash).map(|known| known.0.clone()) else { return };
        if let Err(error) = self.share(session.tenant, &session.hash, &raw).await {
            tracing::debug!(%error, "a session's life was not prolonged");
        }
    }
}
