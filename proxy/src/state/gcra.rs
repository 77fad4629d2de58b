//! The arithmetic of limits: GCRA (generic cell rate algorithm) as an exact bucket. It knows no clock
//! and no store; Redis does the same in Lua (`redis/admit.lua`), on its own clock.
//!
//! Why not the `governor` crate: its keyed limiter has one quota for all keys, does not say what is
//! left when it refuses a batch, and keeps the theoretical arrival time to itself, so that the reset
//! for the `RateLimit` header cannot be told. What it would do for us are the lines below.

use std::time::Duration;

/// At most `max` calls at once and, in the long run, `max` per `window`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Quota {
    /// 0 means no limit.
    pub max: u32,
    pub window: Duration,
}

/// What a quota said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Admission {
    pub allowed: bool,
    /// Calls that would pass right now; `u32::MAX` without a limit.
    pub remaining: u32,
    /// Until the whole quota is free again.
    pub reset_after: Duration,
    /// How long a refused call waits; none when it passed, and none when it never will: its cost is
    /// more than the quota's maximum.
    pub retry_after: Option<Duration>,
    /// The maximum that was applied instead of the quota's, where this replica decided alone.
    pub share: Option<u32>,
}

impl Admission {
    /// The answer where no limit is set.
    pub const UNLIMITED: Admission = Admission {
        allowed: true,
        remaining: u32::MAX,
        reset_after: Duration::ZERO,
        retry_after: None,
        share: None,
    };
}

impl Quota {
    pub fn new(max: u32, window: Duration) -> Self {
        Self { max, window }
    }

    /// Whether it limits anything.
    pub fn is_unlimited(&self) -> bool {
        self.max == 0 || self.window.is_zero()
    }

    /// The time one call takes of the window, in ticks of which `per_second` make a second; at least
    /// one. Whole ticks, so that sums are exact and precisely `max` calls fit.
    pub(super) fn interval(&self, per_second: u64) -> u64 {
        let window = self.window.as_nanos() * u128::from(per_second) / 1_000_000_000;
        u64::try_from(window / u128::from(self.max.max(1))).unwrap_or(u64::MAX).max(1)
    }
}

/// One decision. All times are nanoseconds on one clock; `arrival` is the theoretical arrival time
/// that the last admitted call left behind, or 0. Gives the new arrival time when it changes.
pub(super) fn decide(quota: &Quota, arrival: u64, now: u64, cost: u32) -> (Admission, Option<u64>) {
    let interval = quota.interval(1_000_000_000);
    let tolerance = interval.saturating_mul(u64::from(quota.max));
    // A quota that shrank leaves arrival times beyond what it could have made itself.
    let debt = arrival.saturating_sub(now).min(tolerance);
    let wanted = debt.saturating_add(interval.saturating_mul(u64::from(cost)));
    let allowed = wanted <= tolerance;
    let debt_after = if allowed { wanted } else { debt };
    let admission = Admission {
        allowed,
        remaining: u32::try_from((tolerance - debt_after) / interval).unwrap_or(u32::MAX),
        reset_after: Duration::from_nanos(debt_after),
        retry_after: (!allowed && cost <= quota.max).then(|| Duration::from_nanos(wanted - tolerance)),
        share: None,
    };
    (admission, (allowed && cost > 0).then(|| now.saturating_add(debt_after)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_hundred_pass_and_then_one_more_every_interval() {
        let quota = Quota::new(100, Duration::from_secs(60));
        let (mut arrival, now) = (0, 1000 * SECOND);
        for left in (0..100).rev() {
            let (admission, next) = decide(&quota, arrival, now, 1);
            assert!(admission.allowed);
            assert_eq!(admission.remaining, left);
            arrival = next.unwrap();
        }
        let (refused, unchanged) = decide(&quota, arrival, now, 1);
        assert_eq!(refused.retry_after, Some(Duration::from_millis(600)));
        assert_eq!(refused.reset_after, Duration::from_secs(60));
        assert!(!refused.allowed && unchanged.is_none());
        assert!(!decide(&quota, arrival, now + 600_000_000 - 1, 1).0.allowed);
        assert!(decide(&quota, arrival, now + 600_000_000, 1).0.allowed);
    }

    #[test]
    fn a_batch_passes_whole_or_not_at_all() {
        let quota = Quota::new(10, Duration::from_secs(10));
        let (first, arrival) = decide(&quota, 0, SECOND, 7);
        assert_eq!((first.allowed, first.remaining), (true, 3));
        let (second, unchanged) = decide(&quota, arrival.unwrap(), SECOND, 4);
        assert_eq!((second.allowed, second.remaining, unchanged), (false, 3, None));
        assert_eq!(second.retry_after, Some(Duration::from_secs(1)));
        let (never, _) = decide(&quota, 0, SECOND, 11);
        assert_eq!((never.allowed, never.retry_after), (false, None));
    }

    #[test]
    fn a_window_that_does_not_divide_still_takes_exactly_max() {
        let quota = Quota::new(7, Duration::from_secs(1));
        let mut arrival = 0;
        for _ in 0..7 {
            arrival = decide(&quota, arrival, SECOND, 1).1.unwrap();
        }
        assert!(!decide(&quota, arrival, SECOND, 1).0.allowed);
    }

    #[test]
    fn a_quota_that_shrank_forgives_the_rest() {
        let hour = Quota::new(10, Duration::from_secs(3600));
        let arrival = decide(&hour, 0, SECOND, 10).1.unwrap();
        let second = Quota::new(10, Duration::from_secs(1));
        let (admission, _) = decide(&second, arrival, SECOND, 1);
        assert_eq!(admission.retry_after, Some(Duration::from_millis(100)));
    }
}
