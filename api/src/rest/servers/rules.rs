//! Permissions to register and change servers. Registering a stdio server is running a program: it needs
//! `servers:launch`, and the operator may narrow which programs.

use entity::{ConfigPatch, NewServer, SecretsPatch, Server, ServerPatch, Transport};
use protocol::{Code, Refusal, Scope};

use crate::config::{Config, decides_code, decides_program};
use crate::http::problem::{FieldError, Problem};
use crate::rest::acting::Acting;
use crate::rest::servers::forms::Registration;

/// Refuses with 403 that names the scope or the commands that are allowed.
pub fn may_register(
    acting: &Acting,
    config: &Config,
    providers: &[&'static str],
    registration: &Registration,
) -> Result<(), Problem> {
    if registration.global {
        acting.require(Scope::TenantsAdmin)?;
    }
    let NewServer { transport, settings, .. } = &registration.server;
    let command = settings.command.as_deref().unwrap_or(registration.server.slug.as_str());
    if *transport == Transport::Builtin && !providers.contains(&command) {
        let detail = format!("names no built-in server; there are {}", providers.join(", "));
        return Err(Problem::invalid(vec![FieldError::new("command", detail)]));
    }
    if *transport == Transport::Stdio {
        acting.require(Scope::ServersLaunch)?;
        command_allowed(config, settings.command.as_deref())?;
        variables_allowed(config, settings.env.names())?;
    }
    Ok(())
}

/// Refuses with 403 that names the scope, the commands that are allowed, or the owner.
pub fn may_change(
    acting: &Acting,
    config: &Config,
    server: &Server,
    patch: &ServerPatch,
) -> Result<(), Problem> {
    owns(acting, server)?;
    let ServerPatch { command, args, env, cwd, .. } = patch;
    let launches = command.is_some() || args.is_some() || env.is_some() || cwd.is_some();
    if server.transport == Transport::Stdio && launches {
        acting.require(Scope::ServersLaunch)?;
        let command = command.as_ref().unwrap_or(&server.settings.command);
        command_allowed(config, command.as_deref())?;
        variables_allowed(config, sets(env.as_ref()))?;
    }
    Ok(())
}

/// Refuses with 403 variables of a config that decide what a stdio server executes, which needs `servers:launch`.
pub fn may_set(
    acting: &Acting,
    config: &Config,
    server: &Server,
    patch: &ConfigPatch,
) -> Result<(), Problem> {
    if server.transport != Transport::Stdio {
        return Ok(());
    }
    variables_allowed(config, sets(patch.env.as_ref()))?;
    let is_declared = |name: &str| server.settings.env.names().any(|declared| declared == name);
    let foreign = sets(patch.env.as_ref()).find(|name| !is_declared(name) || decides_code(name));
    match foreign {
        Some(_) => Ok(acting.require(Scope::ServersLaunch)?),
        None => Ok(()),
    }
}

/// Returns the names that a change of secrets gives values.
pub fn sets(patch: Option<&SecretsPatch>) -> impl Iterator<Item = &str> {
    let names: Vec<&str> = match patch {
        Some(SecretsPatch::Replace(values)) => values.keys().map(String::as_str).collect(),
        Some(SecretsPatch::Merge(changes)) => {
            changes.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name.as_str()).collect()
        }
        None => Vec::new(),
    };
    names.into_iter()
}

/// Refuses with 403 a tenant's change of a global server.
pub fn owns(acting: &Acting, server: &Server) -> Result<(), Problem> {
    acting.require(Scope::ServersWrite)?;
    if server.tenant.is_some() || acting.has(Scope::TenantsAdmin) {
        return Ok(());
    }
    let reason =
        format!("server `{}` is global: the operator offers it to all tenants and changes it", server.slug);
    Err(Refusal::new(Code::MissingScope, reason)
        .rule(format!("server {} scope global, scope tenants:admin", server.id))
        .hint("a config changes what it may do here: POST /v1/mcp/configs; a server of your own with the same slug hides it")
        .into())
}

fn command_allowed(config: &Config, command: Option<&str>) -> Result<(), Problem> {
    let allowed = &config.children.allowed_commands;
    let command = command.unwrap_or_default();
    if allowed.is_empty() || allowed.iter().any(|one| one == command) {
        return Ok(());
    }
    Err(Refusal::new(Code::CommandNotAllowed, "this command may not be run here")
        .rule("children.allowed_commands (ALLOWED_COMMANDS)")
        .hint(format!("allowed are: {}; the operator can add others", allowed.join(", ")))
        .into())
}

/// Refuses variables that would replace a program, where the operator narrowed the programs.
fn variables_allowed<'a>(config: &Config, mut names: impl Iterator<Item = &'a str>) -> Result<(), Problem> {
    let found = if config.children.allowed_commands.is_empty() {
        None
    } else {
        names.find(|name| decides_program(name))
    };
    match found {
        None => Ok(()),
        Some(name) => {
            let reason =
                format!("the variable {name} decides which program runs, and commands are narrowed here");
            Err(Refusal::new(Code::CommandNotAllowed, reason)
                .rule("children.allowed_commands (ALLOWED_COMMANDS)")
                .hint("leave the variable out")
                .into())
        }
    }
}
