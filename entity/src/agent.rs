//! Agents: the named, non-human clients of a tenant.

use jiff::Timestamp;
use protocol::{AgentId, TenantId};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    pub id: AgentId,
    pub tenant: TenantId,
    /// Name, unique in the tenant among agents not deleted.
    pub slug: String,
    pub name: String,
    pub created_at: Timestamp,
}

#[derive(Clone, Debug)]
pub struct NewAgent {
    /// Name, checked by [`is_agent_slug`] when the row is made.
    pub slug: String,
    pub name: String,
}

/// Returns whether a text can be an agent's slug: 1 to 64 of `A-Z a-z 0-9 _ . : @ -`.
pub fn is_agent_slug(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.:@-".contains(&b);
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}
