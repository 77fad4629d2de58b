//! The agent that acts: of the caller, or named in the arguments by a caller without one of its own.

use entity::collab::Member;
use protocol::provider::RequestContext;
use protocol::{Caller, Code, Refusal, Scope, TenantId};

/// An agent in its tenant, with the scopes of its caller.
#[derive(Clone, Debug)]
pub struct Agent {
    pub tenant: TenantId,
    pub member: Member,
    caller: Caller,
}

impl Agent {
    /// Returns the agent of a call, under the name that its arguments may give as `agent_id`.
    ///
    /// # Errors
    /// [`Code::AgentMismatch`] for a name that the caller may not use.
    pub(super) fn of(context: &RequestContext<'_>, named: Option<String>) -> Result<Self, Refusal> {
        let agent = Self::of_caller(context)?;
        match named {
            Some(name) => agent.named(name),
            None => Ok(agent),
        }
    }

    pub(super) fn of_caller(context: &RequestContext<'_>) -> Result<Self, Refusal> {
        let caller =
            context.caller.ok_or_else(|| Refusal::new(Code::Unauthenticated, "no caller is known"))?;
        Ok(Self::of_known(caller))
    }

    pub fn of_known(caller: &Caller) -> Self {
        let key = || caller.credential.map(|key| format!("key:{key}"));
        let agent = caller.agent_slug.clone().or_else(key).unwrap_or_else(|| "local".to_owned());
        // A tenant's administrator may change its configs, and no mere agent may.
        let sees_all = caller.scopes.contains(Scope::ConfigsWrite);
        Self { tenant: caller.tenant, member: Member { agent, sees_all }, caller: caller.clone() }
    }

    /// Returns the agent under another name, which a caller without an agent of its own may give.
    pub fn named(mut self, name: String) -> Result<Self, Refusal> {
        if name == self.member.agent {
            return Ok(self);
        }
        if self.caller.own_agent {
            return Err(Refusal::new(
                Code::AgentMismatch,
                format!("`agent_id` is `{name}`, and the caller is `{}`", self.member.agent),
            )
            .hint("leave `agent_id` out: the credential says who calls"));
        }
        check_agent(&name)?;
        self.member.agent = name;
        Ok(self)
    }

    pub fn require(&self, scope: Scope) -> Result<(), Refusal> {
        self.caller.require(scope)
    }
}

/// Checks the name of an agent.
pub fn check_agent(name: &str) -> Result<(), Refusal> {
    if entity::is_agent_slug(name) {
        return Ok(());
    }
    let shown: String = name.chars().take(80).collect();
    let reason = format!("the agent {shown:?} is not 1 to 64 letters, digits and `_.:@-`");
    Err(Refusal::new(Code::ValidationFailed, reason))
}
