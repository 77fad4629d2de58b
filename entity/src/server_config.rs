//! Configs: settings of one server for a tenant or for one of its agents.

use jiff::Timestamp;
use protocol::{AgentId, ConfigId, ServerId, TenantId};

/// Settings of one server for a tenant (`agent` is `None`) or one of its agents. `None` inherits.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    pub id: ConfigId,
    pub tenant: TenantId,
    pub server: ServerId,
    pub agent: Option<AgentId>,
    pub enabled: Option<bool>,
    pub allowed_tools: Option<Vec<String>>,
    pub blocked_tools: Option<Vec<String>>,
    pub timeout_ms: Option<i64>,
    /// Number from 1, raised by each change.
    pub revision: i32,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Clone, Debug)]
pub struct NewConfig {
    pub server: ServerId,
    pub agent: Option<AgentId>,
    pub enabled: Option<bool>,
    pub allowed_tools: Option<Vec<String>>,
    pub blocked_tools: Option<Vec<String>>,
    pub timeout_ms: Option<i64>,
}

impl NewConfig {
    /// Returns a config that inherits everything.
    pub fn new(server: ServerId, agent: Option<AgentId>) -> Self {
        Self { server, agent, enabled: None, allowed_tools: None, blocked_tools: None, timeout_ms: None }
    }
}

/// A change of a config: `None` keeps a value, `Some(None)` inherits again.
#[derive(Clone, Debug, Default)]
pub struct ConfigPatch {
    pub enabled: Option<Option<bool>>,
    pub allowed_tools: Option<Option<Vec<String>>>,
    pub blocked_tools: Option<Option<Vec<String>>>,
    pub timeout_ms: Option<Option<i64>>,
}

/// Filter of a list of configs.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConfigFilter {
    pub server: Option<ServerId>,
    pub agent: Option<AgentId>,
}
