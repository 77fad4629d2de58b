//! Bodies that make or change a config.

use std::collections::{BTreeMap, BTreeSet};

use entity::{ChildResources, ConfigPatch};
use proxy::policy::Patterns;

use crate::rest::argument_rules;
use crate::rest::input::form::Form;
use crate::rest::input::secret_forms::SecretNames;
use crate::rest::input::{Fields, form};
use crate::rest::servers::forms::secrets;

/// The body of a new config, before its names are looked up.
pub struct ConfigRequest {
    pub server: String,
    pub agent: Option<String>,
    pub patch: ConfigPatch,
}

pub fn new_config(f: &mut Fields) -> Option<ConfigRequest> {
    let server = f.required("serverId", form::text(1, 64), "The server's id or slug.");
    let about = "The id or slug of the agent it is for; for all of the tenant when not given.";
    let agent = f.optional("agentId", form::text(1, 64), about);
    let patch = settings(f);
    Some(ConfigRequest { server: server?, agent, patch })
}

pub fn config_patch(f: &mut Fields) -> Option<ConfigPatch> {
    f.patching();
    f.fixed(&["serverId", "agentId"], "cannot be changed: delete the config and make another");
    f.fixed(&["id", "revision", "createdAt", "updatedAt"], "cannot be set");
    Some(settings(f))
}

/// Reads the settings that both bodies have; null inherits.
fn settings(f: &mut Fields) -> ConfigPatch {
    let allowed = "The server's own tool names, or globs (`*`, `?`, `[a-z]`, `{a,b}`); others are refused.";
    let blocked = "Likewise; these are refused, whatever else allows them.";
    let resources = "URIs of the server's own resources, or globs; others are neither listed nor read. A template is \
                     listed if its text matches, and what it makes is read if its URI does.";
    let prompts = "Names of the server's own prompts, or globs; others are refused.";
    let concurrency = "How many calls may run at the same time, on each replica. One more is refused.";
    let per_minute = "How many calls may come within a minute, on all replicas together; 0 for no limit.";
    let bytes = "The longest result, bytes; a longer one is an error.";
    let retries = "How often a request that only reads is tried again when the server ends during it.";
    let rename = "New names of the server's own tools, by their own names: callers list and call them by these. A tool of the                   server that has such a name itself is hidden. Patterns of other settings mean the own names.";
    let describe = "Descriptions of the server's own tools, by their own names, in place of the server's.";
    let env = "Variables of the server's program, beside and before those of the server. The values are sealed and never \
               shown again. A caller without `servers:launch` can set those that the server's own `env` has.";
    let headers =
        "Headers of requests to a remote server, beside and before those of the server; sealed likewise.";
    let rules = "Conditions on arguments of the server's own tools. A call that breaks one is refused. Rules of the \
                 tenant's and of the agent's config hold together.";
    let limits = "Limits of the server's process, on Linux (setrlimit): `memoryMb` of address space, `openFiles`, `cpuSeconds`.";
    ConfigPatch {
        enabled: f.clearing("enabled", form::flag(), "False switches the server off."),
        allowed_tools: f.clearing("allowedTools", patterns(), allowed),
        blocked_tools: f.clearing("blockedTools", patterns(), blocked),
        allowed_resources: f.clearing("allowedResources", addresses(), resources),
        allowed_prompts: f.clearing("allowedPrompts", patterns(), prompts),
        rename: f.clearing("rename", new_names(), rename),
        describe: f.clearing("describe", form::by_name(500, 128, form::text(1, 4096)), describe),
        env: secrets(f, "env", SecretNames::Variables, env),
        headers: secrets(f, "headers", SecretNames::Headers, headers),
        timeout_ms: f.clearing("timeoutMs", form::millis(1), "How long a call may take."),
        max_concurrency: f.clearing("maxConcurrency", form::whole(1, 10_000), concurrency),
        calls_per_minute: f.clearing("callsPerMinute", form::whole(0, 1_000_000), per_minute),
        max_result_bytes: f.clearing("maxResultBytes", form::whole(1, 1 << 30), bytes),
        retries: f.clearing("retries", form::whole(0, 5), retries),
        rules: f.clearing("rules", argument_rules::rules(), rules),
        resources: f.clearing("resources", child_resources(), limits),
        headers_for: None,
    }
}

/// Reads new names of tools, no two alike.
fn new_names() -> Form<BTreeMap<String, String>> {
    let name = form::text(1, 64).with("pattern", "^[A-Za-z0-9_-]+$").then(|name| {
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if plain { Ok(name) } else { Err("is 1 to 64 of A-Z, a-z, 0-9, _ and -".to_owned()) }
    });
    form::by_name(500, 128, name).then(|names| {
        let mut seen = BTreeSet::new();
        match names.values().find(|name| !seen.insert(name.as_str())) {
            Some(twice) => Err(format!("gives two tools the name `{twice}`")),
            None => Ok(names),
        }
    })
}

fn child_resources() -> Form<ChildResources> {
    let limits = form::by_name(3, 16, form::whole::<u64>(1, 1 << 40));
    Form::named("ChildResources", move |value| {
        let mut resources = ChildResources::default();
        for (name, limit) in limits.read(value)? {
            let place = match name.as_str() {
                "memoryMb" => &mut resources.memory_mb,
                "openFiles" => &mut resources.open_files,
                "cpuSeconds" => &mut resources.cpu_seconds,
                _ => return Err("has `memoryMb`, `openFiles` and `cpuSeconds` only".to_owned()),
            };
            *place = Some(limit);
        }
        Ok(resources)
    })
}

fn addresses() -> Form<Vec<String>> {
    globs(1024)
}

fn patterns() -> Form<Vec<String>> {
    globs(256)
}

fn globs(longest: usize) -> Form<Vec<String>> {
    form::list(1000, form::text(1, longest)).then(|patterns| {
        match Patterns::parse(patterns.iter().map(String::as_str)) {
            Ok(_) => Ok(patterns),
            Err(problem) => Err(format!("has a pattern that cannot be read: {problem}")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::problem::Problem;

    fn read_patch(body: &str) -> Result<ConfigPatch, Problem> {
        Fields::read(body.as_bytes(), config_patch)
    }

    #[test]
    fn a_pattern_that_cannot_be_read_is_named() {
        let said = read_patch(r#"{"blockedTools":["e*","[a"]}"#).unwrap_err();
        assert!(said.refusal().reason.contains("`[a`"), "{said:?}");
        let patch = read_patch(r#"{"blockedTools":["e*"],"allowedTools":null}"#).unwrap();
        assert_eq!(patch.blocked_tools, Some(Some(vec!["e*".to_owned()])));
        assert_eq!((patch.allowed_tools, patch.enabled), (Some(None), None));
    }
}
