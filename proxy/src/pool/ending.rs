//! Deliberate ends of an upstream: stopped by the operator, idle, hung or outdated.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use protocol::Refusal;

use super::entry::{Entry, Phase, Running};
use crate::child::Needed;

impl Entry {
    /// Ends an upstream that hangs; the next request starts another.
    pub async fn replace(&self, running: Arc<Running>, refusal: Refusal) {
        let reason = refusal.reason.clone();
        if self.remove(&running, refusal) {
            self.logs.note(reason);
            self.breaker.reset();
            running.upstream.stop().await;
        }
    }

    /// Takes the running upstream out of use and returns it, to be stopped.
    fn take(&self, phase: Phase) -> Option<Arc<Running>> {
        let mut life = self.life.lock();
        life.set(phase);
        self.current.swap(None)
    }

    /// Stops the upstream and refuses requests until [`Entry::release`].
    pub async fn stop_by_operator(&self) -> Needed {
        let running = self.take(Phase::Held);
        self.outcomes.reset();
        match running {
            Some(running) => running.upstream.stop().await,
            None => Needed::Nothing,
        }
    }

    /// Ends the running upstream and clears crashes and the stop.
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
            self.outcomes.reset();
            self.current.swap(None)
        };
        if let Some(running) = running {
            running.upstream.stop().await;
        }
    }

    /// Clears crashes and the last failure, since the server answers again.
    pub fn forgive(&self) {
        let mut life = self.life.lock();
        match life.phase {
            Phase::Crashed { .. } => {
                life.crashes.reset();
                life.set(Phase::Idle { note: None });
                self.outcomes.reset();
            }
            Phase::Running | Phase::Idle { note: Some(_) } => self.outcomes.succeeded(),
            Phase::Idle { note: None } | Phase::Starting(_) | Phase::Held | Phase::Retired => {}
        }
    }

    /// Stops the upstream unless a request or subscription needs it.
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

    /// Retires the entry if nothing runs and no request came for `limit` milliseconds.
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

    /// Waits up to `patience` for requests in flight, then ends the upstream for good.
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
