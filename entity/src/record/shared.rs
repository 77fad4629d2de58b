//! State shared by callers and the feeder: the bounded queue, the waiters, and the wake-ups. Does not know
//! SQL.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use parking_lot::Mutex;
use protocol::refusal::Refusal;
use tokio::sync::{Notify, oneshot};

use super::health::{Health, refusal};
use super::journal::Journal;
use super::uncounted::{Room, Texts};
use super::{Begin, Durability, Finish, Pace, RecordError, RecordSettings};

/// Begins in a lane that wake the feeder before its tick.
const WAKE_AT: usize = 4096;

pub(super) struct Shared {
    pub journal: Journal,
    pub durability: Durability,
    pub pace: Pace,
    max_journal_bytes: u64,
    max_waiting: usize,
    /// Begins that are not in the database.
    pub waiting: AtomicUsize,
    /// Flag of a feeder that sleeps without a tick.
    pub idle: AtomicBool,
    pub stop: AtomicBool,
    pub feeder: OnceLock<Thread>,
    /// Waiters for the feeder's next round, taken at its start.
    pub waiters: Mutex<Waiters>,
    /// Notification of begins stored in the database.
    pub space: Notify,
    pub journal_health: Health,
    pub database_health: Health,
    /// Room for texts that are to be counted.
    pub uncounted: Room,
    pub oldest_age: Mutex<Option<Duration>>,
    pub lost_refusals: AtomicU64,
    /// Live replicas, by the database's last answer; 0 before.
    pub replicas: AtomicU32,
}

/// Waiters for a round; `None` when there will be no more rounds.
pub(super) type Waiters = Option<Vec<oneshot::Sender<Result<(), RecordError>>>>;

/// One call: the facts before its start, and its end.
pub(super) struct Entry {
    pub begin: Begin,
    pub finish: OnceLock<Finish>,
    /// Texts of the finished call until the feeder counts them; written nowhere.
    pub texts: Mutex<Option<Texts>>,
}

impl Entry {
    pub fn new(begin: Begin, finish: impl Into<OnceLock<Finish>>) -> Self {
        Self { begin, finish: finish.into(), texts: Mutex::new(None) }
    }
}

impl Shared {
    pub fn new(settings: &RecordSettings, first_number: u64) -> Self {
        let writes = settings.durability != Durability::Strict;
        let syncs = matches!(settings.durability, Durability::Interval(_));
        Self {
            journal: Journal::new(&settings.dir, writes, syncs, first_number),
            durability: settings.durability,
            pace: settings.pace,
            max_journal_bytes: settings.max_journal_bytes,
            max_waiting: settings.max_waiting,
            waiting: AtomicUsize::new(0),
            idle: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            feeder: OnceLock::new(),
            waiters: Mutex::new(Some(Vec::new())),
            space: Notify::new(),
            journal_health: Health::new("the journal"),
            database_health: Health::new("the database"),
            uncounted: Room::new(settings.durability),
            oldest_age: Mutex::default(),
            lost_refusals: AtomicU64::new(0),
            replicas: AtomicU32::new(0),
        }
    }

    pub fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) < self.max_waiting && !self.journal_is_full()
    }

    pub fn journal_is_full(&self) -> bool {
        self.journal.bytes() >= self.max_journal_bytes
    }

    pub async fn wait_for_room(&self) -> Result<(), Refusal> {
        let room = async {
            loop {
                let freed = self.space.notified();
                if self.has_room() {
                    return;
                }
                self.wake();
                freed.await;
            }
        };
        tokio::time::timeout(self.pace.patience, room).await.map_err(|_| {
            let since = self.database_health.failure().map(|(_, since)| since);
            refusal(
                "the call cannot be written down: the database has not taken earlier records and no more are held",
                since,
            )
        })
    }

    pub fn enqueue(&self, entry: Arc<Entry>) -> Result<(), Refusal> {
        if self.stop.load(Ordering::Relaxed) {
            let since = self.database_health.failure().map(|(_, since)| since);
            return Err(refusal("the call cannot be written down: the record is closed", since));
        }
        // The count comes first, since the feeder decrements it as soon as the entry is visible.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        match self.journal.append(entry) {
            Ok(in_lane) => {
                if in_lane == WAKE_AT {
                    self.wake();
                } else {
                    self.wake_if_idle();
                }
                if self.journal_health.is_failing() {
                    self.journal_health.works();
                }
                Ok(())
            }
            Err(error) => {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                self.journal_health.failed(&error);
                let since = self.journal_health.failure().map(|(_, since)| since);
                Err(refusal("the call cannot be written down: the journal cannot be written", since))
            }
        }
    }

    /// Returns the result of a round of the feeder that begins after this call.
    pub async fn next_round(&self) -> Result<(), RecordError> {
        let (done, result) = oneshot::channel();
        let first = match &mut *self.waiters.lock() {
            Some(waiters) => {
                waiters.push(done);
                waiters.len() == 1
            }
            None => return Err(RecordError::Closed),
        };
        if first {
            self.wake();
        }
        result.await.map_err(|_| RecordError::Closed)?
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.wake();
        self.journal.wake_syncer();
    }

    fn wake(&self) {
        if let Some(feeder) = self.feeder.get() {
            feeder.unpark();
        }
    }

    pub fn wake_if_idle(&self) {
        // Pairs with the fence of the feeder, which declares itself idle and then looks for work once more.
        fence(Ordering::SeqCst);
        if self.idle.load(Ordering::Relaxed) && self.idle.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }
}
