//! What the gateway holds: [`Recorder::begin`] before a call, [`OpenRecord::close`] after it. Knows the
//! journal and wakes the feeder; does not know SQL.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::thread::Thread;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use protocol::outcome::Outcome;
use protocol::refusal::Refusal;
use tokio::sync::{Notify, oneshot};

use super::feeder::Feeder;
use super::health::{Health, refusal};
use super::journal::Journal;
use super::replica::Replica;
use super::{Begin, Durability, Finish, Pace, RecordError, RecordSettings, RecordStatus};
use crate::Db;

/// A lane with this many waiting begins wakes the feeder before its tick.
const WAKE_AT: usize = 4096;

/// Writes the record of executions. Cheap to clone; the last clone to go stops the feeder.
#[derive(Clone)]
pub struct Recorder {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    /// Given back when the feeder has ended.
    ended: tokio::sync::Mutex<Option<oneshot::Receiver<()>>>,
}

/// What callers and the feeder share.
pub(super) struct Shared {
    pub journal: Journal,
    pub durability: Durability,
    pub pace: Pace,
    max_journal_bytes: u64,
    max_waiting: usize,
    /// Begins that are not in the database.
    pub waiting: AtomicUsize,
    /// Set while the feeder sleeps without a tick.
    pub idle: AtomicBool,
    pub stop: AtomicBool,
    feeder: OnceLock<Thread>,
    /// Who waits for the feeder's next round, taken at its start.
    pub waiters: Mutex<Waiters>,
    /// Told when begins got into the database.
    pub space: Notify,
    pub journal_health: Health,
    pub database_health: Health,
    pub oldest_age: Mutex<Option<Duration>>,
    lost_refusals: AtomicU64,
}

/// Who waits for a round; none when there will be no more rounds.
pub(super) type Waiters = Option<Vec<oneshot::Sender<Result<(), RecordError>>>>;

/// One call: what was known before it, and its end.
pub(super) struct Entry {
    pub begin: Begin,
    pub finish: OnceLock<Finish>,
}

impl Recorder {
    /// Opens the journal, brings what a previous life of this process left in it to the database, and
    /// starts the feeder. The migrations have run.
    ///
    /// # Errors
    /// Another process has the journal, it cannot be written, or the database does not answer.
    pub async fn open(db: &Db, settings: RecordSettings) -> Result<Recorder, RecordError> {
        let source = super::feed::Source::of(db);
        let (ready, opened) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        // Everything from here on happens in the feeder's thread: it blocks on files and the database.
        std::thread::Builder::new()
            .name("record-feeder".to_owned())
            .spawn(move || {
                let started = Self::start(source, settings);
                let (shared, feeder) = match started {
                    Ok(started) => started,
                    Err(error) => {
                        let _ = ready.send(Err(error));
                        return;
                    }
                };
                let _ = shared.feeder.set(std::thread::current());
                if ready.send(Ok(shared)).is_ok() {
                    feeder.run();
                }
                let _ = end.send(());
            })
            .map_err(|error| RecordError::Database(format!("no thread for it: {error}")))?;
        let shared = opened.await.map_err(|_| RecordError::Closed)??;
        let ended = tokio::sync::Mutex::new(Some(ended));
        Ok(Recorder { inner: Arc::new(Inner { shared, ended }) })
    }

    fn start(
        source: super::feed::Source,
        settings: RecordSettings,
    ) -> Result<(Arc<Shared>, Feeder), RecordError> {
        let replica = Replica::claim(&settings.dir)?;
        let mut feed = source.open(replica.id, settings.durability)?;
        let first_number = super::recovery::recover(&settings.dir, feed.as_mut())?;
        let writes = settings.durability != Durability::Strict;
        let syncs = matches!(settings.durability, Durability::Interval(_));
        let shared = Arc::new(Shared {
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
            oldest_age: Mutex::default(),
            lost_refusals: AtomicU64::new(0),
        });
        if let Durability::Interval(interval) = settings.durability {
            shared.journal.set_syncer(super::syncer::start(&shared, interval)?);
        }
        let feeder = Feeder::new(shared.clone(), feed, replica);
        Ok((shared, feeder))
    }

    /// Writes a begin down. When this returns, a killed process does not lose it; under `strict`, the
    /// database has it. Without that, there is no call.
    ///
    /// # Errors
    /// `record_unavailable` within 2 s: the journal cannot be written, or the database has been away
    /// for so long that no more begins are taken.
    pub async fn begin(&self, begin: Begin) -> Result<OpenRecord, Refusal> {
        let shared = &self.inner.shared;
        if !shared.has_room() {
            shared.wait_for_room().await?;
        }
        let entry = Arc::new(Entry { begin, finish: OnceLock::new() });
        let record = OpenRecord { entry, shared: shared.clone(), open: true };
        match shared.durability {
            Durability::Process | Durability::Interval(_) => {
                if let Err(refusal) = shared.enqueue(record.entry.clone()) {
                    record.forget();
                    return Err(refusal);
                }
                Ok(record)
            }
            Durability::Strict => {
                shared.enqueue(record.entry.clone())?;
                shared.stored_or_refused(record).await
            }
        }
    }

    /// Writes down a call that was refused: one row, finished. Without room for it, the row is given
    /// up and counted, since nothing happened that it would prove.
    pub fn refused(&self, begin: Begin, finish: Finish) {
        let shared = &self.inner.shared;
        let entry = Arc::new(Entry { begin, finish: OnceLock::from(finish) });
        if !shared.has_room() || shared.enqueue(entry).is_err() {
            shared.lost_refusals.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything begun or finished before is in the database.
    ///
    /// # Errors
    /// The database did not take it at this attempt; it stays in the journal.
    pub async fn flush(&self) -> Result<(), RecordError> {
        self.inner.shared.next_round().await
    }

    pub fn status(&self) -> RecordStatus {
        let shared = &self.inner.shared;
        RecordStatus {
            backlog: shared.waiting.load(Ordering::Relaxed),
            journal_bytes: shared.journal.bytes(),
            oldest_age: *shared.oldest_age.lock(),
            failing: shared.journal_health.failure().or_else(|| shared.database_health.failure()),
            lost_refusals: shared.lost_refusals.load(Ordering::Relaxed),
        }
    }

    /// Brings what is left to the database and ends the feeder; what the database does not take within
    /// one attempt stays in the journal for the next start. Begins after this are not fed any more.
    pub async fn shutdown(&self) {
        self.inner.shared.stop();
        if let Some(ended) = self.inner.ended.lock().await.take() {
            // An error means that the feeder's thread is gone already.
            let _ = ended.await;
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl Shared {
    fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) < self.max_waiting && !self.journal_is_full()
    }

    pub fn journal_is_full(&self) -> bool {
        self.journal.bytes() >= self.max_journal_bytes
    }

    async fn wait_for_room(&self) -> Result<(), Refusal> {
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

    fn enqueue(&self, entry: Arc<Entry>) -> Result<(), Refusal> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(refusal("the call cannot be written down: the gateway is shutting down", None));
        }
        // Counted before the feeder can see it and count it off again.
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

    /// Strict: the row is committed, or the call is recorded as one that did not take place.
    async fn stored_or_refused(&self, record: OpenRecord) -> Result<OpenRecord, Refusal> {
        let stored = tokio::time::timeout(self.pace.patience, self.next_round()).await;
        if matches!(stored, Ok(Ok(()))) {
            return Ok(record);
        }
        record.close(Finish::bare(Outcome::Unavailable, 0));
        let since = self.database_health.failure().map(|(_, since)| since);
        Err(refusal("the call cannot be written down: the database did not take its record", since))
    }

    /// The result of a round of the feeder that begins after this call.
    async fn next_round(&self) -> Result<(), RecordError> {
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

    fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.wake();
        self.journal.wake_syncer();
    }

    fn wake(&self) {
        if let Some(feeder) = self.feeder.get() {
            feeder.unpark();
        }
    }

    fn wake_if_idle(&self) {
        // Pairs with the feeder, which says that it is idle and then looks for work once more.
        fence(Ordering::SeqCst);
        if self.idle.load(Ordering::Relaxed) && self.idle.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }
}

/// A call that is written down and has no end yet. Dropped, its outcome is `cancelled`.
#[must_use = "dropping it records the call as cancelled"]
pub struct OpenRecord {
    entry: Arc<Entry>,
    shared: Arc<Shared>,
    open: bool,
}

impl OpenRecord {
    pub fn id(&self) -> protocol::ids::ExecutionId {
        self.entry.begin.id
    }

    /// Notes the end; the feeder brings it to the database.
    pub fn close(mut self, finish: Finish) {
        self.end(finish);
    }

    fn end(&mut self, finish: Finish) {
        self.open = false;
        if self.entry.finish.set(finish).is_ok() {
            self.shared.wake_if_idle();
        }
    }

    /// The begin was not written: nothing to end.
    fn forget(mut self) {
        self.open = false;
    }
}

impl Drop for OpenRecord {
    fn drop(&mut self) {
        if self.open {
            let ran = Timestamp::now().duration_since(self.entry.begin.started_at).as_micros();
            self.end(Finish::bare(Outcome::Cancelled, u64::try_from(ran).unwrap_or(0)));
        }
    }
}
