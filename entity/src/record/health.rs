//! Failures of the journal and the database, with their start. Knows neither files nor SQL.

use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use parking_lot::Mutex;
use protocol::refusal::{Code, Refusal};

/// Health of one component: the journal, or the database.
pub(super) struct Health {
    /// Name in messages, such as "the journal".
    what: &'static str,
    /// Flag that every begin reads, so that only changes take a lock.
    failing: AtomicBool,
    failure: Mutex<Option<(String, Timestamp)>>,
}

impl Health {
    pub fn new(what: &'static str) -> Self {
        Self { what, failing: AtomicBool::new(false), failure: Mutex::new(None) }
    }

    /// Notes a failure; the first of a series sets its start and is logged.
    pub fn failed(&self, error: &dyn std::fmt::Display) {
        let mut failure = self.failure.lock();
        let since = match &*failure {
            Some((_, since)) => *since,
            None => {
                tracing::error!(%error, "{} does not take the record of executions", self.what);
                Timestamp::now()
            }
        };
        *failure = Some((error.to_string(), since));
        self.failing.store(true, Ordering::Relaxed);
    }

    pub fn works(&self) {
        if self.failing.load(Ordering::Relaxed) {
            self.failing.store(false, Ordering::Relaxed);
            if let Some((_, since)) = self.failure.lock().take() {
                tracing::info!(%since, "{} takes the record of executions again", self.what);
            }
        }
    }

    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    pub fn failure(&self) -> Option<(String, Timestamp)> {
        let failure = self.failure.lock();
        failure.as_ref().map(|(error, since)| (format!("{}: {error}", self.what), *since))
    }
}

/// Returns the refusal of a call that cannot be recorded. The cause is for the operator, in the log and in
/// `/ready`.
pub(super) fn refusal(reason: &'static str, since: Option<Timestamp>) -> Refusal {
    let refusal = Refusal::new(Code::RecordUnavailable, reason)
        .rule("no record, no call")
        .hint("try again in a few seconds; if it lasts, `/ready` tells the operator what is away");
    match since {
        Some(since) => refusal.since(since),
        None => refusal.since(Timestamp::now()),
    }
    .retry_after(std::time::Duration::from_secs(2))
}
