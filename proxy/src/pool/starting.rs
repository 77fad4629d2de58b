//! Progress of a start: a wait for one of the permits that bound concurrent starts of children, the start
//! itself, its outcome.

use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::{Code, Refusal};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::entry::{Entry, Life, Phase};
use crate::server::Launch;
use crate::stdio::stopped;

/// Time beyond `start_timeout`, and beyond the end of a process that did not start in time.
const AFTER_TIMEOUT: Duration = Duration::from_secs(1);

/// Time for which a start keeps the processors busy; a longer one waits for a download or a person.
const BUSY: Duration = Duration::from_secs(5);

/// Progress of a start, for all who wait.
#[derive(Clone)]
pub enum Progress {
    /// Other children start first.
    Queued,
    Begun(Instant),
    Over(Result<(), Refusal>),
}

/// The right to start an entry's upstream, held by one task at a time.
pub struct Claim(watch::Sender<Progress>);

impl Claim {
    /// Marks the beginning of the start, from which its time counts.
    pub fn begin(&self) {
        self.0.send_replace(Progress::Begun(Instant::now()));
    }

    /// Returns the time since the beginning.
    pub fn took(&self) -> Duration {
        match *self.0.borrow() {
            Progress::Begun(at) => at.elapsed(),
            Progress::Queued | Progress::Over(_) => Duration::ZERO,
        }
    }

    pub fn finish(self, outcome: Result<(), Refusal>) {
        self.0.send_replace(Progress::Over(outcome));
    }

    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.0.subscribe()
    }

    /// Returns true unless the start was overtaken by a stop, a retirement or a later start.
    pub fn is_current(&self, life: &Life) -> bool {
        matches!(&life.phase, Phase::Starting(progress) if progress.same_channel(&self.progress()))
    }
}

impl Life {
    /// Enters the phase of a start.
    pub fn claim(&mut self) -> Claim {
        let (claim, progress) = watch::channel(Progress::Queued);
        self.set(Phase::Starting(progress));
        Claim(claim)
    }
}

impl Entry {
    /// Begins the start, for a child after a wait for a permit, which is held until the guard is dropped, at
    /// most for [`BUSY`].
    pub async fn turn(&self, claim: &Claim) -> Result<DropGuard, Refusal> {
        let over = CancellationToken::new();
        if let Launch::Stdio(_) = self.spec.launch {
            let stopping = self.pool.processes(self.key.tenant, self.key.server).stopping();
            let permit = tokio::select! {
                biased;
                acquired = Arc::clone(&self.pool.start_permits).acquire_owned() => acquired.ok(),
                () = stopping.cancelled() => None,
            };
            let permit = permit.filter(|_| !self.is_overtaken(claim));
            let permit = permit.ok_or_else(|| stopped(self.spec.slug.as_str()))?;
            let over = over.clone();
            self.pool.tasks.spawn(async move {
                tokio::time::timeout(BUSY, over.cancelled()).await.ok();
                drop(permit);
            });
        }
        claim.begin();
        Ok(over.drop_guard())
    }

    /// Waits for the end of a start: for its turn until the deadline, then as long as a start takes at most
    /// with the end of its process.
    pub async fn outcome(
        &self,
        progress: &mut watch::Receiver<Progress>,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        let slug = &self.spec.slug;
        loop {
            let begun = match &*progress.borrow_and_update() {
                Progress::Over(outcome) => return outcome.clone(),
                Progress::Queued => None,
                Progress::Begun(at) => Some(*at),
            };
            let most = self.spec.start_timeout.value + self.pool.settings.stop_grace + AFTER_TIMEOUT;
            let until = begun.map_or(deadline, |begun| begun + most);
            match tokio::time::timeout_at(until.into(), progress.changed()).await {
                Ok(Ok(())) => {}
                Err(_) if begun.is_none() => {
                    let reason =
                        format!("`{slug}` waits for its start: as many servers start as may at once");
                    return Err(Refusal::new(Code::TimedOut, reason)
                        .rule("start_concurrency")
                        .hint("ask again in a moment, or raise CHILD_START_CONCURRENCY"));
                }
                // The starting task is gone, as the runtime ends, or hangs.
                Ok(Err(_)) | Err(_) => {
                    let reason = format!("the start of `{slug}` does not end");
                    return Err(Refusal::new(Code::UpstreamUnavailable, reason));
                }
            }
        }
    }
}
