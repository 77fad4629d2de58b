//! Servers that one tenant's callers can reach: its own and the global ones, with the tenant's settings. A
//! view is immutable, built from the registry and replaced whole when the registry changes.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use protocol::{AgentId, ServerId, Slug, TenantId};

use crate::policy::{ConfigSpec, Policy};
use crate::server::{LaunchValues, ServerSpec};

/// Servers of one tenant, by slug.
#[derive(Debug)]
pub struct TenantView {
    pub tenant: TenantId,
    /// Servers ordered by slug.
    members: Vec<Member>,
    by_slug: HashMap<Slug, usize>,
}

/// A server with one tenant's settings.
#[derive(Debug)]
pub struct Member {
    pub spec: Arc<ServerSpec>,
    /// Global server of the same slug that this one hides.
    pub hides: Option<ServerId>,
    tenant_config: Option<Arc<ConfigSpec>>,
    agent_configs: HashMap<AgentId, Arc<ConfigSpec>>,
    /// The server with the values of the tenant's config.
    tenant_spec: Arc<ServerSpec>,
    /// The server with the values of those agents' configs that have some.
    agent_specs: HashMap<AgentId, Arc<ServerSpec>>,
}

impl TenantView {
    /// Builds a view. `servers` are the tenant's own and the global ones; an own server hides a global one
    /// of the same slug. `configs` are the tenant's rows, with the agent they are for.
    pub fn new(
        tenant: TenantId,
        servers: Vec<Arc<ServerSpec>>,
        configs: Vec<(ServerId, Option<AgentId>, Arc<ConfigSpec>)>,
    ) -> Self {
        let mut kept: HashMap<Slug, Member> = HashMap::new();
        for spec in servers {
            let slug = spec.slug.clone();
            match kept.remove(&slug) {
                None => kept.insert(slug, Member::new(spec, None)),
                Some(earlier) if spec.owner.is_some() => {
                    kept.insert(slug, Member::new(spec, Some(earlier.spec.id)))
                }
                Some(earlier) => kept.insert(slug, Member { hides: Some(spec.id), ..earlier }),
            };
        }
        let mut members: Vec<Member> = kept.into_values().collect();
        members.sort_by(|a, b| a.spec.slug.cmp(&b.spec.slug));
        let by_id: HashMap<ServerId, usize> =
            members.iter().enumerate().map(|(index, member)| (member.spec.id, index)).collect();
        for (server, agent, config) in configs {
            let Some(member) = by_id.get(&server).and_then(|index| members.get_mut(*index)) else { continue };
            match agent {
                Some(agent) => drop(member.agent_configs.insert(agent, config)),
                None => member.tenant_config = Some(config),
            }
        }
        members.iter_mut().for_each(Member::apply_values);
        let by_slug =
            members.iter().enumerate().map(|(index, member)| (member.spec.slug.clone(), index)).collect();
        Self { tenant, members, by_slug }
    }

    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Returns the servers that callers may see differently than in an earlier view.
    pub fn differs(&self, earlier: &TenantView) -> Vec<Slug> {
        let marks = |view: &TenantView| -> HashMap<Slug, u64> {
            view.members.iter().map(|member| (member.spec.slug.clone(), member.mark())).collect()
        };
        let (now, before) = (marks(self), marks(earlier));
        let other = now.iter().filter(|(slug, mark)| before.get(*slug) != Some(*mark));
        let gone = before.keys().filter(|slug| !now.contains_key(*slug));
        other.map(|(slug, _)| slug).chain(gone).cloned().collect()
    }

    pub fn find(&self, slug: &str) -> Option<&Member> {
        self.by_slug.get(slug).map(|index| &self.members[*index])
    }
}

impl Member {
    fn new(spec: Arc<ServerSpec>, hides: Option<ServerId>) -> Self {
        Self {
            tenant_spec: Arc::clone(&spec),
            spec,
            hides,
            tenant_config: None,
            agent_configs: HashMap::new(),
            agent_specs: HashMap::new(),
        }
    }

    /// Puts the values of the configs into the launches of the server.
    fn apply_values(&mut self) {
        let none = LaunchValues::default();
        let of_tenant = self.tenant_config.as_ref().map_or(&none, |config| &config.values);
        self.tenant_spec = self.spec.with(&[of_tenant]);
        let with_values = self.agent_configs.iter().filter(|(_, config)| !config.values.is_empty());
        self.agent_specs = with_values
            .map(|(agent, config)| (*agent, self.spec.with(&[&config.values, of_tenant])))
            .collect();
    }

    /// Returns the server as it is launched for this agent.
    pub fn spec_for(&self, agent: Option<AgentId>) -> &Arc<ServerSpec> {
        agent.and_then(|agent| self.agent_specs.get(&agent)).unwrap_or(&self.tenant_spec)
    }

    /// Returns the marks of all launches of the server.
    pub fn variants(&self) -> HashSet<u64> {
        let agents = self.agent_specs.values().map(|spec| spec.variant);
        agents.chain([self.spec.variant, self.tenant_spec.variant]).collect()
    }

    /// Returns a hash of everything that callers may see of the server.
    fn mark(&self) -> u64 {
        let mut mark = DefaultHasher::new();
        (self.spec.id, self.spec.revision, self.spec.enabled.value).hash(&mut mark);
        let configs = self.tenant_config.iter().chain(self.agent_configs.values());
        // A sum is independent of the order, which the map does not have.
        let sum = configs.map(|config| config.updated_at.as_microsecond()).fold(0i64, i64::wrapping_add);
        (sum, self.agent_configs.len(), self.tenant_config.is_some()).hash(&mut mark);
        mark.finish()
    }

    /// Returns the policy of this agent for the server.
    pub fn policy(&self, agent: Option<AgentId>) -> Policy {
        Policy {
            spec: Arc::clone(self.spec_for(agent)),
            tenant: self.tenant_config.clone(),
            agent: agent.and_then(|agent| self.agent_configs.get(&agent).cloned()),
        }
    }
}
