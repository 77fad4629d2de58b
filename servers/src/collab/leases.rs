//! Tools for leases.

use std::time::{Duration, Instant};

use entity::Actor;
use entity::collab::{Claim, Claimed, Held, Lease, Waiting};
use protocol::provider::{ProviderError, ToolOutput};
use protocol::{Code, Refusal, TenantId};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::hub::About;
use super::path::check_pattern;
use super::{Call, Collab, answer, seconds};

/// Longest lease.
pub const LONGEST_LEASE: u64 = 600;

/// Longest wait for a lease.
pub const LONGEST_WAIT: u64 = 60;

/// Longest time between attempts.
const ATTEMPT: Duration = Duration::from_millis(500);

/// Least time between attempts.
const BETWEEN: Duration = Duration::from_millis(20);

/// Time that a place in the queue lasts after an attempt.
const KEEP: Duration = Duration::from_secs(3);

#[derive(Deserialize)]
struct ClaimFile {
    task_id: String,
    path: String,
    shared: Option<bool>,
    ttl_seconds: Option<f64>,
    wait_seconds: Option<f64>,
}

#[derive(Deserialize)]
struct OwnLease {
    task_id: String,
    path: String,
    token: Option<i64>,
    ttl_seconds: Option<f64>,
}

impl Collab {
    pub(super) async fn claim_file(&self, call: &Call<'_>) -> Result<ToolOutput, ProviderError> {
        let given: ClaimFile = call.read()?;
        check_pattern(&given.path)?;
        let (tenant, member) = (call.agent.tenant, &call.agent.member);
        let wait = seconds(given.wait_seconds, Duration::ZERO, LONGEST_WAIT);
        let started = Instant::now();
        let until = (started + wait).min(call.answer_by());
        let mut follower = self.hub.follow((tenant, given.task_id.as_str().into()));
        let mut place =
            QueuePlace { collab: self, tenant, task: &given.task_id, id: Uuid::now_v7(), taken: false };
        let mut claim = Claim {
            path: given.path,
            shared: given.shared.unwrap_or(false),
            ttl: seconds(given.ttl_seconds, self.settings.lease, LONGEST_LEASE),
            queue: None,
        };
        loop {
            let waits = Instant::now() < until && !self.stopping.is_cancelled();
            claim.queue = (waits || place.taken).then_some(Waiting { id: place.id, keep: KEEP });
            let attempt = self.db.tenant(tenant).claim(member, &given.task_id, &claim).await?;
            let held = match attempt.value {
                Claimed::Granted(lease) => {
                    place.taken = false;
                    self.changed(tenant, &given.task_id, attempt.seq, About::LEASES);
                    return Ok(answer(json!(lease)));
                }
                Claimed::Held(held) => held,
            };
            place.taken |= claim.queue.is_some() && !held.deadlock;
            if !waits || held.deadlock {
                return Err(refused(&given.task_id, &claim.path, &held, started.elapsed()).into());
            }
            let left = until.saturating_duration_since(Instant::now());
            // A claim that is ahead has no time left to wait for.
            let expires = match held.expires_in_ms {
                0 => ATTEMPT,
                left => Duration::from_millis(left.unsigned_abs()),
            };
            self.wait(ATTEMPT.min(left).min(expires), follower.after(attempt.seq)).await;
            // Events of other kinds come often.
            tokio::time::sleep(BETWEEN).await;
        }
    }

    pub(super) async fn renew_file(&self, call: &Call<'_>) -> Result<ToolOutput, ProviderError> {
        let given: OwnLease = call.read()?;
        check_pattern(&given.path)?;
        let ttl = seconds(given.ttl_seconds, self.settings.lease, LONGEST_LEASE);
        let scope = self.db.tenant(call.agent.tenant);
        let lease = scope.renew(&call.agent.member, &given.task_id, &given.path, given.token, ttl).await?;
        Ok(answer(json!(lease.value)))
    }

    pub(super) async fn release_file(&self, call: &Call<'_>) -> Result<ToolOutput, ProviderError> {
        let given: OwnLease = call.read()?;
        check_pattern(&given.path)?;
        let tenant = call.agent.tenant;
        let scope = self.db.tenant(tenant);
        let released = scope.release(&call.agent.member, &given.task_id, &given.path, given.token).await?;
        self.changed(tenant, &given.task_id, released.seq, About::LEASES);
        Ok(answer(json!({
            "released": true,
            "leaseId": released.value.lease_id,
            "taskId": released.value.task_id,
            "path": released.value.path,
            "token": released.value.token,
        })))
    }
}

impl Collab {
    /// Ends a lease of any holder, and tells of it.
    pub async fn force_release(&self, tenant: TenantId, id: Uuid, actor: &Actor) -> Result<Lease, Refusal> {
        let released = self.db.tenant(tenant).force_release(id, actor).await?;
        self.changed(tenant, &released.value.task_id, released.seq, About::LEASES);
        Ok(released.value)
    }
}

/// A place in the queue, which is given up when the claim ends without a lease.
struct QueuePlace<'a> {
    collab: &'a Collab,
    tenant: TenantId,
    task: &'a str,
    id: Uuid,
    taken: bool,
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        if !self.taken {
            return;
        }
        let (collab, tenant, task, id) = (self.collab.clone(), self.tenant, self.task.to_owned(), self.id);
        self.collab.tasks.spawn(async move {
            // Otherwise it is free a little later.
            if let Err(error) = collab.db.tenant(tenant).leave_queue(&task, id).await {
                tracing::debug!(error = error.detail(), "a place in a queue was not given up");
            }
        });
    }
}

fn refused(task: &str, path: &str, held: &Held, waited: Duration) -> Refusal {
    let Held { holder, path: leased, expires_in_ms, ahead, deadlock } = held;
    let reason = match expires_in_ms {
        0 => format!("`{path}` in task `{task}` is waited for by `{holder}` since earlier"),
        left => format!("`{leased}` is leased to `{holder}` in task `{task}` for another {left} ms"),
    };
    let hint = match deadlock {
        true => "that agent waits for a lease of yours: release it, or come back later",
        false if waited.as_millis() > 0 => {
            "the wait was for nothing so far; claim it again, or do something else first"
        }
        false => "`wait_seconds` waits for it; reading needs no lease",
    };
    Refusal::new(Code::LeaseHeld, reason)
        .fact("holder", holder.as_str())
        .fact("taskId", task)
        .fact("path", leased.as_str())
        .fact("expiresInMs", *expires_in_ms)
        .fact("ahead", *ahead)
        .fact("deadlock", *deadlock)
        .hint(hint)
}
