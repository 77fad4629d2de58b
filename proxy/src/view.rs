//! Servers that one tenant's callers can reach: its own and the global ones, with the tenant's settings. A
//! view is immutable, built from the registry and replaced whole when the registry changes.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use protocol::{AgentId, ServerId, Slug, TenantId};

use crate::policy::{ConfigSpec, Policy};
use crate::server::ServerSpec;

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
            let member =
                |spec, hides| Member { spec, hides, tenant_config: None, agent_configs: HashMap::new() };
            match kept.remove(&slug) {
                None => kept.insert(slug, member(spec, None)),
                Some(earlier) if spec.owner.is_some() => {
                    kept.insert(slug, member(spec, Some(earlier.spec.id)))
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
            spec: Arc::clone(&self.spec),
            tenant: self.tenant_config.clone(),
            agent: agent.and_then(|agent| self.agent_configs.get(&agent).cloned()),
        }
    }
}
