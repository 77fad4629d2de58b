//! `/v1/mcp/servers/{id}/discover`: fresh lists of a server. Lists are shown as the server gave them, and
//! missing ones are named.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use entity::DiscoveredList;
use protocol::{Refusal, Scope, ServerId, members, names};
use proxy::catalog::{Item, ListKind, Listing};
use proxy::policy::Policy;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::problem::Problem;
use crate::pipeline::upstreams::Upstreams;
use crate::rest::acting::Acting;
use crate::rest::describe::{Always, Asked, Contested, Filtered, Named, ServerIdText, ServerSlug};
use crate::rest::input::{Name, Parameters};
use crate::rest::servers::changes::{self, ChangesBody};
use crate::rest::servers::definitions::DefinitionsBody;
use crate::rest::servers::process::{Running, running, switched_on};

/// The lists of a server.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Discovery)]
pub struct DiscoveryBody {
    #[schema(value_type = ServerIdText)]
    server_id: ServerId,
    #[schema(value_type = ServerSlug)]
    slug: String,
    /// The negotiated protocol revision.
    #[schema(example = "2025-11-25")]
    protocol_version: String,
    /// Name and version, as the server gives them.
    #[schema(value_type = Object)]
    server_info: Value,
    #[schema(value_type = Object)]
    capabilities: Value,
    instructions: Option<String>,
    tools_count: usize,
    /// The tools, as the server gives them.
    #[schema(value_type = Vec<Object>)]
    tools: Vec<Box<RawValue>>,
    /// The names under which the tools are called here, in the same order.
    #[schema(example = json!(["time__get_current_time"]))]
    call_as: Vec<String>,
    #[schema(value_type = Vec<Object>)]
    resources: Vec<Box<RawValue>>,
    #[schema(value_type = Vec<Object>)]
    resource_templates: Vec<Box<RawValue>>,
    #[schema(value_type = Vec<Object>)]
    prompts: Vec<Box<RawValue>>,
    /// Names that came, went or changed since the tenant's last discovery, of those that the caller may see.
    changes: ChangesBody,
    /// Warnings about the definitions, and those that are left out of lists of all servers.
    definitions: DefinitionsBody,
    /// Notes on these lists: that one is empty, or goes on.
    notes: Vec<String>,
    /// Lists that the server did not give.
    missing: Vec<MissingList>,
}

/// A list that is not available.
#[derive(Serialize, ToSchema)]
pub struct MissingList {
    #[schema(example = "prompts")]
    list: &'static str,
    #[schema(example = "timed_out")]
    code: &'static str,
    reason: String,
}

/// Result of the handshake.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Handshake {
    server_info: Value,
    capabilities: Value,
    instructions: Option<String>,
}

/// Fetches a server's tools, resources, resource templates and prompts.
///
/// Starts the server when needed, and stores its lists, the number of its tools and its capabilities; the next
/// discovery names the changes in `changes`. A server that lists nothing is `degraded`, and a note says so. Needs
/// `servers:read`.
#[utoipa::path(
    get, path = "/v1/mcp/servers/{id}/discover", tag = "servers",
    params(("id" = String, Path, description = "The server's id or slug.", example = "calculator")),
    responses((status = 200, description = "What it has.", body = DiscoveryBody), Always, Named, Filtered, Contested, Asked)
)]
pub async fn discover_server(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(name): Name,
    query: Parameters,
) -> Result<Json<DiscoveryBody>, Problem> {
    acting.require(Scope::ServersRead)?;
    query.none()?;
    let running = running(&app, &acting, &name).await?;
    switched_on(&running.server)?;
    let view = app.gateway.upstreams.directory.view(acting.tenant()).await?;
    let member = view.members().iter().find(|member| member.spec.id == running.server.id);
    let policy = member.map(|member| member.policy(acting.caller.agent));
    policy.as_ref().map_or(Ok(()), Policy::server)?;
    let rows = acting.rows(&app);
    let before = rows.discovered_lists(running.server.id).await.map_err(Problem::of("server"))?;
    let (found, listings) = ask(&app, &running, policy.as_ref(), &before).await?;
    if let [Some(tools), ..] = &listings {
        let count = i32::try_from(tools.items.len()).unwrap_or(i32::MAX);
        let kept = rows.record_discovery(running.server.id, count, found.capabilities.clone()).await;
        kept.map_err(Problem::of("server"))?;
    }
    let kept = rows.store_discovered(running.server.id, &changes::discovered(&listings)).await;
    kept.map_err(Problem::of("server"))?;
    Ok(Json(found))
}

type Listings = [Option<Arc<Listing>>; 4];

/// Requests all lists; returns what the policy shows to the caller, and the lists.
async fn ask(
    app: &App,
    running: &Running,
    policy: Option<&Policy>,
    before: &[DiscoveredList],
) -> Result<(DiscoveryBody, Listings), Refusal> {
    let Running { server, spec, .. } = running;
    let selected = running.select(app).await?;
    let Upstreams { catalog, pool, .. } = &app.gateway.upstreams;
    let patience = Duration::from_millis(app.config.calls.list_timeout_ms);
    let until = Instant::now() + spec.start_timeout.value;
    let initialized = pool.initialized(&selected, until).await?;
    let (handshake, fault) = match serde_json::from_slice::<Handshake>(&initialized.result) {
        Ok(handshake) => (handshake, None),
        Err(error) => (Handshake::default(), Some(format!("its handshake cannot be read: {error}"))),
    };
    let mut missing = Vec::new();
    let mut listings: Listings = [const { None }; 4];
    for kind in ListKind::ALL {
        match catalog.requested(&selected, kind, Instant::now() + patience).await {
            Ok(listing) => listings[kind as usize] = Some(listing),
            Err(refusal) => missing.push(MissingList {
                list: kind.member(),
                code: refusal.code.as_str(),
                reason: refusal.reason.into_owned(),
            }),
        }
    }
    let [tools, resources, templates, prompts] = &listings;
    let mut notes: Vec<String> =
        listings.iter().flatten().filter_map(|listing| listing.note.clone()).collect();
    notes.extend(fault);
    if listings.iter().all(|listing| listing.as_ref().is_some_and(|listing| listing.is_empty())) {
        notes.push("the server answers, but lists no tools, resources or prompts".to_owned());
    } else if tools.as_ref().is_some_and(|tools| tools.items.is_empty()) {
        notes.push("the server answers, and lists no tools".to_owned());
    }
    let shown =
        |kind: ListKind| move |item: &Item| policy.is_none_or(|policy| policy.shows(kind, Some(&item.name)));
    let is_shown = shown(ListKind::Tools);
    let shown_as = |name| policy.map_or(Some(name), |policy| policy.shown_tool(name));
    let call_as = tools.iter().flat_map(|tools| &tools.items).filter(|item| is_shown(item));
    let exposed = |name: &str| names::exposed_tool(&spec.slug, name);
    let lists = ListKind::ALL.into_iter().zip(&listings);
    let lists = lists.filter_map(|(kind, listing)| Some((kind, listing.as_deref()?)));
    let call_as: Vec<String> = call_as.filter_map(|item| shown_as(&item.name)).map(exposed).collect();
    let found = DiscoveryBody {
        changes: ChangesBody::between(before, &changes::discovered(&listings), policy),
        definitions: DefinitionsBody::of(server.id, policy, lists),
        server_id: server.id,
        slug: server.slug.to_string(),
        protocol_version: initialized.protocol_version.clone(),
        server_info: handshake.server_info,
        capabilities: handshake.capabilities,
        instructions: handshake.instructions,
        tools_count: call_as.len(),
        call_as,
        tools: raw(tools.as_deref(), is_shown),
        resources: raw(resources.as_deref(), shown(ListKind::Resources)),
        resource_templates: raw(templates.as_deref(), shown(ListKind::ResourceTemplates)),
        prompts: raw(prompts.as_deref(), shown(ListKind::Prompts)),
        notes,
        missing,
    };
    Ok((found, listings))
}

fn raw(listing: Option<&Listing>, is_shown: impl Fn(&Item) -> bool) -> Vec<Box<RawValue>> {
    let Some(listing) = listing else { return Vec::new() };
    let shown = listing.items.iter().filter(|item| is_shown(item));
    shown.map(|item| members::raw(listing.raw(item))).collect()
}
