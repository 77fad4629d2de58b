//! Selection of the upstreams that serve a client: policy, eras, and the keys in the pool.

use std::sync::Arc;
use std::time::Instant;

use protocol::mcp::Era;
use protocol::{Refusal, TenantId};

use super::{Bridge, Client, exclusive_slots};
use crate::policy::Policy;
use crate::pool::PoolKey;
use crate::route::Permit;
use crate::selected::Selected;
use crate::server::{Launch, ServerSpec};
use crate::upstream::ClientProfile;

impl Bridge {
    /// Selects a server for a caller under a policy, after a probe of the server's eras if they are
    /// unknown. The probe of a stdio server starts the upstream of lists.
    ///
    /// # Errors
    /// A refusal if the policy forbids the server, or the eras cannot be probed in time.
    pub async fn select(
        &self,
        tenant: TenantId,
        policy: &Policy,
        client: &Client,
        deadline: Instant,
    ) -> Result<Selected, Refusal> {
        policy.server()?;
        self.select_for_owner(tenant, &policy.spec, client, deadline).await
    }

    /// Selects a server by the eras known so far, for what is known of it without a request.
    ///
    /// # Errors
    /// A refusal if the policy forbids the server.
    pub fn select_known(
        &self,
        tenant: TenantId,
        policy: &Policy,
        client: &Client,
    ) -> Result<Selected, Refusal> {
        policy.server()?;
        Ok(self.selected(tenant, &policy.spec, client))
    }

    /// Selects the server that a permit allows. The probe of a stdio server starts the upstream of calls.
    pub async fn select_permitted(
        &self,
        permit: &Permit,
        client: &Client,
        deadline: Instant,
    ) -> Result<Selected, Refusal> {
        let (tenant, spec) = (permit.route().key.tenant, permit.spec());
        self.settle_eras(spec, || self.first_call_key(tenant, spec, client), deadline).await?;
        Ok(self.selected(tenant, spec, client))
    }

    /// Selects a server for its owner, whatever the configs say.
    pub async fn select_for_owner(
        &self,
        tenant: TenantId,
        spec: &Arc<ServerSpec>,
        client: &Client,
        deadline: Instant,
    ) -> Result<Selected, Refusal> {
        self.settle_eras(spec, || self.list_key(tenant, spec, client), deadline).await?;
        Ok(self.selected(tenant, spec, client))
    }

    /// Selects a server if its upstream for this client runs.
    pub fn select_running(&self, tenant: TenantId, policy: &Policy, client: &Client) -> Option<Selected> {
        policy.server().ok()?;
        let selected = self.selected(tenant, &policy.spec, client);
        self.pool.is_running(&selected.key).then_some(selected)
    }

    fn selected(&self, tenant: TenantId, spec: &Arc<ServerSpec>, client: &Client) -> Selected {
        let key = self.key(tenant, spec, client);
        let list_key = self.shared_unless_running(key, client);
        Selected { spec: Arc::clone(spec), key, list_key, own: self.own(key, client), is_use: true }
    }

    /// Returns the key of the upstream that serves this client, by the eras known without a probe: for lists
    /// and names, and for messages outside calls.
    fn key(&self, tenant: TenantId, spec: &ServerSpec, client: &Client) -> PoolKey {
        let era = self.era(spec, client.era);
        let shared = PoolKey::shared(tenant, spec, era);
        if era == Era::Modern || !client.can.anything() || matches!(spec.launch, Launch::Builtin { .. }) {
            return shared;
        }
        PoolKey { declared: client.declared, owner: client.owner, ..shared }
    }

    /// Returns the key for a list of many servers: upstreams for this client alone are not started for a
    /// list.
    pub fn list_key(&self, tenant: TenantId, spec: &ServerSpec, client: &Client) -> PoolKey {
        self.shared_unless_running(self.key(tenant, spec, client), client)
    }

    /// Returns the key under which a call starts a legacy server whose era was unknown.
    fn first_call_key(&self, tenant: TenantId, spec: &ServerSpec, client: &Client) -> PoolKey {
        let key = self.key(tenant, spec, client);
        self.own(key, client).unwrap_or(key)
    }

    /// Returns the first upstream that serves this client alone, if calls have such ones.
    fn own(&self, key: PoolKey, client: &Client) -> Option<PoolKey> {
        if key.owner == 0 {
            return None;
        }
        let own = match client.era {
            Era::Legacy => key,
            Era::Modern => exclusive_slots::lane(key, 0),
        };
        self.set_profile(&own, client);
        Some(own)
    }

    fn shared_unless_running(&self, own: PoolKey, client: &Client) -> PoolKey {
        if own.owner == 0 || self.pool.is_running(&own) {
            return own;
        }
        if client.era == Era::Modern
            && let Some(listed) = exclusive_slots::listed(own, &self.pool)
        {
            return listed;
        }
        PoolKey { owner: 0, ..own }
    }

    /// Probes the eras of a server if they are unknown. `legacy` returns the key of a server that proves to
    /// be legacy.
    async fn settle_eras(
        &self,
        spec: &Arc<ServerSpec>,
        legacy: impl FnOnce() -> PoolKey,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        match self.pool.known_eras(spec) {
            Some(_) => Ok(()),
            None => self.pool.eras(spec, legacy(), deadline).await.map(drop),
        }
    }

    fn era(&self, spec: &ServerSpec, wanted: Era) -> Era {
        match spec.launch {
            // Built-in servers speak the legacy era and send no requests.
            Launch::Builtin { .. } => Era::Legacy,
            // Most servers speak the legacy era.
            _ => self.pool.known_eras(spec).map_or(Era::Legacy, |eras| eras.nearest(wanted)),
        }
    }

    /// Sets the profile of a client for an upstream of its own, before that starts.
    pub(super) fn set_profile(&self, key: &PoolKey, client: &Client) {
        if key.owner == 0 || self.pool.has_profile(key) {
            return;
        }
        let Some(capabilities) = &client.capabilities else { return };
        self.pool.set_profile(
            key,
            Arc::new(ClientProfile {
                capabilities: capabilities.clone(),
                info: client.info.clone(),
                listener: client.home.clone(),
            }),
        );
    }
}
