//! Rules of the queue for leases: order of claims, and circles of agents that wait for each other. Knows no
//! SQL beyond the rows.

use protocol::Refusal;
use uuid::Uuid;

use crate::collab::{Claim, Held, Member, overlap};
use crate::rows::collab::{leases, waiters};

/// Returns what keeps a claim from being granted: another's lease, or a claim that waits since earlier.
pub(super) fn held(
    live: &[leases::Model],
    queue: &[waiters::Model],
    member: &Member,
    claim: &Claim,
    place: Option<i64>,
    now: i64,
) -> Option<Held> {
    let excludes = |path: &str, shared: bool, agent: &str| {
        agent != member.agent && !(shared && claim.shared) && overlap(path, &claim.path)
    };
    let leased: Vec<&leases::Model> =
        live.iter().filter(|row| excludes(&row.path, row.shared, &row.holder)).collect();
    let ahead: Vec<&waiters::Model> = queue
        .iter()
        .filter(|row| place.is_none_or(|place| row.place < place))
        .filter(|row| excludes(&row.path, row.shared, &row.agent))
        // Whoever waits for the claimer itself would wait for ever.
        .filter(|row| !waits_for(live, queue, row, &member.agent, &mut Vec::new()))
        .collect();
    let mut held = match (leased.first(), ahead.first()) {
        (Some(row), _) => held_by(row, now),
        (None, Some(first)) => Held {
            holder: first.agent.clone(),
            path: first.path.clone(),
            expires_in_ms: 0,
            ahead: 0,
            deadlock: false,
        },
        (None, None) => return None,
    };
    held.ahead = ahead.len();
    let mut seen = Vec::new();
    held.deadlock = queue
        .iter()
        .filter(|row| leased.iter().any(|lease| lease.holder == row.agent))
        .any(|row| waits_for(live, queue, row, &member.agent, &mut seen));
    Some(held)
}

/// Returns whether a claim that waits needs a lease of `agent`, or its place in the queue, directly or over the
/// holders and waiters between.
fn waits_for<'r>(
    live: &'r [leases::Model],
    queue: &'r [waiters::Model],
    waiter: &'r waiters::Model,
    agent: &str,
    seen: &mut Vec<Uuid>,
) -> bool {
    if seen.contains(&waiter.id) {
        return false;
    }
    seen.push(waiter.id);
    let excludes = |path: &str, shared: bool, of: &str| {
        of != waiter.agent && !(shared && waiter.shared) && overlap(path, &waiter.path)
    };
    let holders =
        live.iter().filter(|row| excludes(&row.path, row.shared, &row.holder)).map(|row| &row.holder);
    let ahead = queue
        .iter()
        .filter(|row| row.place < waiter.place && excludes(&row.path, row.shared, &row.agent))
        .map(|row| &row.agent);
    holders.chain(ahead).any(|needed| {
        needed == agent
            || queue
                .iter()
                .filter(|row| row.agent == *needed)
                .any(|row| waits_for(live, queue, row, agent, seen))
    })
}

pub(super) fn held_by(row: &leases::Model, now: i64) -> Held {
    Held {
        holder: row.holder.clone(),
        path: row.path.clone(),
        expires_in_ms: millis(row.expires_at - now),
        ahead: 0,
        deadlock: false,
    }
}

/// Adds the holder of a lease, and the time that it has left.
pub(super) fn with_holder(refusal: Refusal, held: &Held) -> Refusal {
    refusal
        .fact("holder", held.holder.as_str())
        .fact("path", held.path.as_str())
        .fact("expiresInMs", held.expires_in_ms)
}

/// Converts a time left in microseconds, rounded up: a live lease never has 0 left.
pub(super) fn millis(micros: i64) -> i64 {
    micros.saturating_add(999).div_euclid(1000)
}
