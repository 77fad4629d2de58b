//! Idle timeout of children and of upstreams dedicated to one client.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::PoolKey;
use super::entry::Entry;
use super::state::PoolState;

/// Longest time between two looks, in milliseconds.
const SELDOM: u64 = 60_000;
const OFTEN: u64 = 20;

/// Stops idle children until the pool shuts down. Sleeps until the next child can be idle for long enough.
pub async fn watch(pool: Arc<PoolState>) {
    while !pool.closing.load(Ordering::SeqCst) {
        let mut next = SELDOM;
        for entry in pool.all() {
            match left(&pool, &entry) {
                Some(0) => {
                    let note = "ended after a long time without a request; the next one starts it";
                    pool.tasks.spawn(async move { entry.rest(note).await });
                }
                Some(left) => next = next.min(left),
                None => {}
            }
        }
        // A client that comes back still has its profile, and gets another upstream.
        let lasting = |key: &PoolKey| key.owner == 0 && key.declared == 0;
        pool.entries.retain(|key, entry| lasting(key) || !entry.let_go(limit(entry)));
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(next.max(OFTEN))) => {}
            () = pool.idle_sooner.notified() => {}
        }
    }
}

/// Returns the milliseconds until the idle timeout; `None` without a timeout.
fn left(pool: &PoolState, entry: &Arc<Entry>) -> Option<u64> {
    let limit = limit(entry);
    let key = &entry.key;
    let ends = |child: bool| child || key.owner != 0 || key.declared != 0;
    let runs = entry.current.load().as_ref().is_some_and(|running| ends(running.is_child));
    if limit == 0 || !runs {
        return None;
    }
    if entry.in_flight.load(Ordering::SeqCst) > 0 || !entry.subscriptions.is_empty() {
        return Some(limit);
    }
    Some((entry.last_used.load(Ordering::Relaxed) + limit).saturating_sub(pool.millis()))
}

/// Returns the idle timeout in milliseconds; zero for none.
fn limit(entry: &Entry) -> u64 {
    entry.spec.idle_timeout.value.as_millis() as u64
}
