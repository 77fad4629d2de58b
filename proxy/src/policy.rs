//! May this caller use this? Settings of server, tenant and agent are resolved here, in one place:
//! the most specific value wins, a block always wins, and every answer says which row decided.

use std::sync::Arc;
use std::time::Duration;

use globset::{GlobBuilder, GlobMatcher};
use protocol::{Code, ConfigId, Refusal};

use crate::server::ServerSpec;

/// A config row, read for deciding.
#[derive(Debug)]
pub struct ConfigSpec {
    pub id: ConfigId,
    /// For one agent of the tenant, or (false) for all of them.
    pub for_agent: bool,
    pub enabled: Option<bool>,
    pub allowed_tools: Option<Patterns>,
    pub blocked_tools: Option<Patterns>,
    pub timeout: Option<Duration>,
    pub updated_at: jiff::Timestamp,
}

/// Names and globs (`*`, `?`, `[a-z]`, `{a,b}`) over a server's own tool names.
#[derive(Debug, Default)]
pub struct Patterns(Vec<GlobMatcher>);

impl Patterns {
    /// Reads the patterns; the error names the one that is wrong.
    pub fn parse<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let read = |pattern: &'a str| {
            GlobBuilder::new(pattern)
                .backslash_escape(true)
                .build()
                .map(|glob| glob.compile_matcher())
                .map_err(|error| format!("`{pattern}` is not a tool name or glob: {}", error.kind()))
        };
        patterns.into_iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// The first pattern that matches.
    pub fn find(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|matcher| matcher.is_match(name)).map(|matcher| matcher.glob().glob())
    }
}

/// What applies to one caller at one server.
#[derive(Clone, Debug)]
pub struct Policy {
    pub spec: Arc<ServerSpec>,
    pub tenant: Option<Arc<ConfigSpec>>,
    pub agent: Option<Arc<ConfigSpec>>,
}

impl Policy {
    /// Agent's row first: the order in which a value is looked for.
    fn rows(&self) -> impl Iterator<Item = &ConfigSpec> {
        self.agent.as_deref().into_iter().chain(self.tenant.as_deref())
    }

    /// Whether the server may be used at all.
    pub fn server(&self) -> Result<(), Refusal> {
        if let Some(row) = self.rows().find(|row| row.enabled == Some(false)) {
            let whom = if row.for_agent { "this agent" } else { "this tenant" };
            return Err(self.refuse(
                row,
                format!("server `{}` is switched off for {whom}", self.spec.slug),
                "enabled",
            ));
        }
        if !self.spec.enabled {
            let reason = format!("server `{}` is switched off", self.spec.slug);
            return Err(Refusal::new(Code::ServerDisabled, reason)
                .rule(format!("server {} enabled", self.spec.id))
                .hint("a caller with servers:write can enable it: PATCH /v1/mcp/servers/{id}"));
        }
        Ok(())
    }

    /// Whether a tool, by the server's own name for it, may be seen and called.
    pub fn tool(&self, name: &str) -> Result<(), Refusal> {
        let blocked = self.rows().find_map(|row| Some((row, row.blocked_tools.as_ref()?.find(name)?)));
        if let Some((row, pattern)) = blocked {
            let reason = format!("tool `{name}` of server `{}` is blocked", self.spec.slug);
            return Err(self.refuse(row, reason, &format!("blockedTools `{pattern}`")));
        }
        let allowed = self.rows().find_map(|row| Some((row, row.allowed_tools.as_ref()?)));
        if let Some((row, _)) = allowed.filter(|(_, patterns)| patterns.find(name).is_none()) {
            let reason =
                format!("tool `{name}` of server `{}` is not among the allowed tools", self.spec.slug);
            return Err(self.refuse(row, reason, "allowedTools"));
        }
        Ok(())
    }

    /// Whether any row says which tools may be used.
    pub fn selects_tools(&self) -> bool {
        self.rows().any(|row| row.blocked_tools.is_some() || row.allowed_tools.is_some())
    }

    /// The time-out of a call.
    pub fn timeout(&self) -> Duration {
        self.rows().find_map(|row| row.timeout).unwrap_or(self.spec.timeout)
    }

    fn refuse(&self, row: &ConfigSpec, reason: String, field: &str) -> Refusal {
        Refusal::new(Code::DeniedByPolicy, reason)
            .rule(format!("config {} {field}", row.id))
            .since(row.updated_at)
            .hint("a caller with configs:write can change it: PATCH /v1/mcp/configs/{id}")
    }
}
