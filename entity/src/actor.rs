//! Actors of changes. Every mutation takes an actor and writes the actor into the audit event.

use std::net::IpAddr;

use protocol::{AgentId, Caller, CallerKind, CredentialId, RequestId, TenantId};

/// The author of a change, and the request that brought the change.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The actor's own tenant; an operator's differs from the tenant whose row it changes.
    pub tenant: TenantId,
    pub agent: Option<AgentId>,
    pub credential: Option<CredentialId>,
    /// The kind of caller; `None` for the gateway itself: start-up, the command line, an agent's first use.
    pub kind: Option<CallerKind>,
    pub request: RequestId,
    pub ip: Option<IpAddr>,
}

impl Actor {
    /// Returns the actor of a caller's request.
    pub fn caller(caller: &Caller, request: RequestId, ip: Option<IpAddr>) -> Self {
        Self {
            tenant: caller.tenant,
            agent: caller.agent,
            credential: caller.credential,
            kind: Some(caller.kind),
            request,
            ip,
        }
    }

    /// Returns the gateway as an actor on behalf of a tenant.
    pub fn gateway(tenant: TenantId) -> Self {
        Self { tenant, agent: None, credential: None, kind: None, request: RequestId::new(), ip: None }
    }

    pub(crate) fn kind_text(&self) -> &'static str {
        self.kind.map_or("gateway", CallerKind::as_str)
    }
}
