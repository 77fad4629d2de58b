//! Upstreams that are for one client: who it is, what it tells them, and its end. And what all of
//! them tell.

use std::collections::HashSet;
use std::sync::Arc;

use protocol::mcp::Era;
use protocol::{ServerId, TenantId};
use serde_json::{Map, Value};
use tokio::sync::broadcast;

use super::entry::Entry;
use super::{Pool, PoolEvent, PoolKey};
use crate::peer::gateway_client;
use crate::selected::Selected;
use crate::upstream::{ClientProfile, Initialized};

/// Beyond this many profiles, those of upstreams that are not there are dropped.
const MANY: usize = 4096;

impl Pool {
    /// Says which client an upstream is for, before it is first asked for under this key.
    pub fn set_profile(&self, key: &PoolKey, profile: Arc<ClientProfile>) {
        let profiles = &self.shared.profiles;
        if profiles.len() >= MANY {
            // Clients that came with ever other capabilities; what runs does not need them any more.
            profiles.retain(|key, _| self.shared.entries.contains_key(key));
        }
        profiles.insert(*key, profile);
    }

    /// A client has gone: what ran for it alone is ended.
    pub fn dismiss(&self, owner: u64) {
        if owner == 0 {
            // That is everybody.
            return;
        }
        self.shared.profiles.retain(|key, _| key.owner != owner);
        if self.shared.entries.iter().any(|entry| entry.key().owner == owner) {
            let pool = self.clone();
            self.shared.tasks.spawn(async move { pool.retire_where(|key| key.owner == owner).await });
        }
    }

    /// The clients that have an upstream of their own.
    pub fn owners(&self) -> HashSet<u64> {
        self.shared.entries.iter().map(|entry| entry.key().owner).filter(|owner| *owner != 0).collect()
    }

    /// Tells an upstream something, such as `notifications/roots/list_changed`. `params` is a raw JSON
    /// object, or empty. One that does not run is not told.
    pub fn notify(&self, selected: &Selected, method: &str, params: &[u8]) {
        let entry = self.shared.entries.get(&selected.key).map(|entry| entry.clone());
        if let Some(running) = entry.and_then(|entry| entry.alive()) {
            running.upstream.notify(method, params);
        }
    }

    pub fn has_profile(&self, key: &PoolKey) -> bool {
        self.shared.profiles.contains_key(key)
    }

    /// Selects every upstream that runs, for work of the gateway itself.
    pub fn select_running(&self) -> Vec<Selected> {
        let running =
            |entry: &Entry| entry.alive().map(|_| Selected::for_gateway(entry.spec.clone(), entry.key));
        self.shared.entries.iter().filter_map(|entry| running(entry.value())).collect()
    }

    /// What the handshake with an upstream brought, if it runs.
    pub fn running(&self, key: &PoolKey) -> Option<Arc<Initialized>> {
        let running = self.shared.entries.get(key)?.alive()?;
        Some(running.initialized.clone())
    }

    /// The same, of any upstream of a server.
    pub fn any_running(&self, tenant: TenantId, server: ServerId) -> Option<Arc<Initialized>> {
        let entries = self.shared.of(tenant, server);
        let running = entries.iter().find_map(|entry| entry.alive())?;
        Some(running.initialized.clone())
    }

    pub fn is_running(&self, key: &PoolKey) -> bool {
        self.shared.entries.get(key).is_some_and(|entry| entry.alive().is_some())
    }

    /// What upstreams tell by themselves, from now on. A reader that is too slow loses the oldest, and
    /// is told so.
    pub fn events(&self) -> broadcast::Receiver<PoolEvent> {
        self.shared.events.subscribe()
    }

    /// The raw `params` of a request of the gateway itself to an upstream of that era.
    pub fn own_params(&self, era: Era, members: Map<String, Value>) -> String {
        gateway_client::params(era, &self.shared.settings.client(), members)
    }
}
