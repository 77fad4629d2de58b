//! `/v1/mcp/configs`: the permissions of a tenant, or of one of its agents, at a server. Null inherits; the
//! policy stage applies them at every endpoint.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use entity::{
    ChildResources, ConfigFilter, ConfigPatch, NewConfig, Secrets, SecretsPatch, Server, ServerConfig,
    TenantScope, Transport,
};
use protocol::{AgentId, ArgumentRule, ConfigId, Scope, ServerId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::config::remote_address;
use crate::http::problem::{FieldError, Problem};
use crate::rest::acting::Acting;
use crate::rest::argument_rules::ArgumentRuleText;
use crate::rest::config_forms::{ConfigRequest, config_patch, new_config};
use crate::rest::describe::{
    AgentIdText, Always, ChildResources as ChildResourcesText, Conditional, ConfigIdText, Contested,
    Filtered, Moment, Named, Sent, ServerIdText, SetBody, body,
};
use crate::rest::find;
use crate::rest::input::parameters::any;
use crate::rest::input::{IfMatch, Name, NoBody, Parameters, Payload};
use crate::rest::listed::{Created, PageOf, Tagged, created};
use crate::rest::servers::rules::{may_set, sets};

body!(NewConfigBody as "NewConfig", new_config, "A config to be made.", {
    "serverId": "calculator", "blockedTools": ["power"], "timeoutMs": 5000
});

body!(
    ConfigPatchBody as "ConfigPatch", config_patch,
    "A change of a config (RFC 7396): what is left out stays, null inherits again.",
    {"blockedTools": null}
);

/// Settings of one server for a tenant or one of its agents. The most specific value wins, a block
/// always wins.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Config)]
pub struct ConfigBody {
    #[schema(value_type = ConfigIdText)]
    id: ConfigId,
    #[schema(value_type = ServerIdText)]
    server_id: ServerId,
    /// Null for all agents of the tenant.
    #[schema(value_type = Option<AgentIdText>)]
    agent_id: Option<AgentId>,
    enabled: Option<bool>,
    allowed_tools: Option<Vec<String>>,
    blocked_tools: Option<Vec<String>>,
    allowed_resources: Option<Vec<String>>,
    allowed_prompts: Option<Vec<String>>,
    #[schema(example = json!({"add": "sum"}))]
    rename: Option<BTreeMap<String, String>>,
    describe: Option<BTreeMap<String, String>>,
    /// Names of the variables, whose values are never shown.
    #[schema(value_type = BTreeMap<String, SetBody>)]
    env: Secrets,
    /// Names of the headers, whose values are never shown.
    #[schema(value_type = BTreeMap<String, SetBody>)]
    headers: Secrets,
    timeout_ms: Option<i64>,
    max_concurrency: Option<u32>,
    calls_per_minute: Option<u32>,
    max_result_bytes: Option<u64>,
    retries: Option<u8>,
    #[schema(value_type = Option<Vec<ArgumentRuleText>>)]
    rules: Option<Vec<ArgumentRule>>,
    #[schema(value_type = Option<ChildResourcesText>)]
    resources: Option<ChildResources>,
    /// Raised by each change.
    revision: i32,
    #[schema(value_type = Moment)]
    created_at: jiff::Timestamp,
    #[schema(value_type = Moment)]
    updated_at: jiff::Timestamp,
}

impl From<ServerConfig> for ConfigBody {
    fn from(row: ServerConfig) -> Self {
        let settings = row.settings;
        Self {
            id: row.id,
            server_id: row.server,
            agent_id: row.agent,
            enabled: settings.enabled,
            allowed_tools: settings.allowed_tools,
            blocked_tools: settings.blocked_tools,
            allowed_resources: settings.allowed_resources,
            allowed_prompts: settings.allowed_prompts,
            rename: settings.rename,
            describe: settings.describe,
            env: row.secrets.env,
            headers: row.secrets.headers,
            timeout_ms: settings.timeout_ms,
            max_concurrency: settings.max_concurrency,
            calls_per_minute: settings.calls_per_minute,
            max_result_bytes: settings.max_result_bytes,
            retries: settings.retries,
            rules: settings.rules,
            resources: settings.resources,
            revision: row.revision,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// Lists the tenant's configs, oldest first.
///
/// Needs `servers:read`.
#[utoipa::path(
    get, path = "/v1/mcp/configs", tag = "configs",
    params(
        ("server" = Option<String>, Query, description = "The server's id or slug."),
        ("agent" = Option<String>, Query, description = "The agent's id or slug."),
        ("page" = Option<u64>, Query, description = "Which page, from 1.", minimum = 1, maximum = 1_000_000_000),
        ("pageSize" = Option<u64>, Query, description = "Items on a page, 50 when not given.", minimum = 1, maximum = 500),
    ),
    responses((status = 200, description = "The configs.", body = PageOf<ConfigBody>), Always, Named, Filtered)
)]
pub async fn list_configs(
    acting: Acting,
    State(app): State<Arc<App>>,
    query: Parameters,
) -> Result<Json<PageOf<ConfigBody>>, Problem> {
    acting.require(Scope::ServersRead)?;
    let mut query = query.read()?;
    let (server, agent) = (query.optional("server", any), query.optional("agent", any));
    let page = query.page();
    query.finish()?;
    let rows = acting.rows(&app);
    let server = match server {
        Some(name) => Some(find::server(rows, &name).await?.id),
        None => None,
    };
    let agent = find::agent_if_named(rows, agent.as_deref()).await?.map(|agent| agent.id);
    let found = rows.configs(&ConfigFilter { server, agent }, page).await?;
    Ok(PageOf::of(found, ConfigBody::from))
}

/// Creates the config of a server for the tenant, or for one of its agents. There is one for each.
///
/// Needs `configs:write`.
#[utoipa::path(
    post, path = "/v1/mcp/configs", tag = "configs", request_body = NewConfigBody,
    responses(
        (status = 201, description = "The config; `Location` is its path.", body = ConfigBody, headers(("ETag" = String, description = "For `If-Match`."))),
        Always, Named, Filtered, Sent, Contested
    )
)]
pub async fn create_config(
    acting: Acting,
    State(app): State<Arc<App>>,
    payload: Payload,
) -> Result<Tagged<Created<ConfigBody>>, Problem> {
    acting.require(Scope::ConfigsWrite)?;
    let ConfigRequest { server, agent, mut patch } = payload.read(new_config)?;
    let rows = acting.rows(&app);
    let server = find::server(rows, &server).await?;
    let agent = find::agent_if_named(rows, agent.as_deref()).await?.map(|agent| agent.id);
    fits(&server, &patch)?;
    may_set(&acting, &app.config, &server, &patch)?;
    send_headers_to(&server, None, &mut patch)?;
    let mut new = NewConfig::new(server.id, agent);
    patch.apply(&mut new.settings, &mut new.secrets)?;
    let config = rows.create_config(new, &acting.actor()).await.map_err(Problem::of("server or agent"))?;
    Ok(([(header::ETAG, etag(&config))], created("/v1/mcp/configs", config.id, config.into())))
}

/// Finds a config.
///
/// Needs `servers:read`.
#[utoipa::path(
    get, path = "/v1/mcp/configs/{id}", tag = "configs",
    params(("id" = ConfigIdText, Path, description = "The config's id.")),
    responses(
        (status = 200, description = "The config.", body = ConfigBody, headers(("ETag" = String, description = "For `If-Match`."))),
        Always, Named
    )
)]
pub async fn find_config(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(name): Name,
) -> Result<Tagged<Json<ConfigBody>>, Problem> {
    acting.require(Scope::ServersRead)?;
    let config = find_row(acting.rows(&app), &name).await?;
    Ok(([(header::ETAG, etag(&config))], Json(config.into())))
}

/// Changes a config: members that are left out stay, null inherits again.
///
/// Needs `configs:write`.
#[utoipa::path(
    patch, path = "/v1/mcp/configs/{id}", tag = "configs", request_body = ConfigPatchBody,
    params(
        ("id" = ConfigIdText, Path, description = "The config's id."),
        ("If-Match" = Option<String>, Header, description = "The ETag of the state that is to be changed; 412 when it is another one by now.", pattern = r#"^(\*|(W/)?"[^",]*"(, *(W/)?"[^",]*")*)$"#),
    ),
    responses(
        (status = 200, description = "The config as it is now.", body = ConfigBody, headers(("ETag" = String, description = "For `If-Match`."))),
        Always, Named, Filtered, Sent, Conditional
    )
)]
pub async fn update_config(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(name): Name,
    condition: IfMatch,
    payload: Payload,
) -> Result<Tagged<Json<ConfigBody>>, Problem> {
    acting.require(Scope::ConfigsWrite)?;
    let before = find_row(acting.rows(&app), &name).await?;
    condition.check(&etag(&before))?;
    let mut patch = payload.read(config_patch)?;
    let server = acting.rows(&app).find_server(before.server).await.map_err(Problem::of("server"))?;
    fits(&server, &patch)?;
    may_set(&acting, &app.config, &server, &patch)?;
    send_headers_to(&server, Some(&before), &mut patch)?;
    let revision = condition.is_exact().then_some(before.revision);
    let changed = acting.rows(&app).update_config(before.id, patch, revision, &acting.actor()).await;
    let config = changed.map_err(Problem::of("config"))?;
    Ok(([(header::ETAG, etag(&config))], Json(config.into())))
}

/// Deletes a config, whose settings are inherited again.
///
/// Needs `configs:write`.
#[utoipa::path(
    delete, path = "/v1/mcp/configs/{id}", tag = "configs",
    params(("id" = ConfigIdText, Path, description = "The config's id.")),
    responses((status = 204, description = "It is deleted."), Always, Named, Filtered, Sent)
)]
pub async fn delete_config(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(name): Name,
    _: NoBody,
) -> Result<StatusCode, Problem> {
    acting.require(Scope::ConfigsWrite)?;
    let config = find_row(acting.rows(&app), &name).await?;
    acting.rows(&app).delete_config(config.id, &acting.actor()).await.map_err(Problem::of("config"))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Refuses values that a server of this transport has no use for.
fn fits(server: &Server, patch: &ConfigPatch) -> Result<(), Problem> {
    let remote = matches!(server.transport, Transport::StreamableHttp | Transport::Websocket);
    let foreign = [
        ("env", remote && sets(patch.env.as_ref()).next().is_some()),
        ("headers", !remote && sets(patch.headers.as_ref()).next().is_some()),
        ("resources", server.transport != Transport::Stdio && matches!(patch.resources, Some(Some(_)))),
    ];
    let foreign: Vec<FieldError> = foreign
        .into_iter()
        .filter(|(_, is_foreign)| *is_foreign)
        .map(|(name, _)| {
            FieldError::new(
                name,
                format!("does not belong to a server with transport {}", server.transport.as_str()),
            )
        })
        .collect();
    if foreign.is_empty() { Ok(()) } else { Err(Problem::invalid(foreign)) }
}

/// Notes which server headers are given for. After it moved to another origin, all must be given anew: who moves a
/// server may not read them.
fn send_headers_to(
    server: &Server,
    before: Option<&ServerConfig>,
    patch: &mut ConfigPatch,
) -> Result<(), Problem> {
    let (Some(changes), Some(url)) = (&patch.headers, &server.settings.url) else { return Ok(()) };
    let given_for = before.and_then(|config| config.settings.headers_for.as_deref());
    if given_for.is_some_and(|earlier| !remote_address::same_origin(earlier, url)) {
        let named = |name: &str| match changes {
            SecretsPatch::Replace(_) => true,
            SecretsPatch::Merge(changes) => changes.contains_key(name),
        };
        let kept =
            before.into_iter().flat_map(|config| config.secrets.headers.names()).find(|name| !named(name));
        if let Some(kept) = kept {
            let detail =
                format!("must give `{kept}` anew, or null: the server moved to another origin since");
            return Err(Problem::invalid(vec![FieldError::new("headers", detail)]));
        }
    }
    patch.headers_for = Some(Some(url.clone()));
    Ok(())
}

async fn find_row(rows: TenantScope<'_>, name: &str) -> Result<ServerConfig, Problem> {
    let id: ConfigId = name.parse().map_err(|_| Problem::not_found("config"))?;
    rows.find_config(id).await.map_err(Problem::of("config"))
}

/// Returns the ETag of a row, whose revision is raised by each change.
fn etag(row: &ServerConfig) -> String {
    format!("\"{}\"", row.revision)
}
