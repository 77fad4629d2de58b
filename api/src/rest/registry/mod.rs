//! `/v1/mcp/registry`: the marketplace. Entries are the same for all tenants: those of the program, those that tenants
//! publish, and those that the operator imports.

mod entry;
pub mod import;
pub mod install;
pub mod official;
pub mod publish;
pub mod ratings;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use entity::marketplace::EntryFilter;
use protocol::Scope;

use crate::app::App;
use crate::http::problem::Problem;
use crate::rest::acting::Acting;
use crate::rest::describe::{Always, Filtered, Named};
use crate::rest::input::parameters::{any, one_of};
use crate::rest::input::{Name, Parameters};
use crate::rest::listed::PageOf;
pub use entry::EntryBody;

/// Lists the entries of the marketplace, by name.
///
/// Needs `servers:read`.
#[utoipa::path(
    get, path = "/v1/mcp/registry", tag = "marketplace",
    params(
        ("search" = Option<String>, Query, description = "Part of the name, the title, the description or a tag, whatever the case."),
        ("category" = Option<String>, Query, description = "The category, exactly."),
        ("tag" = Option<String>, Query, description = "A tag, exactly."),
        ("transport" = Option<String>, Query, description = "A way to install it.", pattern = "^(stdio|streamable-http)$"),
        ("featured" = Option<bool>, Query, description = "Whether the operator recommends it."),
        ("verified" = Option<bool>, Query, description = "Whether the operator looked at it."),
        ("mine" = Option<bool>, Query, description = "Whether the caller's tenant published it."),
        ("page" = Option<u64>, Query, description = "Which page, from 1.", minimum = 1, maximum = 1_000_000_000),
        ("pageSize" = Option<u64>, Query, description = "Items on a page, 50 when not given.", minimum = 1, maximum = 500),
    ),
    responses((status = 200, description = "The entries.", body = PageOf<EntryBody>), Always, Filtered)
)]
pub async fn list_entries(
    acting: Acting,
    State(app): State<Arc<App>>,
    query: Parameters,
) -> Result<Json<PageOf<EntryBody>>, Problem> {
    acting.require(Scope::ServersRead)?;
    let mut query = query.read()?;
    let [search, category, tag] = ["search", "category", "tag"].map(|name| query.optional(name, any));
    let transports = ["stdio", "streamable-http"];
    let is_remote = |text: &str| transports.contains(&text).then_some(text != "stdio");
    let remote = query.optional("transport", one_of(is_remote, &transports));
    let flag = |text: &str| text.parse().ok();
    let [featured, verified, mine] =
        ["featured", "verified", "mine"].map(|name| query.optional(name, one_of(flag, &["true", "false"])));
    let page = query.page();
    query.finish()?;
    let filter = EntryFilter { search, category, tag, remote, featured, verified, mine };
    let rows = acting.rows(&app).entries(&filter, page).await?;
    let shown = rows.try_map(|entry| EntryBody::of(entry, acting.tenant()))?;
    Ok(PageOf::of(shown, |entry| entry))
}

/// Finds an entry by its name, in which `/` is written `%2F`.
///
/// Needs `servers:read`.
#[utoipa::path(
    get, path = "/v1/mcp/registry/{name}", tag = "marketplace",
    params(("name" = String, Path, description = "The name.", example = "io.github.modelcontextprotocol/server-time")),
    responses((status = 200, description = "The entry.", body = EntryBody), Always, Named)
)]
pub async fn find_entry(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(name): Name,
) -> Result<Json<EntryBody>, Problem> {
    acting.require(Scope::ServersRead)?;
    Ok(Json(shown(&acting, &app, &name).await?))
}

/// Returns an entry as the caller sees it.
async fn shown(acting: &Acting, app: &App, name: &str) -> Result<EntryBody, Problem> {
    let entry = acting.rows(app).find_entry(stored(name)?).await.map_err(Problem::of("entry"))?;
    EntryBody::of(entry, acting.tenant())
}

/// Returns a name that a row can have; others are not found, as one of the databases refuses a NUL.
fn stored(name: &str) -> Result<&str, Problem> {
    if name.contains('\0') { Err(Problem::not_found("entry")) } else { Ok(name) }
}
