//! Intended ends of an upstream: it is stopped by the operator, not needed, replaced, or out of date.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use protocol::Refusal;

use super::entry::{Entry, Phase, Running};
use crate::child::Needed;

impl Entry {
    /// Ends one that lives but does not work any more; the next request starts another.
    pub async fn replace(&self, running: Arc<Running>, refusal: Refusal) {
        let reason = refusal.reason.clone();
        if self.remove(&running, refusal) {
            self.logs.note(reason);
            self.breaker.reset();
            running.upstream.stop().await;
        }
    }

    /// Takes what runs out of use and gives it to whoever stops it.
    fn take(&self, phase: Phase) -> Option<Arc<Running>> {
        let mut life = self.life.lock();
        life.set(phase);
        self.current.swap(None)
    }

    /// Ends it and refuses requests until [`Entry::release`].
    pub async fn stop_by_operator(&self) -> Needed {
        match self.take(Phase::Held) {
            Some(running) => running.upstream.stop().await,
            None => Needed::Nothing,
        }
    }

    /// Ends what runs, and forgets all crashes and the hold.
    pub async fn release(&self, stop: bool) {
        let running = {
            let mut life = self.life.lock();
            let busy = matches!(life.phase, Phase::Running | Phase::Starting(_));
            if busy && !stop {
                return;
            }
            life.crashes.reset();
            life.set(Phase::Idle { note: None });
            self.breaker.reset();
            self.current.swap(None)
        };
        if let Some(running) = running {
            running.upstream.stop().await;
        }
    }

    /// Ends it because nobody needs it now, unless somebody does after all.
    pub async fn rest(&self, note: &'static str) -> bool {
        let running = {
            let mut life = self.life.lock();
            let used = self.in_flight.load(Ordering::SeqCst) > 0 || !self.subscriptions.is_empty();
            if !matches!(life.phase, Phase::Running) || used {
                return false;
            }
            life.set(Phase::Idle { note: Some(note) });
            self.current.swap(None)
        };
        self.logs.note(note);
        if let Some(running) = running {
            running.upstream.stop().await;
        }
        true
    }

    /// Takes it out of use for good if nothing runs and nobody used it for that many milliseconds.
    pub fn let_go(&self, limit: u64) -> bool {
        let mut life = self.life.lock();
        let used = self.in_flight.load(Ordering::SeqCst) > 0 || !self.subscriptions.is_empty();
        let unused_since = self.last_used.load(Ordering::Relaxed);
        let rests = matches!(life.phase, Phase::Idle { .. } | Phase::Crashed { .. });
        let gone = rests && !used && limit > 0 && unused_since + limit < self.pool.millis();
        if gone {
            life.set(Phase::Retired);
        }
        gone
    }

    /// Lets those in flight finish, for at most that long, then ends it for good.
    pub async fn retire(&self, patience: Duration) {
        let until = Instant::now() + patience;
        while self.in_flight.load(Ordering::SeqCst) > 0 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if let Some(running) = self.take(Phase::Retired) {
            running.upstream.stop().await;
        }
    }
}
