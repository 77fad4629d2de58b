//! Backlogs of streams: bytes that wait for, or are kept for, readers, counted per tenant and in all. Beyond
//! the bound of either, notifications are dropped. Knows no message.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use protocol::TenantId;

/// Most bytes for all tenants together.
const MOST: usize = 64 << 20;

/// Most bytes for one tenant.
const MOST_OF_TENANT: usize = 16 << 20;

/// The backlogs of all tenants.
#[derive(Default)]
pub struct Backlogs {
    all: Arc<AtomicUsize>,
    tenants: DashMap<TenantId, Arc<Backlog>>,
}

/// Backlog of one tenant's readers.
#[derive(Default)]
pub struct Backlog {
    bytes: AtomicUsize,
    all: Arc<AtomicUsize>,
}

impl Backlogs {
    pub fn of(&self, tenant: TenantId) -> Arc<Backlog> {
        let new = || Arc::new(Backlog { bytes: AtomicUsize::new(0), all: Arc::clone(&self.all) });
        Arc::clone(&self.tenants.entry(tenant).or_insert_with(new))
    }

    /// Returns the bytes of all backlogs.
    pub fn bytes(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }
}

impl Backlog {
    /// Returns true if so many more bytes may wait.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.bytes.load(Ordering::Relaxed) + bytes <= MOST_OF_TENANT
            && self.all.load(Ordering::Relaxed) + bytes <= MOST
    }

    pub fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.all.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn remove(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.all.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tenant_leaves_room_for_the_others() {
        let backlogs = Backlogs::default();
        let (one, other) = (backlogs.of(TenantId::new()), backlogs.of(TenantId::new()));
        one.add(MOST_OF_TENANT);
        assert!(!one.has_room(1) && other.has_room(MOST_OF_TENANT));
        one.remove(1);
        assert!(one.has_room(1));
        assert_eq!(backlogs.bytes(), MOST_OF_TENANT - 1);
    }
}
