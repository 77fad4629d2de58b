//! Names in the shared state. The tenant is in them by construction: there is no key without one,
//! but for the few that belong to the installation.

use std::fmt;

use protocol::TenantId;
use uuid::Uuid;

/// The name of a value or channel: `t:{tenant}:{name}` or `g:{name}`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct StateKey(Box<str>);

impl StateKey {
    /// Something of one tenant. `name` says the kind first: `session:…`, `task:…`.
    pub fn tenant(tenant: TenantId, name: &str) -> Self {
        Self(format!("t:{tenant}:{name}").into())
    }

    /// Something of the whole installation, which no tenant's request may name.
    pub fn global(name: &str) -> Self {
        Self(format!("g:{name}").into())
    }

    /// The name of a channel as it came from Redis.
    pub(super) fn received(name: &str) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The subject of a limit: small and `Copy`, so that asking allocates nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LimitKey {
    tenant: TenantId,
    bucket: Bucket,
    subject: Uuid,
}

impl LimitKey {
    /// `subject` is the id of the counted subject: an agent, a key, a server. Equal
    /// subjects of two tenants are two limits.
    pub fn new(tenant: TenantId, bucket: Bucket, subject: Uuid) -> Self {
        Self { tenant, bucket, subject }
    }
}

/// Which of a subject's limits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Bucket {
    /// Requests of one agent, or of a key without an agent.
    Caller,
    /// Protocol messages of the same that ask for nothing.
    CallerUpkeep,
    /// The REST requests of the same.
    CallerRest,
    /// Requests of all callers of a tenant.
    Tenant,
    /// Their protocol messages that ask for nothing.
    TenantUpkeep,
    /// The calls of a tenant to one server.
    Server,
    /// The calls under one config row: of an agent to a server.
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
            Bucket::Server => "server",
            Bucket::Config => "config",
        }
    }
}

/// As it is named in Redis: `t:{tenant}:limit:{bucket}:{subject}`.
impl fmt::Display for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t:{}:limit:{}:{}", self.tenant, self.bucket.as_str(), self.subject.simple())
    }
}
