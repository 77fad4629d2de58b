//! Access policy: the settings of server, tenant and agent resolved in one place. The most specific value
//! wins, a block always wins, and every value and refusal names the row that decided.

use std::sync::Arc;
use std::time::Duration;

use globset::{GlobBuilder, GlobMatcher};
use protocol::{Code, ConfigId, Refusal};

use crate::effective::{Effective, Source};
use crate::server::ServerSpec;

/// A config row in parsed form.
#[derive(Debug)]
pub struct ConfigSpec {
    pub id: ConfigId,
    /// Scope of the row: one agent of the tenant, or (false) all of them.
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
    /// Parses the patterns; the error names the invalid one.
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

    /// Returns the first pattern that matches.
    pub fn find(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|matcher| matcher.is_match(name)).map(|matcher| matcher.glob().glob())
    }
}

impl ConfigSpec {
    fn sets<T>(&self, value: Option<T>) -> Option<Effective<T>> {
        let source = Source::Config { id: self.id, for_agent: self.for_agent, updated_at: self.updated_at };
        value.map(|value| Effective { value, source })
    }
}

/// Rows that apply to one caller at one server.
#[derive(Clone, Debug)]
pub struct Policy {
    pub spec: Arc<ServerSpec>,
    pub tenant: Option<Arc<ConfigSpec>>,
    pub agent: Option<Arc<ConfigSpec>>,
}

/// Resolved settings.
#[derive(Debug)]
pub struct Settings<'a> {
    pub enabled: Effective<bool>,
    pub blocked_tools: [Option<Effective<&'a Patterns>>; 2],
    pub allowed_tools: Option<Effective<&'a Patterns>>,
    pub timeout: Effective<Duration>,
}

impl Policy {
    /// Resolves the settings: the agent's config decides, else the tenant's, else the server's row with its
    /// defaults. A block, by a switch or a pattern, applies from any of them.
    pub fn settings(&self) -> Settings<'_> {
        let rows = [self.agent.as_deref(), self.tenant.as_deref()];
        let configs = || rows.into_iter().flatten();
        let off = configs().find_map(|row| row.sets(row.enabled.filter(|enabled| !enabled)));
        Settings {
            enabled: off.unwrap_or(self.spec.enabled),
            blocked_tools: rows.map(|row| row.and_then(|row| row.sets(row.blocked_tools.as_ref()))),
            allowed_tools: configs().find_map(|row| row.sets(row.allowed_tools.as_ref())),
            timeout: configs().find_map(|row| row.sets(row.timeout)).unwrap_or(self.spec.timeout),
        }
    }

    /// Checks whether the server may be used at all.
    ///
    /// # Errors
    /// The refusal that names the row which switches it off.
    pub fn server(&self) -> Result<(), Refusal> {
        let Effective { value, source } = self.settings().enabled;
        if value {
            return Ok(());
        }
        let slug = &self.spec.slug;
        match source {
            Source::Config { for_agent, .. } => {
                let scope = if for_agent { "this agent" } else { "this tenant" };
                Err(denied(source, format!("server `{slug}` is switched off for {scope}"), "enabled"))
            }
            Source::Server | Source::Default => {
                Err(Refusal::new(Code::ServerDisabled, format!("server `{slug}` is switched off"))
                    .rule(format!("server {} enabled", self.spec.id))
                    .hint("a caller with servers:write can enable it: PATCH /v1/mcp/servers/{id}"))
            }
        }
    }

    /// Checks whether a tool, by the server's own name for it, may be seen and called.
    ///
    /// # Errors
    /// The refusal that names the row, and the pattern if one blocks the tool.
    pub fn tool(&self, name: &str) -> Result<(), Refusal> {
        let Settings { blocked_tools, allowed_tools, .. } = self.settings();
        let refuse = |source, what: &str, field: &str| {
            Err(denied(source, format!("tool `{name}` of server `{}` is {what}", self.spec.slug), field))
        };
        for Effective { value, source } in blocked_tools.into_iter().flatten() {
            if let Some(pattern) = value.find(name) {
                return refuse(source, "blocked", &format!("blockedTools `{pattern}`"));
            }
        }
        match allowed_tools {
            Some(Effective { value, source }) if value.find(name).is_none() => {
                refuse(source, "not among the allowed tools", "allowedTools")
            }
            _ => Ok(()),
        }
    }

    /// Returns whether a tool is shown to the caller; one without a name if no row says which tools are.
    pub fn shows_tool(&self, name: Option<&str>) -> bool {
        name.map_or_else(|| !self.selects_tools(), |name| self.tool(name).is_ok())
    }

    /// Returns whether any row says which tools may be used.
    pub fn selects_tools(&self) -> bool {
        let Settings { blocked_tools, allowed_tools, .. } = self.settings();
        allowed_tools.is_some() || blocked_tools.iter().any(Option::is_some)
    }
}

fn denied(source: Source, reason: String, field: &str) -> Refusal {
    let refusal = Refusal::new(Code::DeniedByPolicy, reason)
        .hint("a caller with configs:write can change it: PATCH /v1/mcp/configs/{id}");
    match source {
        Source::Config { id, updated_at, .. } => {
            refusal.rule(format!("config {id} {field}")).since(updated_at)
        }
        Source::Server | Source::Default => refusal,
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
