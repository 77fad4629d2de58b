//! API keys, identified by the SHA-256 of their secret. The secret itself is never stored.

use std::fmt;

use jiff::Timestamp;
use protocol::{AgentId, CredentialId, Scopes, TenantId};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    pub id: CredentialId,
    pub tenant: TenantId,
    /// Agent of the key; a key without one may act as any agent of its tenant.
    pub agent: Option<AgentId>,
    pub name: String,
    /// Last four characters of the secret, so that people can distinguish keys.
    pub hint: String,
    pub scopes: Scopes,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub last_used_at: Option<Timestamp>,
}

/// An API key found by its hash, with the names that a caller carries. Authentication checks expiry and
/// revocation and reports which of them applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownCredential {
    pub credential: Credential,
    pub tenant_slug: String,
    pub agent_slug: Option<String>,
}

#[derive(Clone)]
pub struct NewCredential {
    pub agent: Option<AgentId>,
    pub name: String,
    pub hint: String,
    /// SHA-256 of the secret as the caller presents it.
    pub secret_hash: [u8; 32],
    pub scopes: Scopes,
    pub expires_at: Option<Timestamp>,
}

impl fmt::Debug for NewCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewCredential")
            .field("agent", &self.agent)
            .field("name", &self.name)
            .field("scopes", &self.scopes)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}
