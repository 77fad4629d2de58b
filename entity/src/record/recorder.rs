//! Recorder of executions: [`Recorder::begin`] before a call, [`OpenRecord::close`] after it. Knows the
//! journal and wakes the feeder; does not know SQL.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use protocol::ids::ExecutionId;
use protocol::outcome::Outcome;
use protocol::refusal::Refusal;
use tokio::sync::oneshot;

use super::feed::Source;
use super::feeder::Feeder;
use super::health::refusal;
use super::replica::Replica;
use super::shared::{Entry, Shared};
use super::{Begin, Durability, Finish, RecordError, RecordSettings, RecordStatus};
use crate::Db;

/// Handle of the execution record. Cheap to clone; dropping the last clone stops the feeder.
#[derive(Clone)]
pub struct Recorder {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    /// Signal of the feeder's end.
    ended: tokio::sync::Mutex<Option<oneshot::Receiver<()>>>,
}

impl Recorder {
    /// Opens the journal, stores the records that this process's previous life left in it, and starts the
    /// feeder. The migrations have run.
    ///
    /// # Errors
    /// Another process has the journal, it cannot be written, or the database does not answer.
    pub async fn open(db: &Db, settings: RecordSettings) -> Result<Recorder, RecordError> {
        let source = Source::of(db);
        let (ready, opened) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        // Everything from here on blocks on files and the database, so it runs in the feeder's thread.
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
                let ending = Ending(shared.clone());
                if ready.send(Ok(shared)).is_ok() {
                    feeder.run();
                }
                drop(ending);
                // A missing receiver is fine: mostly nobody waits for the end.
                let _ = end.send(());
            })
            .map_err(|error| RecordError::Database(format!("no thread for it: {error}")))?;
        let shared = opened.await.map_err(|_| RecordError::Closed)??;
        let ended = tokio::sync::Mutex::new(Some(ended));
        Ok(Recorder { inner: Arc::new(Inner { shared, ended }) })
    }

    fn start(source: Source, settings: RecordSettings) -> Result<(Arc<Shared>, Feeder), RecordError> {
        let replica = Replica::claim(&settings.dir)?;
        let mut feed = source.open(replica.id, settings.durability)?;
        let first_number = super::recovery::recover(&settings.dir, feed.as_mut())?;
        let shared = Arc::new(Shared::new(&settings, first_number));
        if let Durability::Interval(interval) = settings.durability {
            shared.journal.set_syncer(super::syncer::start(&shared, interval)?);
        }
        let feeder = Feeder::new(shared.clone(), feed, replica);
        Ok((shared, feeder))
    }

    /// Records a begin. After this returns, a killed process does not lose the begin; under `strict`, the
    /// database has it. Without a record, there is no call.
    ///
    /// # Errors
    /// `record_unavailable` within 2 s: the journal cannot be written, or the database has been away for so
    /// long that no more begins are taken.
    pub async fn begin(&self, begin: Begin) -> Result<OpenRecord, Refusal> {
        let shared = &self.inner.shared;
        if !shared.has_room() {
            shared.wait_for_room().await?;
        }
        let entry = Arc::new(Entry::new(begin, OnceLock::new()));
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
                self.stored_or_refused(record).await
            }
        }
    }

    /// Waits under `strict` for the commit of the row, or records the call as one that did not take place.
    async fn stored_or_refused(&self, record: OpenRecord) -> Result<OpenRecord, Refusal> {
        let shared = &self.inner.shared;
        let stored = tokio::time::timeout(shared.pace.patience, shared.next_round()).await;
        if matches!(stored, Ok(Ok(()))) {
            return Ok(record);
        }
        record.close(Finish::bare(Outcome::Unavailable, 0));
        let since = shared.database_health.failure().map(|(_, since)| since);
        Err(refusal("the call cannot be written down: the database did not take its record", since))
    }

    /// Records a refused call: one row, finished. Without room the row is given up and counted, since
    /// nothing happened that the row would prove.
    pub fn refused(&self, begin: Begin, finish: Finish) {
        let shared = &self.inner.shared;
        let entry = Arc::new(Entry::new(begin, finish));
        if !shared.has_room() || shared.enqueue(entry).is_err() {
            shared.lost_refusals.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything begun or finished before is in the database.
    ///
    /// # Errors
    /// The database did not take the rows at this attempt; they stay in the journal.
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
            replicas: shared.replicas.load(Ordering::Relaxed),
            lost_refusals: shared.lost_refusals.load(Ordering::Relaxed),
        }
    }

    /// Stores the remaining records and ends the feeder; records that the database does not take within one
    /// attempt stay in the journal for the next start. Later begins are not fed.
    pub async fn shutdown(&self) {
        self.inner.shared.stop();
        if let Some(ended) = self.inner.ended.lock().await.take() {
            // An error means that the feeder's thread is gone already.
            let _ = ended.await;
        }
    }
}

/// Guard of the feeder's thread, dropped at its end, even by a panic: then nothing is begun any more, and
/// nobody waits for another round.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.database_health.failed(&"the feeder's thread has ended; restart the gateway");
        }
        self.0.stop();
        self.0.waiters.lock().take();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

/// A recorded call without an end. Dropped, its outcome is `cancelled`.
#[must_use = "dropping it records the call as cancelled"]
pub struct OpenRecord {
    entry: Arc<Entry>,
    shared: Arc<Shared>,
    open: bool,
}

impl OpenRecord {
    pub fn id(&self) -> ExecutionId {
        self.entry.begin.id
    }

    /// Notes the end; the feeder writes it to the database.
    pub fn close(mut self, finish: Finish) {
        self.end(finish);
    }

    /// Notes the end like [`OpenRecord::close`]. The feeder counts the tokens of the arguments and the result as they
    /// were sent, if both are of at most 4 KiB and it has time; else those of `finish` stay.
    pub fn close_counting(mut self, finish: Finish, arguments: &[u8], result: &[u8]) {
        *self.entry.texts.lock() = self.shared.uncounted.copy(arguments, result);
        self.end(finish);
    }

    fn end(&mut self, finish: Finish) {
        self.open = false;
        if self.entry.finish.set(finish).is_ok() {
            self.shared.wake_if_idle();
        }
    }

    /// Drops the record of a begin that was not written.
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
