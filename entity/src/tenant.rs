//! Tenants: the boundary of isolation.

use jiff::Timestamp;
use protocol::TenantId;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    pub id: TenantId,
    /// Name, unique among tenants not deleted.
    pub slug: String,
    pub name: String,
    pub created_at: Timestamp,
}

#[derive(Clone, Debug)]
pub struct NewTenant {
    /// Name by `[a-z0-9][a-z0-9-]{0,62}`, checked when the row is made.
    pub slug: String,
    pub name: String,
}

/// Returns whether a text can be a tenant's slug.
pub(crate) fn is_tenant_slug(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.len() <= 63 && text.bytes().next().is_some_and(plain) && text.bytes().all(|b| plain(b) || b == b'-')
}
