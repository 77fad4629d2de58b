//! Quotas and admission decisions, alike in this process (`limiter`) and in Redis (`redis/admit.lua`).

use std::time::Duration;

/// At most `max` calls at once and, in the long run, `max` per `window`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Quota {
    /// Calls; 0 means no limit.
    pub max: u32,
    pub window: Duration,
}

/// A decision on a quota.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Admission {
    pub allowed: bool,
    /// Calls that would pass right now; `u32::MAX` without a limit.
    pub remaining: u32,
    /// Time until the whole quota is free; in memory up to one call's interval more where calls passed.
    pub reset_after: Duration,
    /// Wait of a refused call; none when it passed, and none when it never will: its cost is more than the
    /// quota's maximum.
    pub retry_after: Option<Duration>,
    /// Maximum applied instead of the quota's, where this replica decided alone.
    pub share: Option<u32>,
}

impl Admission {
    /// Decision where no limit is set.
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

    /// Returns whether the quota limits nothing.
    pub fn is_unlimited(&self) -> bool {
        self.max == 0 || self.window.is_zero()
    }

    /// Returns one call's share of the window: whole microseconds, the unit of the clock of Redis, and at
    /// least one. A window counts as at most a century.
    pub(super) fn interval(&self) -> Duration {
        const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
        let micros = self.window.min(CENTURY).as_micros() as u64 / u64::from(self.max.max(1));
        Duration::from_micros(micros.max(1))
    }
}
