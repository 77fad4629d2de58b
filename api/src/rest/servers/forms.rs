//! Bodies that make or change a server: their forms, and which members fit which transport.

use entity::{NewServer, Secrets, SecretsPatch, Server, ServerPatch, Transport};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::http::problem::Problem;
use crate::rest::describe::ServerSlug;
use crate::rest::input::form::SecretNames;
use crate::rest::input::{Fields, form};
use crate::rest::servers::remote::{as_spelled, remote_url, stays_at_home};
use crate::rest::servers::values::{absolute, concurrency, era, is_global, retry, transport};

/// A server to be registered, as the document describes it; [`read_new`] reads it.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NewServer, example = json!({
    "slug": "time", "name": "Time", "transport": "stdio", "command": "uvx", "args": ["mcp-server-time"], "env": {"TZ": "UTC"}
}))]
#[expect(dead_code, reason = "it describes what is read or written elsewhere")]
pub struct NewServerForm {
    #[schema(value_type = ServerSlug)]
    pub slug: String,
    #[schema(min_length = 1, max_length = 200)]
    pub name: String,
    #[schema(max_length = 4000)]
    pub description: Option<String>,
    #[schema(max_length = 64)]
    pub category: Option<String>,
    #[schema(max_items = 32)]
    pub tags: Option<Vec<String>>,
    #[schema(max_length = 64)]
    pub version: Option<String>,
    /// How it is reached: `stdio` (a program that the gateway runs), `streamable-http` or `websocket`
    /// (a remote server), or `builtin`.
    #[schema(pattern = "^(builtin|stdio|streamable-http|websocket)$", example = "stdio")]
    pub transport: String,
    /// The program of a stdio server, never through a shell; the provider's name of a built-in one.
    /// Needs `servers:launch` for stdio.
    #[schema(max_length = 4096, example = "uvx")]
    pub command: Option<String>,
    /// The program's arguments. They are shown, so they are no place for secrets.
    #[schema(max_items = 256)]
    pub args: Option<Vec<String>>,
    /// Variables of the program. The values are sealed and never shown again.
    #[schema(value_type = Option<std::collections::HashMap<String, String>>)]
    pub env: Option<Map<String, Value>>,
    /// The program's working directory: an absolute path.
    #[schema(pattern = "^/")]
    pub cwd: Option<String>,
    /// The address of a remote server: http or https, for a WebSocket ws or wss. It is shown, so it is
    /// no place for secrets; an address that is not public is refused unless the operator opened it.
    #[schema(max_length = 2048, example = "https://mcp.example.com/mcp")]
    pub url: Option<String>,
    /// What a remote server is sent besides, for instance `Authorization`. The values are sealed and
    /// never shown again.
    #[schema(value_type = Option<std::collections::HashMap<String, String>>)]
    pub headers: Option<Map<String, Value>>,
    /// Whether it can be used; true when not given.
    pub enabled: Option<bool>,
    /// How long a call may take.
    #[schema(minimum = 1, maximum = 86_400_000)]
    pub timeout_ms: Option<i64>,
    /// How long a start may take; it does not count towards a call.
    #[schema(minimum = 1, maximum = 86_400_000)]
    pub start_timeout_ms: Option<i64>,
    /// How many calls it is given at once; 0 for no bound.
    #[schema(minimum = 0, maximum = 10_000)]
    pub max_concurrency: Option<i32>,
    /// How often a call that may be repeated is tried again.
    #[schema(value_type = Option<Retry>)]
    pub retry: Option<Value>,
    /// How long it is kept unused; 0 for as long as the gateway runs.
    #[schema(minimum = 0, maximum = 86_400_000)]
    pub idle_timeout_ms: Option<i64>,
    /// Which protocol revisions it speaks: `legacy` (up to 2025-11-25), `modern`, or `auto` to find out.
    #[schema(pattern = "^(auto|legacy|modern)$")]
    pub era: Option<String>,
    /// `tenant`, or `global` to offer it to all tenants, which needs `tenants:admin`.
    #[schema(pattern = "^(tenant|global)$")]
    pub scope: Option<String>,
}

/// A change of a server (RFC 7396): what is left out stays, null clears. [`read_patch`] reads it.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ServerPatch, example = json!({"description": "Knows the time.", "env": {"TZ": "Europe/Berlin"}}))]
#[expect(dead_code, reason = "it describes what is read or written elsewhere")]
pub struct ServerPatchForm {
    #[schema(min_length = 1, max_length = 200)]
    pub name: Option<String>,
    #[schema(max_length = 4000)]
    pub description: Option<String>,
    #[schema(max_length = 64)]
    pub category: Option<String>,
    #[schema(max_items = 32)]
    pub tags: Option<Vec<String>>,
    #[schema(max_length = 64)]
    pub version: Option<String>,
    #[schema(max_length = 4096)]
    pub command: Option<String>,
    #[schema(max_items = 256)]
    pub args: Option<Vec<String>>,
    /// A value sets a variable, null removes it, others stay; null instead of the object removes all.
    #[schema(value_type = Option<std::collections::HashMap<String, Option<String>>>)]
    pub env: Option<Map<String, Value>>,
    #[schema(pattern = "^/")]
    pub cwd: Option<String>,
    /// To go to another host (scheme, host or port), the sealed headers must be given anew.
    #[schema(max_length = 2048)]
    pub url: Option<String>,
    #[schema(value_type = Option<std::collections::HashMap<String, Option<String>>>)]
    pub headers: Option<Map<String, Value>>,
    pub enabled: Option<bool>,
    #[schema(minimum = 1, maximum = 86_400_000)]
    pub timeout_ms: Option<i64>,
    #[schema(minimum = 1, maximum = 86_400_000)]
    pub start_timeout_ms: Option<i64>,
    #[schema(minimum = 0, maximum = 10_000)]
    pub max_concurrency: Option<i32>,
    #[schema(value_type = Option<Retry>)]
    pub retry: Option<Value>,
    #[schema(minimum = 0, maximum = 86_400_000)]
    pub idle_timeout_ms: Option<i64>,
    #[schema(pattern = "^(auto|legacy|modern)$")]
    pub era: Option<String>,
}

/// How often a call that may be repeated is tried again.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is read or written elsewhere")]
pub struct Retry {
    #[schema(minimum = 0, maximum = 5)]
    pub attempts: u8,
}

/// What a body asks for.
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

/// Reads the body of a registration.
pub fn read_new(mut fields: Fields) -> Result<Registration, Problem> {
    let f = &mut fields;
    let slug = f.required("slug", form::slug);
    let name = f.required("name", form::text(1, 200));
    let transport = f.required("transport", transport);
    let description = f.optional("description", form::text(0, 4000));
    let category = f.optional("category", form::text(1, 64));
    let tags = f.optional("tags", form::list(32, form::text(1, 64))).unwrap_or_default();
    let version = f.optional("version", form::text(1, 64));
    fit_transport(f, transport, true);
    let command = f.optional("command", form::text(1, 4096));
    let args = f.optional("args", form::list(256, form::text(0, 65_536))).unwrap_or_default();
    let env = f.optional("env", form::secrets(SecretNames::Variables)).unwrap_or_default();
    let cwd = f.optional("cwd", absolute);
    let url = f.optional("url", remote_url(transport));
    let headers = f.optional("headers", form::secrets(SecretNames::Headers)).unwrap_or_default();
    let enabled = f.optional("enabled", form::flag).unwrap_or(true);
    let timeout_ms = f.optional("timeoutMs", form::millis(1));
    let start_timeout_ms = f.optional("startTimeoutMs", form::millis(1));
    let max_concurrency = f.optional("maxConcurrency", concurrency);
    let retry = f.optional("retry", retry);
    let idle_timeout_ms = f.optional("idleTimeoutMs", form::millis(0));
    let era = f.optional("era", era).unwrap_or_else(|| "auto".to_owned());
    let global = f.optional("scope", is_global).unwrap_or(false);
    fields.finish(|| {
        let (env, headers) = (Secrets::from(env), Secrets::from(headers));
        let server = NewServer {
            slug: slug?,
            name: name?,
            transport: transport?,
            description,
            category,
            tags,
            version,
            command,
            args,
            env,
            cwd,
            url,
            headers,
            enabled,
            timeout_ms,
            start_timeout_ms,
            max_concurrency,
            retry,
            idle_timeout_ms,
            era,
        };
        Some(Registration { server, global })
    })
}

/// Reads the body of a change of this server.
pub fn read_patch(mut fields: Fields, server: &Server) -> Result<ServerPatch, Problem> {
    let f = &mut fields;
    f.fixed(&IMMUTABLE, "cannot be changed: delete the server and register another");
    f.fixed(&READ_ONLY, "cannot be set");
    fit_transport(f, Some(server.transport), false);
    let url = f.clearing("url", remote_url(Some(server.transport)));
    let headers = f
        .clearing("headers", form::secret_changes(SecretNames::Headers))
        .map(|changes| changes.map(|changes| as_spelled(changes, &server.headers)));
    stays_at_home(f, server, url.as_ref(), headers.as_ref());
    let patch = ServerPatch {
        name: f.change("name", form::text(1, 200)),
        description: f.clearing("description", form::text(0, 4000)),
        category: f.clearing("category", form::text(1, 64)),
        tags: f.clearing("tags", form::list(32, form::text(1, 64))).map(Option::unwrap_or_default),
        version: f.clearing("version", form::text(1, 64)),
        transport: None,
        command: f.clearing("command", form::text(1, 4096)),
        args: f.clearing("args", form::list(256, form::text(0, 65_536))).map(Option::unwrap_or_default),
        env: f.clearing("env", form::secret_changes(SecretNames::Variables)).map(secrets_patch),
        cwd: f.clearing("cwd", absolute),
        url,
        headers: headers.map(secrets_patch),
        enabled: f.change("enabled", form::flag),
        timeout_ms: f.clearing("timeoutMs", form::millis(1)),
        start_timeout_ms: f.clearing("startTimeoutMs", form::millis(1)),
        max_concurrency: f.clearing("maxConcurrency", concurrency),
        retry: f.clearing("retry", retry),
        idle_timeout_ms: f.clearing("idleTimeoutMs", form::millis(0)),
        era: f.change("era", era),
    };
    fields.finish(|| Some(patch))
}

/// Notes the members that do not fit how the server is reached.
fn fit_transport(fields: &mut Fields, transport: Option<Transport>, new: bool) {
    let foreign: &[&str] = match transport {
        Some(Transport::Stdio) => {
            if (new && !fields.has("command")) || (!new && fields.is_null("command")) {
                fields.wrong("command", "is missing: a stdio server is a program");
            }
            &["url", "headers"]
        }
        Some(Transport::Builtin) => &["args", "env", "cwd", "url", "headers"],
        Some(Transport::StreamableHttp | Transport::Websocket) => {
            if (new && !fields.has("url")) || (!new && fields.is_null("url")) {
                fields.wrong("url", "is missing: a remote server has an address");
            }
            &["command", "args", "env", "cwd"]
        }
        None => &[],
    };
    let transport = transport.map_or("", Transport::as_str);
    for name in foreign.iter().filter(|name| fields.has(name)).collect::<Vec<_>>() {
        fields.wrong(name, format!("does not belong to a server with transport {transport}"));
    }
}

fn secrets_patch(changes: Option<std::collections::BTreeMap<String, Option<String>>>) -> SecretsPatch {
    match changes {
        None => SecretsPatch::Replace(Default::default()),
        Some(changes) => SecretsPatch::Merge(changes),
    }
}

#[cfg(test)]
#[path = "forms_tests.rs"]
mod tests;
