//! Circuit breaker of one upstream: after several failures in a row it refuses requests for a while, then
//! admits one probe. Knows nothing of the cause of failures.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;
use protocol::{Code, Refusal};
use serde::Serialize;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    Closed,
    Open,
    /// State in which one probe is admitted.
    HalfOpen,
}

impl BreakerState {
    pub fn as_str(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half_open",
        }
    }
}

pub struct Breaker {
    threshold: u32,
    pause: Duration,
    /// Failures in a row.
    failures: AtomicU32,
    /// Flag of `opened`, which spares the usual request the lock.
    is_open: AtomicBool,
    opened: Mutex<Option<Opened>>,
}

struct Opened {
    since: Timestamp,
    until: Instant,
    probing: bool,
}

/// Kind of admission; the outcome of a probe must be reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    Usual,
    Probe,
}

impl Breaker {
    /// Creates a breaker that opens after `threshold` failures in a row, for `pause`.
    pub fn new(threshold: u32, pause: Duration) -> Self {
        let opened = Mutex::new(None);
        Self { threshold, pause, failures: AtomicU32::new(0), is_open: AtomicBool::new(false), opened }
    }

    /// Admits a request, or refuses it with [`Code::CircuitOpen`].
    pub fn admit(&self) -> Result<Admission, Refusal> {
        if !self.is_open.load(Ordering::Acquire) {
            return Ok(Admission::Usual);
        }
        let mut opened = self.opened.lock();
        let Some(opened) = opened.as_mut() else { return Ok(Admission::Usual) };
        let left = opened.until.saturating_duration_since(Instant::now());
        if left.is_zero() && !opened.probing {
            opened.probing = true;
            return Ok(Admission::Probe);
        }
        let failures = self.failures.load(Ordering::Relaxed);
        let reason = format!("the circuit breaker is open after {failures} failures in a row");
        Err(Refusal::new(Code::CircuitOpen, reason)
            .since(opened.since)
            .hint("it tries again by itself; a restart of the server closes it")
            .retry_after(left.max(Duration::from_millis(100))))
    }

    pub fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.reset();
        }
    }

    /// Counts a failure and returns whether it opened the breaker.
    pub fn failed(&self) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if failures < self.threshold {
            return false;
        }
        let mut opened = self.opened.lock();
        let newly = opened.is_none();
        let since = opened.as_ref().map_or_else(Timestamp::now, |opened| opened.since);
        *opened = Some(Opened { since, until: Instant::now() + self.pause, probing: false });
        self.is_open.store(true, Ordering::Release);
        newly
    }

    /// Ends a probe without an outcome: the next request is a probe.
    pub fn undecided(&self) {
        if let Some(opened) = self.opened.lock().as_mut() {
            opened.probing = false;
        }
    }

    /// Closes the breaker, whatever happened before.
    pub fn reset(&self) {
        let mut opened = self.opened.lock();
        self.failures.store(0, Ordering::Relaxed);
        self.is_open.store(false, Ordering::Release);
        *opened = None;
    }

    /// Returns the failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Returns the state, and the time of opening unless closed.
    pub fn state(&self) -> (BreakerState, Option<Timestamp>) {
        match self.opened.lock().as_ref() {
            None => (BreakerState::Closed, None),
            Some(opened) if opened.until > Instant::now() => (BreakerState::Open, Some(opened.since)),
            Some(opened) => (BreakerState::HalfOpen, Some(opened.since)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_probes_and_closes() {
        let breaker = Breaker::new(2, Duration::from_millis(20));
        breaker.failed();
        assert_eq!(breaker.admit().unwrap(), Admission::Usual);
        breaker.failed();
        assert_eq!(breaker.state().0, BreakerState::Open);
        let refusal = breaker.admit().unwrap_err();
        assert_eq!(refusal.code, Code::CircuitOpen);
        assert!(refusal.since.is_some() && refusal.retry_after.is_some());

        std::thread::sleep(Duration::from_millis(25));
        assert_eq!(breaker.state().0, BreakerState::HalfOpen);
        assert_eq!(breaker.admit().unwrap(), Admission::Probe);
        assert!(breaker.admit().is_err(), "one probe at a time");
        breaker.undecided();
        assert_eq!(breaker.admit().unwrap(), Admission::Probe);
        breaker.failed();
        assert_eq!(breaker.state().0, BreakerState::Open);

        std::thread::sleep(Duration::from_millis(25));
        assert_eq!(breaker.admit().unwrap(), Admission::Probe);
        breaker.succeeded();
        assert_eq!(breaker.state(), (BreakerState::Closed, None));
        assert_eq!(breaker.admit().unwrap(), Admission::Usual);
    }
}
