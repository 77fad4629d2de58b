//! Rate limits per agent and per tenant, counted in the state store: in this process, or in Redis for all
//! replicas.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use protocol::{Caller, Code, ConfigId, Refusal};
use proxy::route::Permit;
use proxy::state::{self, Admission, LimitKey, Quota, StateStore};

use crate::config;
use crate::pipeline::refused::{QuotaState, RateLimitState, Refused};

/// Counter of a rate limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bucket {
    /// Calls, reads, lists and completions at the MCP endpoints.
    Calls,
    /// Protocol messages without work: handshakes, pings, notifications, streams.
    Upkeep,
    /// REST.
    Rest,
}

const MINUTE: Duration = Duration::from_secs(60);

/// Ratio of the limit of protocol messages to that of calls. A client framework that opens a session for each
/// call spends five of them on it.
const UPKEEP_FACTOR: u32 = 10;

/// Cost of a request's messages, by bucket. A message that releases something (a cancellation, the end of a
/// subscription) costs nothing, so that it is never refused.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Cost {
    pub calls: u32,
    pub upkeep: u32,
}

impl Cost {
    pub const CALL: Cost = Cost { calls: 1, upkeep: 0 };
    pub const UPKEEP: Cost = Cost { calls: 0, upkeep: 1 };
    pub const NOTHING: Cost = Cost { calls: 0, upkeep: 0 };

    /// Returns the cost that remains after the counted part.
    pub fn after(self, counted: Cost) -> Cost {
        let Cost { calls, upkeep } = self;
        Cost { calls: calls.saturating_sub(counted.calls), upkeep: upkeep.saturating_sub(counted.upkeep) }
    }
}

impl std::iter::Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(costs: I) -> Cost {
        costs.fold(Cost::NOTHING, |sum, one| Cost {
            calls: sum.calls.saturating_add(one.calls),
            upkeep: sum.upkeep.saturating_add(one.upkeep),
        })
    }
}

/// The agent's and the tenant's limits, and those of config rows.
pub struct Limits {
    store: Arc<dyn StateStore>,
    /// Calls that run now under a config with `maxConcurrency`, in this process.
    running: Arc<DashMap<ConfigId, u32>>,
    agent: Option<Quota>,
    tenant: Option<Quota>,
}

impl Limits {
    pub fn new(store: Arc<dyn StateStore>, limits: &config::Limits) -> Self {
        let quota = |max| (max > 0).then(|| Quota { max, window: Duration::from_millis(limits.window_ms) });
        Self {
            store,
            running: Arc::default(),
            agent: quota(limits.max_requests),
            tenant: quota(limits.tenant_max_requests),
        }
    }

    /// Counts a call under the limits of the configs that apply to it; its places are free again when they are
    /// dropped.
    ///
    /// # Errors
    /// [`Code::ConcurrencyLimited`], [`Code::RateLimited`], with the row that decided.
    pub async fn admit_call(&self, caller: &Caller, permit: &Permit) -> Result<Vec<Place>, Refusal> {
        let policy = &permit.route().policy;
        let slug = policy.spec.slug.as_str();
        let mut places = Vec::new();
        for row in policy.configs() {
            if let Some(most) = row.max_concurrency {
                let place = Place::take(&self.running, row.id, most).ok_or_else(|| {
                    let reason =
                        format!("{most} calls of `{slug}` run already, and no more may at the same time");
                    Refusal::new(Code::ConcurrencyLimited, reason)
                        .rule(format!("config {} maxConcurrency", row.id))
                        .since(row.updated_at)
                        .retry_after(Duration::from_secs(1))
                        .hint("call again when one of them has ended")
                })?;
                places.push(place);
            }
        }
        for row in policy.configs() {
            let Some(max) = row.calls_per_minute.filter(|max| *max > 0) else { continue };
            let quota = Quota { max, window: MINUTE };
            let key = LimitKey::new(caller.tenant, state::Bucket::Config, row.id.0);
            let admission = self.store.admit(key, &quota, 1).await.map_err(Refusal::from)?;
            if !admission.allowed {
                let max = admission.share.unwrap_or(max);
                let reason = format!("the limit of {max} calls per minute of `{slug}` is used up");
                let wait = with_jitter(admission.retry_after.unwrap_or(MINUTE));
                return Err(Refusal::new(Code::RateLimited, reason)
                    .rule(format!("config {} callsPerMinute", row.id))
                    .since(row.updated_at)
                    .retry_after(wait)
                    .hint(format!("try again in {}", readable(wait))));
            }
        }
        Ok(places)
    }

    /// Counts the messages of a request, or refuses them all. A request without a cost passes.
    pub async fn admit_all(&self, caller: &Caller, cost: Cost) -> Result<RateLimitState, Refused> {
        let mut rate_limit = RateLimitState::default();
        if cost.upkeep > 0 {
            rate_limit = self.admit(caller, Bucket::Upkeep, cost.upkeep).await?;
        }
        if cost.calls > 0 {
            rate_limit = self.admit(caller, Bucket::Calls, cost.calls).await?;
        }
        Ok(rate_limit)
    }

    /// Counts `cost` requests of this caller in one bucket, or refuses them all.
    pub async fn admit(&self, caller: &Caller, bucket: Bucket, cost: u32) -> Result<RateLimitState, Refused> {
        let (own, shared) = match bucket {
            Bucket::Calls => (state::Bucket::Caller, state::Bucket::Tenant),
            Bucket::Upkeep => (state::Bucket::CallerUpkeep, state::Bucket::TenantUpkeep),
            Bucket::Rest => (state::Bucket::CallerRest, state::Bucket::Tenant),
        };
        let wide = |quota: &Option<Quota>| match bucket {
            Bucket::Upkeep => {
                quota.map(|quota| Quota::new(quota.max.saturating_mul(UPKEEP_FACTOR), quota.window))
            }
            Bucket::Calls | Bucket::Rest => *quota,
        };
        // The agent first: its refused requests must not use up its tenant's share.
        let agent = LimitKey::new(caller.tenant, own, caller.limit_key());
        let own = self.count(agent, wide(&self.agent).as_ref(), cost, "agent").await?;
        let tenant = LimitKey::new(caller.tenant, shared, caller.tenant.0);
        let shared = self.count(tenant, wide(&self.tenant).as_ref(), cost, "tenant").await?;
        Ok(if own.0.is_some() { own } else { shared })
    }

    async fn count(
        &self,
        key: LimitKey,
        quota: Option<&Quota>,
        cost: u32,
        whose: &'static str,
    ) -> Result<RateLimitState, Refused> {
        let Some(quota) = quota else { return Ok(RateLimitState(None)) };
        let admission = self.store.admit(key, quota, cost).await.map_err(Refusal::from)?;
        // Without Redis, a replica grants its share only.
        let quota = &Quota { max: admission.share.unwrap_or(quota.max), ..*quota };
        let rate_limit = RateLimitState(Some(QuotaState {
            whose,
            max: quota.max,
            window: quota.window,
            remaining: admission.remaining,
            reset_after: admission.reset_after,
        }));
        if admission.allowed {
            return Ok(rate_limit);
        }
        Err(Refused {
            rate_limit: Some(rate_limit),
            ..Refused::from(used_up(quota, &admission, cost, whose))
        })
    }
}

/// Place of a call among those that run at the same time under a config.
pub struct Place {
    running: Arc<DashMap<ConfigId, u32>>,
    config: ConfigId,
}

impl Place {
    fn take(running: &Arc<DashMap<ConfigId, u32>>, config: ConfigId, most: u32) -> Option<Self> {
        let mut now = running.entry(config).or_default();
        if *now >= most {
            return None;
        }
        *now += 1;
        Some(Self { running: Arc::clone(running), config })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.running.remove_if_mut(&self.config, |_, now| {
            *now -= 1;
            *now == 0
        });
    }
}

/// Adds up to a tenth of the wait, or up to a second where that is more, so that callers refused together do
/// not come back together.
fn with_jitter(wait: Duration) -> Duration {
    let random = f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX);
    wait + (wait / 10).max(Duration::from_secs(1)).mul_f64(random)
}

/// Formats milliseconds below a second, else whole seconds.
fn readable(wait: Duration) -> String {
    match wait.as_millis() {
        short @ 0..1000 => format!("{short} ms"),
        long => format!("{} s", long.div_ceil(1000)),
    }
}

fn used_up(quota: &Quota, admission: &Admission, cost: u32, whose: &str) -> Refusal {
    let (max, window) = (quota.max, quota.window.as_secs_f64());
    let reason = if cost > max {
        format!("{cost} requests at once are more than this {whose}'s limit of {max} in {window} s")
    } else {
        format!("this {whose}'s limit of {max} requests in {window} s is used up")
    };
    let refusal = Refusal::new(Code::RateLimited, reason).rule(format!("limit {whose} {max} per {window} s"));
    match admission.retry_after.map(with_jitter) {
        Some(wait) => refusal
            .retry_after(wait)
            .hint(format!("try again in {}, or ask the operator for a higher limit", readable(wait))),
        None => refusal
            .retry_after(quota.window)
            .hint("send smaller batches, or ask the operator for a higher limit"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_with_jitter_are_never_too_short_and_not_the_same_for_all() {
        for (wait, most) in [(0, 1000), (600, 1600), (60_000, 66_000)] {
            let waits = [0; 16].map(|_| with_jitter(Duration::from_millis(wait)));
            let expected = Duration::from_millis(wait)..=Duration::from_millis(most);
            assert!(waits.iter().all(|wait| expected.contains(wait)), "{wait} ms: {waits:?}");
            assert!(waits.iter().any(|wait| *wait != waits[0]), "{wait} ms: {waits:?}");
        }
    }
}
