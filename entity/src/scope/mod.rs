//! The doors to rows. A query outside this folder does not exist, and none in it lacks its tenant.

mod agents;
mod audit_events;
mod configs;
mod credentials;
mod declare;
mod server_changes;
mod servers;
mod tenants;

use protocol::TenantId;

use crate::db::Db;

/// One tenant's rows. Another tenant's ids are not found through it.
#[derive(Clone, Copy)]
#[allow(dead_code)]
pub struct TenantScope<'a> {
    pub(crate) db: &'a Db,
    pub(crate) tenant: TenantId,
}

/// What belongs to the whole installation: tenants, global servers, the look-up of a key.
#[derive(Clone, Copy)]
#[allow(dead_code)]
pub struct OperatorScope<'a> {
    pub(crate) db: &'a Db,
}
