//! Authenticated callers and their scopes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{AgentId, CredentialId, TenantId};
use crate::refusal::{Code, Refusal};

/// The authenticated sender of a message, made by authentication only.
#[derive(Clone, Debug)]
pub struct Caller {
    pub tenant: TenantId,
    pub tenant_slug: String,
    /// Agent that the caller acts as; a key without an agent has none.
    pub agent: Option<AgentId>,
    pub agent_slug: Option<String>,
    /// Binding of the credential itself to this agent.
    pub own_agent: bool,
    pub credential: Option<CredentialId>,
    pub kind: CallerKind,
    pub scopes: Scopes,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallerKind {
    ApiKey,
    Jwt,
    Loopback,
}

impl CallerKind {
    pub fn as_str(self) -> &'static str {
        match self {
            CallerKind::ApiKey => "api_key",
            CallerKind::Jwt => "jwt",
            CallerKind::Loopback => "loopback",
        }
    }
}

impl Caller {
    /// Returns the owner of a session, a task or a cursor: the agent, or the key of a caller without one of
    /// its own. All credentials of one caller give the same owner.
    pub fn principal(&self) -> String {
        let agent = self.agent.map(|agent| agent.to_string()).unwrap_or_default();
        let key = self.credential.filter(|_| !self.own_agent).map(|key| key.to_string()).unwrap_or_default();
        format!("{agent}/{key}")
    }

    /// Returns the id that the caller's limit counts: the agent that its credential is for, else its key,
    /// since a name that the caller may choose (`X-Agent-Id`) must not evade the limit. On a trusted
    /// connection the id is of the agent, else of the tenant.
    pub fn limit_key(&self) -> uuid::Uuid {
        match (self.credential.filter(|_| !self.own_agent), self.agent) {
            (Some(key), _) => key.0,
            (None, Some(agent)) => agent.0,
            (None, None) => self.tenant.0,
        }
    }

    /// Refuses unless the caller holds the scope, and names the missing one.
    pub fn require(&self, scope: Scope) -> Result<(), Refusal> {
        if self.scopes.contains(scope) {
            return Ok(());
        }
        Err(Refusal::new(
            Code::MissingScope,
            format!("this needs the scope {scope}, which the caller does not hold"),
        )
        .rule(format!("scope {scope}"))
        .hint("use a key whose role or scopes include it; `POST /v1/keys` makes one"))
    }
}

/// One permission of a credential.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u16)]
pub enum Scope {
    ToolsCall = 1,
    ServersRead = 1 << 1,
    ServersWrite = 1 << 2,
    /// Permission to define the programs that stdio servers execute, and so to run programs.
    ServersLaunch = 1 << 3,
    ConfigsWrite = 1 << 4,
    ExecutionsRead = 1 << 5,
    TasksRead = 1 << 6,
    TasksWrite = 1 << 7,
    MarketplacePublish = 1 << 8,
    /// The operator's scope: tenants, keys of any tenant, global servers.
    TenantsAdmin = 1 << 9,
}

impl Scope {
    pub const ALL: [Scope; 10] = [
        Scope::ToolsCall,
        Scope::ServersRead,
        Scope::ServersWrite,
        Scope::ServersLaunch,
        Scope::ConfigsWrite,
        Scope::ExecutionsRead,
        Scope::TasksRead,
        Scope::TasksWrite,
        Scope::MarketplacePublish,
        Scope::TenantsAdmin,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Scope::ToolsCall => "tools:call",
            Scope::ServersRead => "servers:read",
            Scope::ServersWrite => "servers:write",
            Scope::ServersLaunch => "servers:launch",
            Scope::ConfigsWrite => "configs:write",
            Scope::ExecutionsRead => "executions:read",
            Scope::TasksRead => "tasks:read",
            Scope::TasksWrite => "tasks:write",
            Scope::MarketplacePublish => "marketplace:publish",
            Scope::TenantsAdmin => "tenants:admin",
        }
    }

    pub fn parse(text: &str) -> Option<Scope> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of scopes.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u16);

impl Scopes {
    pub fn contains(self, scope: Scope) -> bool {
        self.0 & scope as u16 != 0
    }

    /// Returns the scopes in `self` and not in `other`, which a caller may not grant.
    pub fn beyond(self, other: Scopes) -> Scopes {
        Scopes(self.0 & !other.0)
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }

    /// Returns the names with a space between, as stored and as in a JWT.
    pub fn to_text(self) -> String {
        self.iter().map(Scope::as_str).collect::<Vec<_>>().join(" ")
    }

    /// Reads names with spaces between; the first unknown one is the error.
    pub fn parse(text: &str) -> Result<Scopes, String> {
        text.split_ascii_whitespace().map(|name| Scope::parse(name).ok_or_else(|| name.to_owned())).collect()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Scopes(scopes.into_iter().fold(0, |set, scope| set | scope as u16))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Scope::as_str)).finish()
    }
}

/// A preset of scopes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Operator,
    TenantAdmin,
    Agent,
}

impl Role {
    pub fn parse(text: &str) -> Option<Role> {
        match text {
            "operator" => Some(Role::Operator),
            "tenant-admin" => Some(Role::TenantAdmin),
            "agent" => Some(Role::Agent),
            _ => None,
        }
    }

    pub fn scopes(self) -> Scopes {
        match self {
            Role::Operator => Scope::ALL.into_iter().collect(),
            Role::TenantAdmin => Scope::ALL
                .into_iter()
                .filter(|scope| !matches!(scope, Scope::ServersLaunch | Scope::TenantsAdmin))
                .collect(),
            Role::Agent => [Scope::ToolsCall, Scope::ServersRead, Scope::TasksRead, Scope::TasksWrite]
                .into_iter()
                .collect(),
        }
    }
}
