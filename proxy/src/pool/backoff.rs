//! How long to leave an upstream alone that ends again and again.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use protocol::Refusal;

/// One that ran this long before it ended is not in a loop.
const STEADY: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Default)]
pub struct Crashes {
    /// Ends and failed starts in a row.
    pub in_a_row: u32,
    /// The first of them.
    pub since: Option<Timestamp>,
}

impl Crashes {
    /// Counts one more and says when the next start may be. The first costs nothing, each further one
    /// doubles the pause, up to the cap.
    pub fn count(&mut self, ran: Duration, base: Duration, cap: Duration) -> Instant {
        if ran >= STEADY {
            *self = Self::default();
        }
        self.in_a_row += 1;
        self.since.get_or_insert_with(Timestamp::now);
        let pause = match self.in_a_row {
            1 => Duration::ZERO,
            n => base.saturating_mul(1 << (n - 2).min(20)).min(cap),
        };
        Instant::now() + pause
    }

    /// What a caller reads while the pause lasts.
    pub fn refusal(&self, last: &Refusal, until: Instant) -> Refusal {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let reason = format!(
            "{} ({} failures in a row; the next start is in {:.1} s)",
            last.reason,
            self.in_a_row,
            left.as_secs_f64()
        );
        Refusal { reason: reason.into(), since: self.since, ..last.clone() }.retry_after(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap_and_start_anew_after_a_steady_run() {
        let (base, cap) = (Duration::from_secs(100), Duration::from_secs(300));
        let mut crashes = Crashes::default();
        let mut pause = |ran| {
            let until = crashes.count(ran, base, cap);
            until.saturating_duration_since(Instant::now()).as_secs_f64().round() as u64
        };
        assert_eq!([0; 5].map(|_| pause(Duration::ZERO)), [0, 100, 200, 300, 300]);
        assert_eq!(pause(STEADY), 0);
        assert_eq!(pause(Duration::ZERO), 100);
    }
}
