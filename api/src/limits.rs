//! How often a caller may come: counters per agent and per tenant, asked before a body is parsed.
//! Where the counters are kept (this process, or Redis for all replicas) is the state store's business.

use std::sync::Arc;
use std::time::Duration;

use protocol::{Caller, Code, Refusal};
use proxy::state::{self, Admission, LimitKey, Quota, StateStore};

use crate::config;
use crate::gateway::Refused;

/// What is counted together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bucket {
    /// The MCP doors.
    Mcp,
    /// REST.
    Rest,
}

/// The agent's and the tenant's limits.
pub struct Limits {
    store: Arc<dyn StateStore>,
    agent: Option<Quota>,
    tenant: Option<Quota>,
}

/// Where the caller stands with its limit, for the answer's headers; none when it has no limit.
#[derive(Clone, Copy, Default, Debug)]
pub struct Pace(pub Option<Standing>);

#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// `agent` or `tenant`.
    pub whose: &'static str,
    pub max: u32,
    pub window: Duration,
    pub remaining: u32,
    /// Until all of it may be used at once again.
    pub reset_after: Duration,
}

impl Limits {
    pub fn new(store: Arc<dyn StateStore>, limits: &config::Limits) -> Self {
        let quota = |max| (max > 0).then(|| Quota { max, window: Duration::from_millis(limits.window_ms) });
        Self { store, agent: quota(limits.max_requests), tenant: quota(limits.tenant_max_requests) }
    }

    /// Counts `cost` requests of this caller, or refuses them all.
    pub async fn admit(&self, caller: &Caller, bucket: Bucket, cost: u32) -> Result<Pace, Refused> {
        let bucket = match bucket {
            Bucket::Mcp => state::Bucket::Caller,
            Bucket::Rest => state::Bucket::CallerRest,
        };
        // The agent first: what it is refused must not use up its tenant's share.
        let agent = LimitKey::new(caller.tenant, bucket, caller.limit_key());
        let own = self.count(agent, self.agent.as_ref(), cost, "agent").await?;
        let tenant = LimitKey::new(caller.tenant, state::Bucket::Tenant, caller.tenant.0);
        let shared = self.count(tenant, self.tenant.as_ref(), cost, "tenant").await?;
        Ok(if own.0.is_some() { own } else { shared })
    }

    /// Counts the messages of a batch after its first one, which is counted already.
    pub async fn admit_rest(&self, caller: &Caller, pace: Pace, messages: usize) -> Result<Pace, Refused> {
        match u32::try_from(messages.saturating_sub(1)).unwrap_or(u32::MAX) {
            0 => Ok(pace),
            more => self.admit(caller, Bucket::Mcp, more).await,
        }
    }

    async fn count(
        &self,
        key: LimitKey,
        quota: Option<&Quota>,
        cost: u32,
        whose: &'static str,
    ) -> Result<Pace, Refused> {
        let Some(quota) = quota else { return Ok(Pace(None)) };
        let admission = self.store.admit(key, quota, cost).await.map_err(Refusal::from)?;
        let pace = Pace(Some(Standing {
            whose,
            max: quota.max,
            window: quota.window,
            remaining: admission.remaining,
            reset_after: admission.reset_after,
        }));
        if admission.allowed {
            return Ok(pace);
        }
        Err(Refused { pace: Some(pace), ..Refused::from(used_up(quota, &admission, cost, whose)) })
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
    match admission.retry_after {
        Some(wait) => refusal
            .retry_after(wait)
            .hint(format!("try again in {} ms, or ask the operator for a higher limit", wait.as_millis())),
        None => refusal
            .retry_after(quota.window)
            .hint("send smaller batches, or ask the operator for a higher limit"),
    }
}
