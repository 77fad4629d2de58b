//! Leases of workspace paths.

use std::time::Duration;

use serde::Serialize;
use uuid::Uuid;

/// A live lease. Times are what is left by the database's clock.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    pub lease_id: Uuid,
    pub task_id: String,
    /// A path, or a pattern with `*`, `?` and `**`.
    pub path: String,
    /// Shared leases of the same path stand beside each other.
    pub shared: bool,
    pub holder: String,
    /// Fencing token: higher than that of every earlier lease.
    pub token: i64,
    pub expires_in_ms: i64,
}

/// Request for a lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    pub path: String,
    pub shared: bool,
    pub ttl: Duration,
    /// A place in the queue, if the path is leased: of an earlier attempt, or a new one.
    pub queue: Option<Waiting>,
}

/// A place in the queue for a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waiting {
    pub id: Uuid,
    /// Time after which the place is free, unless another attempt is made before.
    pub keep: Duration,
}

/// Answer to a claim.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Claimed {
    Granted(Lease),
    /// The path is leased by others, or others wait for it since earlier.
    Held(Held),
}

/// Lease or earlier claim of another agent that stands in the way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    pub holder: String,
    pub path: String,
    pub expires_in_ms: i64,
    /// Others that wait for the path since earlier.
    pub ahead: usize,
    /// The holder waits, over others or directly, for a path of the claimer: waiting ends only when a lease
    /// expires.
    pub deadlock: bool,
}
