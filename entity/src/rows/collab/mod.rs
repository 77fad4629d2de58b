//! Tables of tasks.

pub(crate) mod dependencies;
pub(crate) mod events;
pub(crate) mod file_versions;
pub(crate) mod files;
pub(crate) mod leases;
pub(crate) mod outbox;
pub(crate) mod participants;
pub(crate) mod tasks;
pub(crate) mod waiters;
