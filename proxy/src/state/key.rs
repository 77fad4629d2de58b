//! Key names of the shared state. Every key names its tenant, except the few keys of the whole
//! installation.

use std::fmt;

use protocol::TenantId;
use uuid::Uuid;

/// Name of a value or channel: `t:{tenant}:{name}` or `g:{name}`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct StateKey(Box<str>);

impl StateKey {
    /// Returns a key of one tenant. `name` begins with the kind: `session:…`, `task:…`.
    pub fn tenant(tenant: TenantId, name: &str) -> Self {
        Self(format!("t:{tenant}:{name}").into())
    }

    /// Returns a key of the whole installation, which no tenant's request may name.
    pub fn global(name: &str) -> Self {
        Self(format!("g:{name}").into())
    }

    /// Returns a key under the name that earlier gateways gave it, without a tenant: for the tenant `default`
    /// only.
    pub fn bare(name: &str) -> Self {
        Self(name.into())
    }

    /// Returns the channel that tells of changes of this value.
    pub fn updates(&self) -> Self {
        Self(format!("{}:updates", self.0).into())
    }

    /// Returns the key of a channel name received from Redis.
    pub(super) fn received(name: &str) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Key of a rate limit: small and `Copy`, so that a check allocates nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LimitKey {
    tenant: TenantId,
    bucket: Bucket,
    subject: Uuid,
}

impl LimitKey {
    /// Returns a key; `subject` is the id of the counted agent, API key or server. Equal subjects of two
    /// tenants are two limits.
    pub fn new(tenant: TenantId, bucket: Bucket, subject: Uuid) -> Self {
        Self { tenant, bucket, subject }
    }
}

/// Kind of limit of a subject.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Bucket {
    /// Requests of one agent, or of an API key without an agent.
    Caller,
    /// Protocol messages of the same caller that request nothing.
    CallerUpkeep,
    /// REST requests of the same caller.
    CallerRest,
    /// Requests of all callers of a tenant.
    Tenant,
    /// Protocol messages of all callers of a tenant that request nothing.
    TenantUpkeep,
    /// Calls under one config row: of a tenant, or of one of its agents, to a server.
    Config,
}

impl Bucket {
    fn as_str(self) -> &'static str {
        match self {
            Bucket::Caller => "caller",
            Bucket::CallerUpkeep => "upkeep",
            Bucket::CallerRest => "rest",
            Bucket::Tenant => "tenant",
            Bucket::TenantUpkeep => "tenant-upkeep",
            Bucket::Config => "config",
        }
    }
}

/// Formats the name of the key in Redis: `t:{tenant}:limit:{bucket}:{subject}`.
impl fmt::Display for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t:{}:limit:{}:{}", self.tenant, self.bucket.as_str(), self.subject.simple())
    }
}
