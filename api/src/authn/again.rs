//! Revalidation of credentials behind open streams. It knows no stream.

use jiff::Timestamp;
use protocol::{AgentId, Refusal, Scope, TenantId};

use crate::authn::{Authn, Identified, Proof, presented};

/// For whom something stays open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    pub tenant: TenantId,
    pub agent: Option<AgentId>,
}

impl Authn {
    /// Looks again whether what is open for `owner` may stay so, and until when. Makes no agent: one that
    /// was deleted stays deleted.
    pub async fn look_again(
        &self,
        proof: &Proof<'_>,
        owner: Owner,
        needed: Scope,
    ) -> Result<Option<Timestamp>, Refusal> {
        let _turn = self.looks.acquire().await;
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
