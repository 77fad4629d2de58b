//! Writer thread of execution records. Schedules the writes to the database; knows no SQL.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::feed::{Feed, FeedError, Row, State};
use super::journal::Queued;
use super::replica::Replica;
use super::shared::{Entry, Shared};
use super::uncounted::Tokens;
use super::{Durability, RecordError};

/// Rows per transaction, which bounds the time that other writers of SQLite wait.
const BATCH: usize = 2_000;
/// Pause between attempts while the database is away.
const RETRY: Duration = Duration::from_millis(250);
/// Idle rounds before the feeder sleeps until woken.
const QUIET_ROUNDS: u32 = 20;

pub(super) struct Feeder {
    shared: Arc<Shared>,
    feed: Box<dyn Feed>,
    /// Entries whose end is not in the database yet, in the order of their begins.
    pending: Vec<Pending>,
    drained: Vec<Queued>,
    /// Number of stored records per journal file.
    stored: HashMap<u64, u64>,
    next_beat: Instant,
    /// Start of the current period in which the database answers. Other replicas are judged only after a
    /// while, so that after an outage they have had time for a heartbeat.
    reached_since: Option<Instant>,
    _replica: Replica,
}

struct Pending {
    entry: Arc<Entry>,
    /// Numbers of the files that hold the entry; 0 is none. The second file is from [`Feeder::keep_ends`].
    segment: u64,
    whole_segment: u64,
    /// Write of the current round.
    writing: Writing,
    /// Presence of a row in state `running`.
    running_stored: bool,
    first_attempt: bool,
    counted: Option<Tokens>,
}

#[derive(Clone, Copy, PartialEq)]
enum Writing {
    Nothing,
    Running,
    Finished,
}

/// Result of a round.
#[derive(Clone, Copy, PartialEq)]
enum Round {
    Worked,
    /// Open calls that may have to be inserted as running soon.
    Watching,
    Quiet,
    Failed,
}

impl Feeder {
    pub fn new(shared: Arc<Shared>, feed: Box<dyn Feed>, replica: Replica) -> Self {
        Self {
            shared,
            feed,
            pending: Vec::new(),
            drained: Vec::new(),
            stored: HashMap::new(),
            next_beat: Instant::now(),
            reached_since: None,
            _replica: replica,
        }
    }

    /// Feeds until the recorder is shut down.
    pub fn run(mut self) {
        let mut quiet = 0;
        loop {
            let stop = self.shared.stop.load(Ordering::SeqCst);
            let round = self.round();
            if stop {
                return self.finish();
            }
            self.beat();
            quiet = if round == Round::Quiet { quiet + 1 } else { 0 };
            match round {
                Round::Failed => std::thread::park_timeout(RETRY),
                Round::Quiet if quiet >= QUIET_ROUNDS => self.sleep(),
                Round::Worked | Round::Watching | Round::Quiet => {
                    if !self.is_awaited() {
                        std::thread::park_timeout(self.shared.pace.tick);
                    }
                }
            }
        }
    }

    /// Takes queued entries, writes due rows, and answers the waiters, once.
    fn round(&mut self) -> Round {
        // The waiters come first, so that everything they wait for is already queued.
        let waiters = self.shared.waiters.lock().as_mut().map(std::mem::take).unwrap_or_default();
        self.take_queued();
        let everything = !waiters.is_empty() || self.shared.durability == Durability::Strict;
        let due = self.mark_due(everything);
        let result = if due > 0 { self.write_due() } else { Ok(()) };
        match &result {
            Ok(()) if due > 0 => {
                self.shared.database_health.works();
                self.reached_since.get_or_insert_with(Instant::now);
            }
            Ok(()) => {}
            Err(error) => self.failed(error),
        }
        if self.shared.journal_is_full() {
            // Only sealed files can be deleted, so the files in use are sealed.
            self.shared.journal.seal();
        }
        self.shared.journal.delete_stored(&mut self.stored);
        self.note_oldest();
        self.shared.space.notify_waiters();
        let failure = result.err().map(|error| error.to_string());
        for waiter in waiters {
            let answer = failure.clone().map_or(Ok(()), |error| Err(RecordError::Database(error)));
            // A waiter that gave up needs no answer.
            let _ = waiter.send(answer);
        }
        match failure {
            Some(_) => Round::Failed,
            None if due > 0 => Round::Worked,
            None if self.pending.iter().any(|pending| !pending.running_stored) => Round::Watching,
            None => Round::Quiet,
        }
    }

    fn take_queued(&mut self) {
        self.shared.journal.drain(&mut self.drained);
        self.pending.extend(self.drained.drain(..).map(|Queued { entry, segment }| Pending {
            entry,
            segment,
            whole_segment: 0,
            writing: Writing::Nothing,
            running_stored: false,
            first_attempt: true,
            counted: None,
        }));
    }

    fn mark_due(&mut self, everything: bool) -> usize {
        let old = jiff::SignedDuration::try_from(self.shared.pace.running_after)
            .unwrap_or(jiff::SignedDuration::MAX);
        let old = Timestamp::now().saturating_sub(old).unwrap_or(Timestamp::MIN);
        let mut due = 0;
        for pending in &mut self.pending {
            pending.writing = if pending.entry.finish.get().is_some() {
                pending.count(&self.shared);
                Writing::Finished
            } else if !pending.running_stored && (everything || pending.entry.begin.started_at < old) {
                Writing::Running
            } else {
                Writing::Nothing
            };
            due += usize::from(pending.writing != Writing::Nothing);
        }
        due
    }

    /// Writes in batches; a committed batch stays done even if the next one fails.
    fn write_due(&mut self) -> Result<(), FeedError> {
        let mut rows: Vec<Row<'_>> = Vec::with_capacity(BATCH.min(self.pending.len()));
        let mut result = Ok(());
        let mut committed = 0;
        let mut seen = 0;
        for pending in &self.pending {
            seen += 1;
            rows.extend(pending.row());
            if rows.len() == BATCH {
                result = self.feed.store(&rows);
                if result.is_err() {
                    break;
                }
                rows.clear();
                committed = seen;
            }
        }
        if result.is_ok() && !rows.is_empty() {
            result = self.feed.store(&rows);
        }
        drop(rows);
        if result.is_ok() {
            committed = self.pending.len();
        }
        self.settle(committed);
        result
    }

    /// Marks the first `committed` of the pending entries as stored.
    fn settle(&mut self, committed: usize) {
        let mut at = 0;
        let mut stored_begins = 0;
        let stored = &mut self.stored;
        let mut count = |segment: u64| {
            if segment != 0 {
                *stored.entry(segment).or_insert(0) += 1;
            }
        };
        self.pending.retain_mut(|pending| {
            let done = at < committed;
            at += 1;
            if !done || pending.writing == Writing::Nothing {
                pending.first_attempt &= pending.writing == Writing::Nothing;
                return true;
            }
            if !pending.running_stored {
                stored_begins += 1;
                count(pending.segment);
            }
            pending.running_stored = true;
            pending.first_attempt = false;
            if pending.writing == Writing::Finished {
                count(pending.whole_segment);
                return false;
            }
            true
        });
        if self.pending.is_empty() && self.pending.capacity() > 4 * BATCH {
            self.pending = Vec::new();
            self.drained = Vec::new();
        }
        self.shared.waiting.fetch_sub(stored_begins, Ordering::Relaxed);
    }

    fn failed(&mut self, error: &FeedError) {
        self.shared.database_health.failed(error);
        self.reached_since = None;
        self.keep_ends();
    }

    /// Writes ends to the journal as well while the database is away: this process could be killed before
    /// the database is back.
    fn keep_ends(&mut self) {
        for pending in &mut self.pending {
            if pending.whole_segment != 0 || pending.entry.finish.get().is_none() {
                continue;
            }
            match self.shared.journal.append_whole(&pending.entry) {
                Ok(segment) => pending.whole_segment = segment,
                Err(error) => return self.shared.journal_health.failed(&error),
            }
        }
    }

    fn note_oldest(&self) {
        let oldest = self.pending.iter().find(|pending| !pending.running_stored);
        let age = oldest.map(|pending| Timestamp::now().duration_since(pending.entry.begin.started_at));
        *self.shared.oldest_age.lock() = age.and_then(|age| Duration::try_from(age).ok());
    }

    /// Writes a heartbeat, and closes the rows that dead replicas left running.
    fn beat(&mut self) {
        let now = Instant::now();
        if now < self.next_beat {
            return;
        }
        let pace = self.shared.pace;
        let settled = self.reached_since.is_some_and(|since| now.duration_since(since) >= pace.heartbeat * 2);
        match self.feed.beat(settled.then_some(pace.dead_after)) {
            Ok(closed) => {
                self.reached_since.get_or_insert(now);
                self.shared.database_health.works();
                self.next_beat = now + pace.heartbeat;
                if let Ok(replicas) = self.feed.replicas(pace.dead_after) {
                    self.shared.replicas.store(replicas, Ordering::Relaxed);
                }
                if closed > 0 {
                    tracing::warn!(closed, "running executions of a dead replica are now unknown");
                }
            }
            Err(error) => {
                self.next_beat = now + RETRY;
                self.failed(&error);
            }
        }
    }

    /// Sleeps until a begin, an end, a waiter or the next heartbeat.
    fn sleep(&mut self) {
        if self.shared.waiting.load(Ordering::Relaxed) == 0 {
            self.shared.journal.seal();
            self.shared.journal.delete_stored(&mut self.stored);
        }
        self.shared.idle.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let ended = self.pending.iter().any(|pending| pending.entry.finish.get().is_some());
        if self.shared.journal.is_empty() && !ended && !self.is_awaited() {
            std::thread::park_timeout(self.next_beat.saturating_duration_since(Instant::now()));
        }
        self.shared.idle.store(false, Ordering::SeqCst);
    }

    /// Deletes stored files of the journal after the last round.
    fn finish(mut self) {
        self.shared.journal.seal();
        self.shared.journal.delete_stored(&mut self.stored);
    }

    fn is_awaited(&self) -> bool {
        self.shared.waiters.lock().as_ref().is_some_and(|waiters| !waiters.is_empty())
    }
}

impl Pending {
    /// Counts the tokens of a finished call once, and drops its texts.
    fn count(&mut self, shared: &Shared) {
        if let Some(texts) = self.entry.texts.lock().take() {
            self.counted = shared.uncounted.count(&texts);
        }
    }

    fn row(&self) -> Option<Row<'_>> {
        let state = match self.writing {
            Writing::Nothing => return None,
            Writing::Running => State::Running,
            Writing::Finished => State::Finished(self.entry.finish.get()?),
        };
        let counted = self.counted;
        Some(Row { begin: &self.entry.begin, state, counted, first_attempt: self.first_attempt })
    }
}
