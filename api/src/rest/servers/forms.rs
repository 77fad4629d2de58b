//! Bodies that register or change a server: their forms, and which members fit which transport.

use entity::{NewServer, SecretsPatch, Server, ServerPatch, Transport};
use serde_json::{Value, json};

use crate::rest::describe::{body, described};
use crate::rest::input::secret_forms::SecretNames;
use crate::rest::input::{Fields, form, secret_forms};
use crate::rest::servers::remote::{keep_origin, spell_headers};
use crate::rest::servers::values;

/// A server to be registered.
pub struct NewServerBody;
described!(NewServerBody as "NewServer", new_server_schema());

body!(
    ServerPatchBody as "ServerPatch", |f| server_patch(f, None),
    "A change of a server (RFC 7396): what is left out stays, null clears.",
    {"description": "Knows the time.", "env": {"TZ": "Europe/Berlin"}}
);

/// Settings of a server, as answers show them.
pub struct SettingsBody;
described!(SettingsBody as "ServerSettings", Fields::describe_answer(
    |f| settings(f, None),
    "What a person sets of a server.",
));

/// The body of a registration.
#[derive(Debug)]
pub struct Registration {
    pub server: NewServer,
    pub global: bool,
}

/// Members of a server that a patch cannot change.
const IMMUTABLE: [&str; 3] = ["slug", "transport", "scope"];
const READ_ONLY: [&str; 11] = [
    "id",
    "managedBy",
    "state",
    "stateReason",
    "stateSince",
    "revision",
    "toolsCount",
    "eraFound",
    "lastUsedAt",
    "createdAt",
    "updatedAt",
];

/// Describes a registration: one form for each transport.
fn new_server_schema() -> Value {
    let about = "A server to be registered.";
    let example = json!({
        "slug": "time", "name": "Time", "transport": "stdio", "command": "uvx", "args": ["mcp-server-time"],
        "env": {"TZ": "UTC"},
    });
    let whole = Fields::describe(new_server, about, &example);
    let of_transport = |transport: Transport| {
        let mut form = whole.clone();
        let members = form.as_object_mut().expect("a body is described as an object");
        members.retain(|keyword, _| keyword != "example" && keyword != "description");
        form["title"] = json!(transport.as_str());
        form["properties"]["transport"] = json!({"type": "string", "enum": [transport.as_str()]});
        let properties = form["properties"].as_object_mut().expect("an object has properties");
        properties.retain(|name, _| !foreign(transport).contains(&name.as_str()));
        if let Some((needed, _)) = needed(transport) {
            // The member is never null here.
            let kind = properties[needed]["type"][0].take();
            properties[needed]["type"] = kind;
            form["required"].as_array_mut().expect("some are required").push(needed.into());
        }
        form
    };
    json!({"description": about, "example": example, "oneOf": Transport::ALL.map(of_transport)})
}

/// Reads a registration.
pub fn new_server(f: &mut Fields) -> Option<Registration> {
    let slug = f.required("slug", form::slug(), "");
    let about = "How it is reached: `stdio` (a program that the gateway runs), `streamable-http` or `websocket` \
                 (a remote server), or `builtin`.";
    let transport = f.required("transport", values::transport().with("example", "stdio"), about);
    fit_transport(f, transport);
    let settings = settings(f, transport);
    let about = "`tenant`, or `global` to offer it to all tenants, which needs `tenants:admin`.";
    let global = f.optional("scope", values::is_global(), about).unwrap_or(false);
    Some(Registration { server: NewServer::of(slug?, transport?, settings).ok()?, global })
}

/// Reads a change of this server; describes that of any.
pub fn server_patch(f: &mut Fields, server: Option<&Server>) -> Option<ServerPatch> {
    f.patching();
    f.fixed(&IMMUTABLE, "cannot be changed: delete the server and register another");
    f.fixed(&READ_ONLY, "cannot be set");
    let transport = server.map(|server| server.transport);
    fit_transport(f, transport);
    let mut patch = settings(f, transport);
    if let Some(server) = server {
        spell_headers(&mut patch, server);
        keep_origin(f, server, &patch);
    }
    Some(patch)
}

/// Reads the settings of a server. A registration is a patch of default settings.
fn settings(f: &mut Fields, transport: Option<Transport>) -> ServerPatch {
    use values::{absolute, era, remote_url, retry};
    let command = "The program of a stdio server, never through a shell; the provider's name of a built-in \
                   one. Needs `servers:launch` for stdio.";
    let args = "The program's arguments. They are shown, so they are no place for secrets.";
    let env = "Variables of the program. The values are sealed and never shown again.";
    let url = "The address of a remote server: http or https, for a WebSocket ws or wss. It is shown, so it \
               is no place for secrets; an address that is not public is refused unless the operator opened \
               it. To go to another host (scheme, host or port), the sealed headers must be given anew.";
    let headers = "What a remote server is sent besides, for instance `Authorization`. The values are sealed \
                   and never shown again.";
    let enabled = "Whether it can be used; true of a new server when not given.";
    let concurrency = "How many calls it is given at once; 0 for no bound.";
    let start_timeout = "How long a start may take; it does not count towards a call.";
    let retry_about = "How often a call that may be repeated is tried again.";
    let idle_timeout = "How long it is kept unused; 0 for as long as the gateway runs.";
    let speaks = "Which protocol revisions it speaks: `legacy` (up to 2025-11-25), `modern`, or `auto` to \
                  find out.";
    let program = form::text(1, 4096).with("example", "uvx");
    let address = remote_url(transport).with("example", "https://mcp.example.com/mcp");
    ServerPatch {
        name: f.required("name", form::text(1, 200), ""),
        description: f.clearing("description", form::text(0, 4000), ""),
        category: f.clearing("category", form::text(1, 64), ""),
        tags: f.emptying("tags", form::list(32, form::text(1, 64)), ""),
        version: f.clearing("version", form::text(1, 64), ""),
        transport: None,
        command: f.clearing("command", program, command),
        args: f.emptying("args", form::list(256, form::text(0, 65_536)), args),
        env: secrets(f, "env", SecretNames::Variables, env),
        cwd: f.clearing("cwd", absolute(), "The program's working directory: an absolute path."),
        url: f.clearing("url", address, url),
        headers: secrets(f, "headers", SecretNames::Headers, headers),
        enabled: f.optional("enabled", form::flag(), enabled),
        timeout_ms: f.clearing("timeoutMs", form::millis(1), "How long a call may take."),
        start_timeout_ms: f.clearing("startTimeoutMs", form::millis(1), start_timeout),
        max_concurrency: f.clearing("maxConcurrency", form::whole(0, 10_000), concurrency),
        retry: f.clearing("retry", retry(), retry_about),
        idle_timeout_ms: f.clearing("idleTimeoutMs", form::millis(0), idle_timeout),
        era: f.optional("era", era(), speaks),
    }
}

/// Reads sealed values; a patch can name single ones, and answers do not show them.
pub fn secrets(f: &mut Fields, name: &'static str, kind: SecretNames, about: &str) -> Option<SecretsPatch> {
    if f.is_patch() {
        let about = format!(
            "{about} A value sets one, null removes it, others stay; null instead of the object removes all."
        );
        let changes = f.clearing(name, secret_forms::secret_changes(kind), &about)?;
        return Some(changes.map_or_else(|| SecretsPatch::Replace(Default::default()), SecretsPatch::Merge));
    }
    let of = secret_forms::secrets(kind);
    let of = if f.is_answer() { of.with("additionalProperties", form::reference("SetBody")) } else { of };
    f.optional(name, of, about).map(SecretsPatch::Replace)
}

/// Notes the members that do not fit the server's transport.
fn fit_transport(fields: &mut Fields, transport: Option<Transport>) {
    let lacks = |fields: &Fields, name| match fields.is_patch() {
        true => fields.is_null(name),
        false => !fields.has(name),
    };
    let Some(transport) = transport else { return };
    if let Some((name, why)) = needed(transport).filter(|(name, _)| lacks(fields, name)) {
        fields.wrong(name, why);
    }
    for name in foreign(transport).iter().filter(|name| fields.has(name)).collect::<Vec<_>>() {
        let transport = transport.as_str();
        fields.wrong(name, format!("does not belong to a server with transport {transport}"));
    }
}

/// Returns the member that a server of this transport must have, and why.
fn needed(transport: Transport) -> Option<(&'static str, &'static str)> {
    match transport {
        Transport::Stdio => Some(("command", "is missing: a stdio server is a program")),
        Transport::StreamableHttp | Transport::Websocket => {
            Some(("url", "is missing: a remote server has an address"))
        }
        Transport::Builtin => None,
    }
}

/// Returns the members that a server of this transport cannot have.
fn foreign(transport: Transport) -> &'static [&'static str] {
    match transport {
        Transport::Stdio => &["url", "headers"],
        Transport::Builtin => &["args", "env", "cwd", "url", "headers"],
        Transport::StreamableHttp | Transport::Websocket => &["command", "args", "env", "cwd"],
    }
}

#[cfg(test)]
#[path = "forms_tests.rs"]
mod tests;
