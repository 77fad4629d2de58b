//! Repeated authentication of open streams. Knows no stream.

use jiff::Timestamp;
use protocol::{AgentId, Refusal, Scope, TenantId};

use crate::authn::{Authn, Identified, Proof, presented};

/// Tenant and agent of an open stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    pub tenant: TenantId,
    pub agent: Option<AgentId>,
}

impl Authn {
    /// Checks again the credential of a stream that `owner` holds open; returns its expiry. Creates no agent:
    /// a deleted one stays deleted.
    pub async fn check_again(
        &self,
        proof: &Proof<'_>,
        owner: Owner,
        needed: Scope,
    ) -> Result<Option<Timestamp>, Refusal> {
        let _turn = self.checks.acquire().await;
        let presented = presented::read(proof.headers)?;
        if let Some(agent) = owner.agent {
            self.agent(owner.tenant, &agent.to_string()).await?;
        }
        let Identified { caller, expires_at } = self.by_credential(proof, &presented).await?;
        let caller = match presented.tenant {
            Some(tenant) => self.for_tenant(caller, tenant).await?,
            None => caller,
        };
        caller.require(needed)?;
        Ok(expires_at)
    }
}
