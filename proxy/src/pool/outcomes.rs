//! Outcome of the last handshake, request or check of an upstream, and since when it is the same.

use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use parking_lot::Mutex;
use protocol::{Code, Refusal};

use super::status::State;

/// The last outcome, and the number of outcomes of its kind in a row.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The last failure; `None` after a success.
    pub failure: Option<Refusal>,
    pub count: u32,
    /// Time of the first outcome of this kind in a row.
    pub since: Timestamp,
    /// Time of the last one.
    pub at: Timestamp,
    pub last_success: Option<Timestamp>,
}

impl Outcome {
    /// Returns the outcome that follows an earlier one.
    pub fn after(earlier: Option<&Outcome>, result: Result<(), &Refusal>) -> Outcome {
        let at = Timestamp::now();
        let alike = earlier.filter(|earlier| earlier.failure.is_none() == result.is_ok());
        Outcome {
            failure: result.err().cloned(),
            count: alike.map_or(1, |alike| alike.count.saturating_add(1)),
            since: alike.map_or(at, |alike| alike.since),
            at,
            last_success: result.ok().map(|()| at).or_else(|| earlier?.last_success),
        }
    }

    /// Returns the state of a server after a failure, with the reason; `None` after a success.
    pub fn trouble(&self) -> Option<(State, String)> {
        let refusal = self.failure.as_ref()?;
        let state = match refusal.code {
            Code::NotConfigured => State::NotConfigured,
            Code::UpstreamUnavailable => State::Unhealthy,
            _ => State::Degraded,
        };
        let reason = match self.count {
            1 => refusal.reason.to_string(),
            count => format!("{} ({count} failures in a row)", refusal.reason),
        };
        Some((state, reason))
    }
}

/// A defect of the lists of an upstream that answers, and since when it is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Defect {
    pub reason: &'static str,
    pub since: Timestamp,
}

/// Outcomes of one upstream. A success after a success takes no lock.
#[derive(Default)]
pub struct Outcomes {
    is_good: AtomicBool,
    last: Mutex<Option<Outcome>>,
    lists: Mutex<Option<Defect>>,
}

impl Outcomes {
    pub fn succeeded(&self) {
        if !self.is_good.load(Ordering::Acquire) {
            self.note(Ok(()));
        }
    }

    pub fn failed(&self, refusal: &Refusal) {
        self.note(Err(refusal));
    }

    /// Forgets all outcomes, at an end of the upstream.
    pub fn reset(&self) {
        let mut last = self.last.lock();
        self.is_good.store(false, Ordering::Release);
        *last = None;
    }

    pub fn last(&self) -> Option<Outcome> {
        self.last.lock().clone()
    }

    /// Notes a defect of the upstream's lists, or that there is none.
    pub fn note_lists(&self, defect: Option<&'static str>) {
        let mut lists = self.lists.lock();
        if lists.as_ref().map(|defect| defect.reason) != defect {
            *lists = defect.map(|reason| Defect { reason, since: Timestamp::now() });
        }
    }

    pub fn lists(&self) -> Option<Defect> {
        self.lists.lock().clone()
    }

    fn note(&self, result: Result<(), &Refusal>) {
        let mut last = self.last.lock();
        self.is_good.store(result.is_ok(), Ordering::Release);
        *last = Some(Outcome::after(last.as_ref(), result));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_from_the_first() {
        let outcomes = Outcomes::default();
        outcomes.succeeded();
        let good = outcomes.last().unwrap();
        outcomes.failed(&Refusal::new(Code::TimedOut, "late"));
        let first = outcomes.last().unwrap();
        outcomes.failed(&Refusal::new(Code::UpstreamUnavailable, "away"));
        let second = outcomes.last().unwrap();
        assert_eq!(first.trouble(), Some((State::Degraded, "late".to_owned())));
        assert_eq!(second.trouble(), Some((State::Unhealthy, "away (2 failures in a row)".to_owned())));
        assert_eq!((second.since, second.last_success), (first.since, Some(good.at)));
        outcomes.succeeded();
        let back = outcomes.last().unwrap();
        assert!(back.trouble().is_none() && back.since >= second.at);
    }

    #[test]
    fn a_defect_keeps_its_time() {
        let outcomes = Outcomes::default();
        outcomes.note_lists(Some("empty"));
        let first = outcomes.lists();
        outcomes.note_lists(Some("empty"));
        assert_eq!(outcomes.lists(), first);
        outcomes.note_lists(None);
        assert_eq!(outcomes.lists(), None);
    }
}
