//! Thread that syncs the journal to the disk under interval durability. Sleeps while nothing was written,
//! and never waits for the database.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::Thread;
use std::time::Duration;

use super::RecordError;
use super::shared::Shared;

/// Starts the thread, which ends when the recorder stops.
pub(super) fn start(shared: &Arc<Shared>, interval: Duration) -> Result<Thread, RecordError> {
    let shared = shared.clone();
    std::thread::Builder::new()
        .name("record-syncer".to_owned())
        .spawn(move || run(&shared, interval))
        .map(|thread| thread.thread().clone())
        .map_err(|error| RecordError::Database(format!("no thread to sync the journal: {error}")))
}

fn run(shared: &Shared, interval: Duration) {
    loop {
        let stop = shared.stop.load(Ordering::SeqCst);
        if let Err(error) = shared.journal.sync_unsynced() {
            shared.journal_health.failed(&error);
        }
        if stop {
            return;
        }
        if shared.journal.is_unsynced() {
            std::thread::park_timeout(interval);
        } else {
            std::thread::park();
            if !shared.stop.load(Ordering::SeqCst) {
                std::thread::sleep(interval);
            }
        }
    }
}
