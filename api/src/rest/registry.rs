//! `/v1/mcp/registry`: the marketplace. An installation first shows the exact program and arguments, or the address,
//! and is carried out when the caller approves their digest.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use entity::Paged;
use protocol::{Code, Refusal, Scope};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::app::App;
use crate::http::problem::Problem;
use crate::marketplace::plan::Plan;
use crate::marketplace::{self, Entry};
use crate::rest::acting::Acting;
use crate::rest::describe::{Always, Contested, Filtered, Named, Sent, ServerSlug, body};
use crate::rest::input::form::Form;
use crate::rest::input::parameters::{any, number, one_of};
use crate::rest::input::{Fields, Name, Parameters, Payload, form};
use crate::rest::listed::PageOf;
use crate::rest::servers::answer::ServerBody;
use crate::rest::servers::{forms, register};

body!(
    InstallBody as "Install", install, "An installation, or the request for its plan.",
    {"transport": "stdio", "inputs": {"directory": "/srv/files"}}
);

/// An entry of the marketplace.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RegistryEntry)]
pub struct EntryBody {
    #[schema(example = "io.github.modelcontextprotocol/server-time")]
    name: &'static str,
    title: Option<&'static str>,
    description: &'static str,
    version: &'static str,
    category: &'static str,
    tags: &'static [String],
    /// `stdio` for a package that is run here, `streamable-http` for a hosted server.
    transports: Vec<&'static str>,
    /// The tool that was called before the entry was taken in, and the answer.
    tried: Option<&'static str>,
    /// The reason why none was called.
    not_tried: Option<&'static str>,
    /// Facts to know before an installation.
    note: Option<&'static str>,
    /// The official document (`server.json`), as it is.
    #[schema(value_type = Object)]
    server: &'static RawValue,
}

impl From<&'static Entry> for EntryBody {
    fn from(entry: &'static Entry) -> Self {
        let (document, curated) = (&entry.document, &entry.curated);
        Self {
            name: &document.name,
            title: document.title.as_deref(),
            description: &document.description,
            version: &document.version,
            category: &curated.category,
            tags: &curated.tags,
            transports: entry.transports(),
            tried: curated.tried.as_deref(),
            not_tried: curated.not_tried.as_deref(),
            note: curated.note.as_deref(),
            server: &entry.raw,
        }
    }
}

/// Program or address of an installation.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = InstallPlan)]
pub struct PlanBody {
    #[schema(value_type = ServerSlug)]
    slug: String,
    #[schema(pattern = "^(stdio|streamable-http)$")]
    transport: &'static str,
    /// The program, which is run without a shell.
    command: Option<&'static str>,
    args: Vec<String>,
    url: Option<String>,
    /// Names of the variables that are set.
    env: Vec<String>,
    /// Names of the headers that are sent.
    headers: Vec<String>,
    /// The value of `approve` that carries this plan out.
    #[schema(pattern = "^sha256:[0-9a-f]{64}$")]
    digest: String,
}

struct Install {
    slug: Option<protocol::Slug>,
    remote: bool,
    inputs: BTreeMap<String, String>,
    approve: Option<String>,
}

fn install(f: &mut Fields) -> Option<Install> {
    let slug = f.optional("slug", form::slug(), "The slug of the server; that of the entry when not given.");
    let transport = form::word([("stdio", false), ("streamable-http", true)]);
    let about = "How it is installed, for an entry that offers both; stdio when not given and offered.";
    let remote = f.optional("transport", transport, about);
    let inputs = f.optional("inputs", inputs(), "Values for what the entry asks for, by name.");
    let about =
        "The digest of the plan that is carried out; without it the plan is shown, and nothing is done.";
    let approve = f.optional("approve", form::text(71, 71), about);
    Some(Install { slug, remote: remote.unwrap_or(false), inputs: inputs.unwrap_or_default(), approve })
}

fn inputs() -> Form<BTreeMap<String, String>> {
    let schema = json!({ "type": "object", "additionalProperties": { "type": "string", "maxLength": 4096 } });
    Form::new(schema, |value| {
        let members = value.as_object().ok_or("is an object of texts")?;
        members
            .iter()
            .map(|(name, value)| match value.as_str().filter(|text| text.len() <= 4096) {
                Some(text) => Ok((name.clone(), text.to_owned())),
                None => {
                    Err(format!("has texts of at most 4096 bytes, and `{}` is none", form::shortened(name)))
                }
            })
            .collect()
    })
}

/// Lists the entries of the marketplace, by name.
///
/// Needs `servers:read`.
#[utoipa::path(
    get, path = "/v1/mcp/registry", tag = "marketplace",
    params(
        ("search" = Option<String>, Query, description = "Part of the name, the title, the description or a tag."),
        ("category" = Option<String>, Query, description = "The category."),
        ("tag" = Option<String>, Query, description = "A tag."),
        ("transport" = Option<String>, Query, description = "A way to install it.", pattern = "^(stdio|streamable-http)$"),
        ("page" = Option<u64>, Query, description = "Which page, from 1.", minimum = 1, maximum = 1_000_000_000),
        ("pageSize" = Option<u64>, Query, description = "Items on a page, 50 when not given.", minimum = 1, maximum = 500),
    ),
    responses((status = 200, description = "The entries.", body = PageOf<EntryBody>), Always, Filtered)
)]
pub async fn list_entries(acting: Acting, query: Parameters) -> Result<Json<PageOf<EntryBody>>, Problem> {
    acting.require(Scope::ServersRead)?;
    let mut query = query.read()?;
    let [search, category, tag] = ["search", "category", "tag"].map(|name| query.optional(name, any));
    let transports = ["stdio", "streamable-http"];
    let known = |text: &str| transports.into_iter().find(|transport| *transport == text);
    let transport = query.optional("transport", one_of(known, &transports));
    let page = query.page();
    query.finish()?;
    let fits = |entry: &&'static Entry| {
        search.as_ref().is_none_or(|text| entry.matches(text))
            && category.as_ref().is_none_or(|category| entry.curated.category == *category)
            && tag.as_ref().is_none_or(|tag| entry.curated.tags.contains(tag))
            && transport.is_none_or(|transport| entry.transports().contains(&transport))
    };
    let found: Vec<&'static Entry> = marketplace::entries().iter().filter(fits).collect();
    Ok(PageOf::of(Paged::of_all(found.into_iter(), page), EntryBody::from))
}

/// Finds an entry by its name, in which `/` is written `%2F`.
///
/// Needs `servers:read`.
#[utoipa::path(
    get, path = "/v1/mcp/registry/{name}", tag = "marketplace",
    params(("name" = String, Path, description = "The name.", example = "io.github.modelcontextprotocol/server-time")),
    responses((status = 200, description = "The entry.", body = EntryBody), Always, Named)
)]
pub async fn find_entry(acting: Acting, Name(name): Name) -> Result<Json<EntryBody>, Problem> {
    acting.require(Scope::ServersRead)?;
    Ok(Json(entry(&name)?.into()))
}

/// Installs an entry as a server of the tenant.
///
/// Without `approve` the answer is the plan: the exact program and arguments, or the address. With its digest as
/// `approve` the plan is carried out as `POST /v1/mcp/servers` would, under the same scopes: `servers:launch` for a package. Nothing is
/// downloaded before the server starts. Needs `servers:write`.
#[utoipa::path(
    post, path = "/v1/mcp/registry/{name}/install", tag = "marketplace", request_body = InstallBody,
    params(("name" = String, Path, description = "The name.", example = "io.github.modelcontextprotocol/server-time")),
    responses(
        (status = 200, description = "The plan; nothing was done.", body = PlanBody),
        (status = 201, description = "The server; `Location` is its path.", body = ServerBody),
        Always, Named, Filtered, Sent, Contested
    )
)]
pub async fn install_entry(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(name): Name,
    payload: Payload,
) -> Result<Response, Problem> {
    acting.require(Scope::ServersWrite)?;
    let entry = entry(&name)?;
    let Install { slug, remote, inputs, approve } = payload.read(install)?;
    let remote = remote || entry.document.packages.is_empty();
    let plan = Plan::of(entry, remote, &inputs).map_err(Problem::invalid)?;
    let slug = slug.map_or_else(|| entry.slug.to_owned(), |slug| slug.to_string());
    let digest = plan.digest();
    let Some(approved) = approve else {
        let body = PlanBody {
            slug,
            transport: plan.transport,
            command: plan.command,
            args: plan.args,
            url: plan.url,
            env: plan.env.into_keys().collect(),
            headers: plan.headers.into_keys().collect(),
            digest,
        };
        return Ok(Json(body).into_response());
    };
    if approved != digest {
        let reason = "the plan is another one than was approved: the entry or an input has changed";
        let hint = "send it without `approve`, look at the plan, and approve its digest";
        return Err(Refusal::new(Code::Conflict, reason).fact("digest", digest).hint(hint).into());
    }
    let registration = Fields::read(server(entry, slug, plan).to_string().as_bytes(), forms::new_server)?;
    Ok(register(&acting, &app, registration).await?.into_response())
}

/// Returns the registration of a plan, as a client would send it.
fn server(entry: &Entry, slug: String, plan: Plan) -> Value {
    let document = &entry.document;
    let mut body = json!({
        "slug": slug,
        "name": document.title.as_ref().unwrap_or(&document.name),
        "description": document.description,
        "category": entry.curated.category,
        "tags": entry.curated.tags,
        "version": document.version,
        "transport": plan.transport,
    });
    match plan.command {
        Some(command) => {
            body["command"] = json!(command);
            body["args"] = json!(plan.args);
            body["env"] = json!(plan.env);
        }
        None => {
            body["url"] = json!(plan.url);
            body["headers"] = json!(plan.headers);
        }
    }
    body
}

fn entry(name: &str) -> Result<&'static Entry, Problem> {
    marketplace::find(name).ok_or_else(|| Problem::not_found("entry"))
}

/// Lists the entries as the official MCP Registry API does (`GET /v0.1/servers`, 2025-12-01).
///
/// Needs `servers:read`.
#[utoipa::path(
    get, path = "/v0.1/servers", tag = "marketplace",
    params(
        ("cursor" = Option<String>, Query, description = "`metadata.nextCursor` of the page before."),
        ("limit" = Option<u64>, Query, description = "Entries on a page, 30 when not given.", minimum = 1, maximum = 100),
        ("search" = Option<String>, Query, description = "Part of the name."),
        ("updated_since" = Option<String>, Query, description = "Changed at this time or later.", format = DateTime),
        ("version" = Option<String>, Query, description = "`latest`, or a version."),
    ),
    responses((status = 200, description = "The entries.", body = Object), Always, Filtered)
)]
pub async fn list_official(acting: Acting, query: Parameters) -> Result<Json<Value>, Problem> {
    acting.require(Scope::ServersRead)?;
    let mut query = query.read()?;
    let [cursor, search, version] = ["cursor", "search", "version"].map(|name| query.optional(name, any));
    let limit = query.optional("limit", number(1, 100)).unwrap_or(30);
    let since = query.optional("updated_since", form::moment);
    query.finish()?;
    let updated: jiff::Timestamp = marketplace::UPDATED_AT.parse().expect("a constant time");
    let mut found: Vec<&Entry> = marketplace::entries()
        .iter()
        .filter(|entry| cursor.as_ref().is_none_or(|cursor| entry.document.name > *cursor))
        .filter(|entry| search.as_ref().is_none_or(|text| entry.document.name.contains(text)))
        .filter(|_| since.is_none_or(|since| updated >= since))
        .filter(|entry| is_version(entry, version.as_deref().unwrap_or("latest")))
        .collect();
    let more = found.len() as u64 > limit;
    found.truncate(limit as usize);
    let mut metadata = json!({ "count": found.len() });
    if let Some(last) = found.last().filter(|_| more) {
        metadata["nextCursor"] = json!(last.document.name);
    }
    let servers: Vec<Value> = found.into_iter().map(Entry::official).collect();
    Ok(Json(json!({ "servers": servers, "metadata": metadata })))
}

/// Lists the versions of an entry as the official MCP Registry API does.
///
/// Needs `servers:read`.
#[utoipa::path(
    get, path = "/v0.1/servers/{name}/versions", tag = "marketplace",
    params(("name" = String, Path, description = "The name, in which `/` is written `%2F`.")),
    responses((status = 200, description = "The versions, the newest first.", body = Object), Always, Named)
)]
pub async fn list_official_versions(acting: Acting, Name(name): Name) -> Result<Json<Value>, Problem> {
    acting.require(Scope::ServersRead)?;
    Ok(Json(json!({ "servers": [entry(&name)?.official()], "metadata": { "count": 1 } })))
}

/// Finds a version of an entry as the official MCP Registry API does.
///
/// Needs `servers:read`.
#[utoipa::path(
    get, path = "/v0.1/servers/{name}/versions/{version}", tag = "marketplace",
    params(
        ("name" = String, Path, description = "The name, in which `/` is written `%2F`."),
        ("version" = String, Path, description = "`latest`, or a version."),
    ),
    responses((status = 200, description = "The version.", body = Object), Always, Named)
)]
pub async fn find_official(
    acting: Acting,
    place: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    acting.require(Scope::ServersRead)?;
    let Path((name, version)) = place.map_err(|_| Problem::not_found("entry"))?;
    let entry = entry(&name)?;
    match is_version(entry, &version) {
        true => Ok(Json(entry.official())),
        false => Err(Problem::not_found("version")),
    }
}

fn is_version(entry: &Entry, version: &str) -> bool {
    version == "latest" || entry.document.version == version
}
