//! Deadline of a call that pauses while the client is asked for input.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::QUESTIONS_WITHIN;

pub struct PausableDeadline {
    timeout: Duration,
    open: AtomicUsize,
    changed: Notify,
}

/// Guard that pauses the deadline.
pub struct DeadlinePause(Arc<PausableDeadline>);

impl PausableDeadline {
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, open: AtomicUsize::new(0), changed: Notify::new() }
    }

    pub fn pause(self: &Arc<Self>) -> DeadlinePause {
        self.open.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_one();
        DeadlinePause(self.clone())
    }

    /// Waits until the time is used up.
    pub async fn run_out(&self) {
        let mut left = self.timeout;
        let mut asking = QUESTIONS_WITHIN;
        loop {
            let begun = Instant::now();
            let paused = self.open.load(Ordering::SeqCst) > 0;
            let budget = if paused { &mut asking } else { &mut left };
            tokio::select! {
                () = tokio::time::sleep(*budget) => return,
                () = self.changed.notified() => *budget = budget.saturating_sub(begun.elapsed()),
            }
        }
    }
}

impl Drop for DeadlinePause {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_clients_own_time_does_not_count() {
        let pausable = Arc::new(PausableDeadline::new(Duration::from_secs(1)));
        let begun = Instant::now();
        let pause = pausable.pause();
        let over = pausable.run_out();
        let answer = async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            drop(pause);
        };
        tokio::join!(over, answer);
        assert_eq!(begun.elapsed().as_secs(), 61);
    }
}
