//! Upstreams dedicated to one client: profile, notifications, end.

use std::collections::HashSet;
use std::sync::Arc;

use protocol::mcp::Era;
use protocol::{ServerId, TenantId};
use serde_json::{Map, Value};

use super::{Pool, PoolKey};
use crate::peer::gateway_client;
use crate::selected::Selected;
use crate::upstream::{ClientProfile, Initialized};

/// The number of profiles above which those without an upstream are dropped.
const MANY: usize = 4096;

impl Pool {
    /// Sets the client of an upstream, before the first request under this key.
    pub fn set_profile(&self, key: &PoolKey, profile: Arc<ClientProfile>) {
        let profiles = &self.shared.profiles;
        if profiles.len() >= MANY {
            // Running upstreams need no profile, and capabilities can differ with every client.
            profiles.retain(|key, _| self.shared.entries.contains_key(key));
        }
        profiles.insert(*key, profile);
    }

    /// Ends the upstreams of a client that disconnected.
    pub fn dismiss(&self, owner: u64) {
        if owner == 0 {
            // Zero means all clients.
            return;
        }
        self.shared.profiles.retain(|key, _| key.owner != owner);
        if self.shared.entries.iter().any(|entry| entry.key().owner == owner) {
            let pool = self.clone();
            self.shared.tasks.spawn(async move { pool.retire_where(|key| key.owner == owner).await });
        }
    }

    /// Returns the clients with upstreams of their own.
    pub fn owners(&self) -> HashSet<u64> {
        self.shared.entries.iter().map(|entry| entry.key().owner).filter(|owner| *owner != 0).collect()
    }

    /// Sends a notification, such as `notifications/roots/list_changed`, to an upstream if it runs. `params`
    /// is a raw JSON object, or empty.
    pub fn notify(&self, selected: &Selected, method: &str, params: &[u8]) {
        let entry = self.shared.entries.get(&selected.key).map(|entry| entry.clone());
        if let Some(running) = entry.and_then(|entry| entry.alive()) {
            running.upstream.notify(method, params);
        }
    }

    pub fn has_profile(&self, key: &PoolKey) -> bool {
        self.shared.profiles.contains_key(key)
    }

    /// Selects every running upstream, for requests of the gateway itself.
    pub fn select_running(&self) -> Vec<Selected> {
        let keys: Vec<PoolKey> = self.shared.entries.iter().map(|entry| *entry.key()).collect();
        keys.iter().filter_map(|key| self.select_running_key(key)).collect()
    }

    /// Selects a running upstream by its key, for requests of the gateway itself.
    pub fn select_running_key(&self, key: &PoolKey) -> Option<Selected> {
        let entry = self.shared.entries.get(key)?;
        entry.alive().map(|_| Selected::for_gateway(entry.spec.clone(), entry.key))
    }

    /// Returns the handshake of an upstream, if it runs.
    pub fn running(&self, key: &PoolKey) -> Option<Arc<Initialized>> {
        let running = self.shared.entries.get(key)?.alive()?;
        Some(running.initialized.clone())
    }

    /// Returns the handshake of any upstream of a server.
    pub fn any_running(&self, tenant: TenantId, server: ServerId) -> Option<Arc<Initialized>> {
        let entries = self.shared.of(tenant, server);
        let running = entries.iter().find_map(|entry| entry.alive())?;
        Some(running.initialized.clone())
    }

    pub fn is_running(&self, key: &PoolKey) -> bool {
        self.shared.entries.get(key).is_some_and(|entry| entry.alive().is_some())
    }

    /// Returns the raw `params` of a request of the gateway itself to an upstream of that era.
    pub fn own_params(&self, era: Era, members: Map<String, Value>) -> String {
        gateway_client::params(era, &self.shared.settings.client(), members)
    }
}
