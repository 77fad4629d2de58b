//! Status of an upstream in the pool: phase, last use and restarts.

use std::sync::atomic::Ordering;
use std::time::Instant;

use jiff::Timestamp;
use protocol::Refusal;

use super::entry::{Entry, Phase};

/// Phase as [`Entry::view`] shows it.
pub enum PhaseView {
    Idle(Option<&'static str>),
    Starting,
    Running,
    Crashed(Refusal),
    Held,
    Retired,
}

impl Entry {
    pub fn touch(&self) {
        self.last_used.store(self.pool.millis(), Ordering::Relaxed);
    }

    pub fn succeeded_now(&self) {
        self.last_success.store(Timestamp::now().as_microsecond(), Ordering::Relaxed);
    }

    pub fn last_success(&self) -> Option<Timestamp> {
        match self.last_success.load(Ordering::Relaxed) {
            0 => None,
            micros => Timestamp::from_microsecond(micros).ok(),
        }
    }

    /// Counts starts after the first one.
    pub fn restarts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed).saturating_sub(1)
    }

    pub fn has_run(&self) -> bool {
        self.starts.load(Ordering::Relaxed) > 0
    }

    pub fn view(&self) -> (PhaseView, Timestamp) {
        let life = self.life.lock();
        let view = match &life.phase {
            Phase::Idle { note } => PhaseView::Idle(*note),
            Phase::Starting(_) => PhaseView::Starting,
            Phase::Running => PhaseView::Running,
            Phase::Crashed { until, last } => PhaseView::Crashed(life.crashes.refusal(last, *until)),
            Phase::Held => PhaseView::Held,
            Phase::Retired => PhaseView::Retired,
        };
        (view, life.since)
    }

    /// Returns true while the operator has stopped the upstream.
    pub fn is_held(&self) -> bool {
        matches!(&self.life.lock().phase, Phase::Held)
    }

    pub fn runs_child(&self) -> bool {
        self.alive().is_some_and(|running| running.is_child)
    }

    /// Returns true during the pause after a crash.
    pub fn is_left_alone(&self) -> bool {
        matches!(&self.life.lock().phase, Phase::Crashed { until, .. } if *until > Instant::now())
    }
}
