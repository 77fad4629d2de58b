//! Access policy: the settings of server, tenant and agent resolved in one place. The most specific value
//! wins, a block always wins, and every value and refusal names the row that decided.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use globset::{GlobBuilder, GlobMatcher};
use protocol::{Code, ConfigId, Members, Refusal};

use crate::argument_rules::{self, ArgumentRules};
use crate::catalog::ListKind;
use crate::catalog::definition::LeftOut;
use crate::effective::{Effective, Source};
use crate::renames::Renames;
use crate::server::{LaunchValues, ServerSpec};

/// A config row in parsed form.
#[derive(Debug)]
pub struct ConfigSpec {
    pub id: ConfigId,
    /// Scope of the row: one agent of the tenant, or (false) all of them.
    pub for_agent: bool,
    pub enabled: Option<bool>,
    pub allowed_tools: Option<Patterns>,
    pub blocked_tools: Option<Patterns>,
    pub allowed_resources: Option<Patterns>,
    pub allowed_prompts: Option<Patterns>,
    pub timeout: Option<Duration>,
    /// Calls at the same time, in this process.
    pub max_concurrency: Option<u32>,
    /// 0 for no limit.
    pub calls_per_minute: Option<u32>,
    pub max_result_bytes: Option<u64>,
    pub retries: Option<u8>,
    /// New names of tools.
    pub renames: Option<Renames>,
    /// New descriptions of tools, by the server's own names.
    pub descriptions: Option<BTreeMap<String, String>>,
    /// Conditions on arguments of tools.
    pub rules: ArgumentRules,
    /// Values beside those of the server's launch.
    pub values: LaunchValues,
    pub updated_at: jiff::Timestamp,
}

/// Names and globs (`*`, `?`, `[a-z]`, `{a,b}`) over a server's own names of tools or prompts, or over URIs.
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
                .map_err(|error| format!("`{pattern}` is neither a name nor a glob: {}", error.kind()))
        };
        patterns.into_iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Returns the patterns as they were written.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|matcher| matcher.glob().glob())
    }

    /// Returns the first pattern that matches.
    pub fn find(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|matcher| matcher.is_match(name)).map(|matcher| matcher.glob().glob())
    }
}

impl ConfigSpec {
    /// Returns the row as the source of a value.
    pub fn source(&self) -> Source {
        Source::Config { id: self.id, for_agent: self.for_agent, updated_at: self.updated_at }
    }

    fn sets<T>(&self, value: Option<T>) -> Option<Effective<T>> {
        value.map(|value| Effective { value, source: self.source() })
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
    pub allowed_resources: Option<Effective<&'a Patterns>>,
    pub allowed_prompts: Option<Effective<&'a Patterns>>,
    pub timeout: Effective<Duration>,
    pub retries: Effective<u8>,
    pub max_result_bytes: Option<Effective<u64>>,
    pub renames: Option<Effective<&'a Renames>>,
    pub descriptions: Option<Effective<&'a BTreeMap<String, String>>>,
}

impl Policy {
    /// Resolves the settings: the agent's config decides, else the tenant's, else the server's row with its
    /// defaults. A block, by a switch or a pattern, applies from any of them.
    pub fn settings(&self) -> Settings<'_> {
        Settings {
            enabled: self.enabled(),
            blocked_tools: self.blocked_tools(),
            allowed_tools: self.first(|row| row.allowed_tools.as_ref()),
            allowed_resources: self.first(|row| row.allowed_resources.as_ref()),
            allowed_prompts: self.first(|row| row.allowed_prompts.as_ref()),
            timeout: self.timeout(),
            retries: self.retries(),
            max_result_bytes: self.first(|row| row.max_result_bytes),
            renames: self.first(|row| row.renames.as_ref()),
            descriptions: self.first(|row| row.descriptions.as_ref()),
        }
    }

    fn enabled(&self) -> Effective<bool> {
        let off = self.first(|row| row.enabled.filter(|enabled| !enabled));
        off.unwrap_or(self.spec.enabled)
    }

    /// Returns the time limit of a call.
    pub fn timeout(&self) -> Effective<Duration> {
        self.first(|row| row.timeout).unwrap_or(self.spec.timeout)
    }

    /// Returns the number of further attempts of a request that only reads.
    pub fn retries(&self) -> Effective<u8> {
        self.first(|row| row.retries).unwrap_or(self.spec.retries)
    }

    /// Returns the configs that apply, the agent's before the tenant's. Limits hold from both, so that an agent's
    /// does not lift its tenant's.
    pub fn configs(&self) -> impl Iterator<Item = &ConfigSpec> {
        [&self.agent, &self.tenant].into_iter().flatten().map(|row| &**row)
    }

    /// Returns the value of the first config that sets it.
    fn first<'p, T>(&'p self, field: impl Fn(&'p ConfigSpec) -> Option<T>) -> Option<Effective<T>> {
        self.configs().find_map(|row| row.sets(field(row)))
    }

    fn blocked_tools(&self) -> [Option<Effective<&Patterns>>; 2] {
        [&self.agent, &self.tenant]
            .map(|row| row.as_ref().and_then(|row| row.sets(row.blocked_tools.as_ref())))
    }

    /// Checks whether the server may be used at all.
    ///
    /// # Errors
    /// The refusal that names the row which switches it off.
    pub fn server(&self) -> Result<(), Refusal> {
        let Effective { value, source } = self.enabled();
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
        let refuse = |source, what: &str, field: &str| {
            Err(denied(source, format!("tool `{name}` of server `{}` is {what}", self.spec.slug), field))
        };
        for Effective { value, source } in self.blocked_tools().into_iter().flatten() {
            if let Some(pattern) = value.find(name) {
                return refuse(source, "blocked", &format!("blockedTools `{pattern}`"));
            }
        }
        match self.first(|row| row.allowed_tools.as_ref()) {
            Some(Effective { value, source }) if value.find(name).is_none() => {
                refuse(source, "not among the allowed tools", "allowedTools")
            }
            _ => Ok(()),
        }
    }

    /// Checks the arguments of a tool call, by the server's own name of the tool. The rules of all rows hold.
    ///
    /// # Errors
    /// The refusal that names the row, the rule, the argument and what is accepted.
    pub fn arguments(&self, tool: &str, arguments: &[u8]) -> Result<(), Refusal> {
        // Most tools have no rule, and their arguments are not parsed.
        if !self.configs().any(|row| row.rules.concern(tool)) {
            return Ok(());
        }
        let parsed = argument_rules::parse(arguments);
        for row in self.configs() {
            row.rules.check(tool, parsed.as_ref()).map_err(|broken| {
                let slug = &self.spec.slug;
                let reason = format!("tool `{tool}` of server `{slug}` is not called: {}", broken.reason);
                denied(row.source(), reason, &format!("rules[{}]", broken.index)).hint(broken.hint)
            })?;
        }
        Ok(())
    }

    /// Checks whether an item of a list may be seen and used, by the server's own name, URI or URI template. A
    /// resource of a template is checked by its own URI when it is read.
    ///
    /// # Errors
    /// Those of [`Policy::tool`].
    pub fn item(&self, kind: ListKind, name: &str) -> Result<(), Refusal> {
        let (allowed, what, field) = match kind {
            ListKind::Tools => return self.tool(name),
            ListKind::Resources | ListKind::ResourceTemplates => {
                (self.first(|row| row.allowed_resources.as_ref()), "resource", "allowedResources")
            }
            ListKind::Prompts => (self.first(|row| row.allowed_prompts.as_ref()), "prompt", "allowedPrompts"),
        };
        match allowed {
            // What a server makes of `..` cannot be known from the pattern.
            Some(Effective { value, source }) if value.find(name).is_none() || climbs(name) => {
                let slug = &self.spec.slug;
                Err(denied(
                    source,
                    format!("{what} `{name}` of server `{slug}` is not among the allowed ones"),
                    field,
                ))
            }
            _ => Ok(()),
        }
    }

    /// Checks the size of a result.
    ///
    /// # Errors
    /// [`Code::ResultTooLarge`], with both sizes.
    pub fn result(&self, bytes: usize) -> Result<(), Refusal> {
        match self.first(|row| row.max_result_bytes) {
            Some(Effective { value, source }) if bytes as u64 > value => {
                let slug = &self.spec.slug;
                let reason = format!("the result of `{slug}` has {bytes} bytes, and {value} are allowed");
                let refusal =
                    Refusal { code: Code::ResultTooLarge, ..denied(source, reason, "maxResultBytes") };
                Err(refusal
                    .fact("bytes", bytes)
                    .fact("limit", value)
                    .hint("the call was carried out; ask for less at once, or for a higher `maxResultBytes`"))
            }
            _ => Ok(()),
        }
    }

    /// Returns whether an item of a list is shown to the caller; one without a name if no row selects items.
    pub fn shows(&self, kind: ListKind, name: Option<&str>) -> bool {
        let Some(name) = name else { return !self.selects(kind) };
        self.item(kind, name).is_ok() && (kind != ListKind::Tools || self.shown_tool(name).is_some())
    }

    /// Returns the new names of tools that hold for the caller.
    pub fn renames(&self) -> Option<&Renames> {
        self.configs().find_map(|row| row.renames.as_ref())
    }

    /// Returns the name that the caller uses for a tool; `None` for a tool whose name another one has.
    pub fn shown_tool<'n>(&'n self, own: &'n str) -> Option<&'n str> {
        self.renames().map_or(Some(own), |renames| renames.shown(own))
    }

    /// Returns whether tools have other names or descriptions for the caller than by the server.
    pub fn edits_tools(&self) -> bool {
        self.configs().any(|row| row.renames.is_some() || row.descriptions.is_some())
    }

    /// Returns the definition of a tool under the name and with the description that the caller sees. `name` makes a
    /// name in the list of the new one.
    ///
    /// # Errors
    /// The definition is no object, or has a member twice: it cannot be shown, since the caller knows the tool under
    /// another name.
    pub fn edited_tool<'d>(
        &self,
        own: &str,
        definition: &'d str,
        name: impl FnOnce(&str) -> String,
    ) -> Result<Cow<'d, str>, LeftOut> {
        let new = self.shown_tool(own).filter(|new| *new != own);
        let description =
            self.configs().find_map(|row| row.descriptions.as_ref()).and_then(|all| all.get(own));
        if new.is_none() && description.is_none() {
            return Ok(Cow::Borrowed(definition));
        }
        let mut members = Members::read(definition).map_err(|error| LeftOut {
            name: Some(new.unwrap_or(own).to_owned()),
            reason: format!("its definition cannot be given another name or description: {error}"),
        })?;
        if let Some(new) = new {
            members.set_text("name", &name(new));
        }
        if let Some(description) = description {
            members.set_text("description", description);
        }
        Ok(Cow::Owned(members.write()))
    }

    /// Returns whether any row says which items of this kind may be used.
    pub fn selects(&self, kind: ListKind) -> bool {
        self.configs().any(|row| match kind {
            ListKind::Tools => {
                row.allowed_tools.is_some() || row.blocked_tools.is_some() || row.renames.is_some()
            }
            ListKind::Resources | ListKind::ResourceTemplates => row.allowed_resources.is_some(),
            ListKind::Prompts => row.allowed_prompts.is_some(),
        })
    }
}

/// Returns whether a URI has a segment `..`, plain or percent-encoded.
fn climbs(uri: &str) -> bool {
    let plain = uri.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/");
    plain.split(['/', '\\', '?', '#']).any(|segment| segment == "..")
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
