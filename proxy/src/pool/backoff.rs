//! Backoff of an upstream that crashes again and again.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use protocol::Refusal;

use crate::backoff::Backoff;

/// Run time after which an end is no crash loop.
const STEADY: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct Crashes {
    /// The number of crashes and failed starts in a row.
    in_a_row: u32,
    /// Time of the first of these crashes.
    since: Option<Timestamp>,
    backoff: Backoff,
}

impl Crashes {
    pub fn new(base: Duration, cap: Duration) -> Self {
        Self { in_a_row: 0, since: None, backoff: Backoff::new(base, cap) }
    }

    pub fn reset(&mut self) {
        (self.in_a_row, self.since) = (0, None);
        self.backoff.reset();
    }

    /// Counts a crash and returns the time of the next start. The first crash causes no pause.
    pub fn count(&mut self, ran: Duration) -> Instant {
        if ran >= STEADY {
            self.reset();
        }
        self.in_a_row += 1;
        self.since.get_or_insert_with(Timestamp::now);
        let pause = if self.in_a_row == 1 { Duration::ZERO } else { self.backoff.pause() };
        Instant::now() + pause
    }

    /// Returns the refusal of requests during the pause.
    pub fn refusal(&self, last: &Refusal, until: Instant) -> Refusal {
        let left = until.saturating_duration_since(Instant::now());
        let next = match left.is_zero() {
            true => "the next request starts it".to_owned(),
            false => format!("the next start is in {:.1} s", left.as_secs_f64()),
        };
        let left = left.max(Duration::from_millis(1));
        let reason = format!("{} ({} failures in a row; {next})", last.reason, self.in_a_row);
        Refusal { reason: reason.into(), since: self.since, ..last.clone() }.retry_after(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_start_anew_after_a_steady_run() {
        let mut crashes = Crashes::new(Duration::from_secs(100), Duration::from_secs(300));
        let mut pause = |ran| crashes.count(ran).saturating_duration_since(Instant::now()).as_secs();
        assert_eq!(pause(Duration::ZERO), 0);
        assert!((99..=125).contains(&pause(Duration::ZERO)));
        assert!((199..=250).contains(&pause(Duration::ZERO)));
        assert_eq!(pause(STEADY), 0);
        assert!((99..=125).contains(&pause(Duration::ZERO)));
    }
}
