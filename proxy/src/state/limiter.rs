//! Rate limits in this process, by the crate `governor`: GCRA with one keyed limiter per distinct quota.
//! `redis/admit.lua` decides alike.

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::time::Duration;

use dashmap::DashMap;
use governor::clock::{Clock, MonotonicClock};
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::{DashMapStateStore, ShrinkableKeyedStateStore};
use governor::{InsufficientCapacity, RateLimiter};

use super::{Admission, LimitKey, Quota};

/// Limiters of all keys. A key whose quota changes begins with the whole new quota.
#[derive(Default)]
pub struct Limiter<C: Clock = MonotonicClock> {
    clock: C,
    by_quota: DashMap<Quota, QuotaLimiter<C>>,
}

type QuotaLimiter<C> = RateLimiter<Check, ArrivalTimes, C, StateInformationMiddleware>;

impl<C: Clock + Clone> Limiter<C> {
    pub fn with_clock(clock: C) -> Self {
        Self { clock, by_quota: DashMap::new() }
    }

    /// Counts `cost` calls against the quota, all or none of them. A known key costs two look-ups and one
    /// compare-and-swap, and no allocation.
    pub fn admit(&self, key: LimitKey, quota: &Quota, cost: u32) -> Admission {
        let Some(max) = NonZeroU32::new(quota.max).filter(|_| !quota.is_unlimited()) else {
            return Admission::UNLIMITED;
        };
        if let Some(limiter) = self.by_quota.get(quota) {
            return decide(&limiter, key, quota, max, cost);
        }
        let Some(rate) = governor::Quota::with_period(quota.interval()) else { return Admission::UNLIMITED };
        let make = || QuotaLimiter::new(rate.allow_burst(max), ArrivalTimes::default(), self.clock.clone());
        decide(&self.by_quota.entry(*quota).or_insert_with(make).downgrade(), key, quota, max, cost)
    }

    /// Forgets keys whose whole quota is free again, and quotas without a key.
    pub fn sweep(&self) {
        self.by_quota.iter().for_each(|limiter| limiter.retain_recent());
        self.by_quota.retain(|_, limiter| !limiter.is_empty());
    }
}

/// Decides with one limiter. A cost of nothing, or of more than the quota's maximum, is not counted.
fn decide<C: Clock>(
    limiter: &QuotaLimiter<C>,
    key: LimitKey,
    quota: &Quota,
    max: NonZeroU32,
    cost: u32,
) -> Admission {
    let interval = quota.interval();
    let counted = NonZeroU32::new(cost).filter(|cost| *cost <= max);
    // The wait for the whole quota is the time until all of it is free.
    let asked = counted.unwrap_or(max);
    let wait = match limiter.check_key_n(&Check { key, counts: counted.is_some() }, asked) {
        Ok(Ok(state)) if counted.is_some() => {
            let remaining = state.remaining_burst_capacity();
            let reset_after = interval * (quota.max - remaining);
            return Admission { allowed: true, remaining, reset_after, retry_after: None, share: None };
        }
        Ok(Ok(_)) => Duration::ZERO,
        // The clock has moved since the decision; a refusal still needs a wait above zero.
        Ok(Err(until)) => until.wait_time_from(limiter.clock().now()).max(Duration::from_nanos(1)),
        Err(InsufficientCapacity(_)) => interval * quota.max,
    };
    let reset_after = wait + interval * (quota.max - asked.get());
    let free = (interval * quota.max).saturating_sub(reset_after);
    Admission {
        allowed: cost == 0,
        remaining: (free.as_nanos() / interval.as_nanos()) as u32,
        reset_after,
        retry_after: counted.map(|_| wait),
        share: None,
    }
}

/// A key, and the choice to count the calls that pass.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Check {
    key: LimitKey,
    counts: bool,
}

/// Theoretical arrival times of GCRA, by key.
#[derive(Default)]
struct ArrivalTimes(DashMapStateStore<LimitKey>);

impl StateStore for ArrivalTimes {
    type Key = Check;

    fn measure_and_replace<T, F, E>(&self, check: &Check, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        if check.counts {
            return self.0.measure_and_replace(&check.key, decide);
        }
        // Only passing calls are stored, so the decision is returned as a refusal.
        let look = |arrival| Err::<(Infallible, Nanos), _>(decide(arrival).map(|(passed, _)| passed));
        match self.0.measure_and_replace(&check.key, look) {
            Err(decision) => decision,
            Ok(never) => match never {},
        }
    }
}

impl ShrinkableKeyedStateStore<Check> for ArrivalTimes {
    fn retain_recent(&self, drop_below: Nanos) {
        self.0.retain_recent(drop_below);
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;
    use protocol::TenantId;
    use uuid::Uuid;

    use super::super::Bucket;
    use super::*;

    #[test]
    fn keys_that_went_quiet_are_forgotten() {
        let clock = FakeRelativeClock::default();
        let limiter = Limiter::with_clock(clock.clone());
        let [short, long] = [10, 1000].map(|seconds| Quota::new(10, Duration::from_secs(seconds)));
        for quota in [short, long] {
            for _ in 0..1000 {
                let key = LimitKey::new(TenantId::new(), Bucket::Caller, Uuid::now_v7());
                assert!(limiter.admit(key, &quota, 10).allowed);
            }
        }
        limiter.sweep();
        assert_eq!([short, long].map(|quota| limiter.by_quota.get(&quota).unwrap().len()), [1000, 1000]);
        clock.advance(Duration::from_secs(12));
        limiter.sweep();
        assert!(limiter.by_quota.get(&short).is_none() && limiter.by_quota.get(&long).unwrap().len() == 1000);
    }
}
