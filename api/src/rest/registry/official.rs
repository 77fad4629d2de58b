//! `/v0.1/servers`: the marketplace as the official MCP Registry API (2025-12-01), for callers with `servers:read`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use entity::marketplace::{VersionFilter, WantedVersion};
use protocol::Scope;
use serde_json::{Value, json};

use super::entry::official;
use super::stored;
use crate::app::App;
use crate::http::problem::Problem;
use crate::rest::acting::Acting;
use crate::rest::describe::{Always, Filtered, Named};
use crate::rest::input::form::Read;
use crate::rest::input::parameters::{any, number};
use crate::rest::input::{Name, Parameters, form};

/// Lists versions of all entries as the official MCP Registry API does, by name and version.
///
/// Deleted versions are listed with `updated_since` only. Needs `servers:read`.
#[utoipa::path(
    get, path = "/v0.1/servers", tag = "marketplace",
    params(
        ("cursor" = Option<String>, Query, description = "`metadata.nextCursor` of the page before."),
        ("limit" = Option<u64>, Query, description = "Versions on a page, 30 when not given.", minimum = 1, maximum = 100),
        ("search" = Option<String>, Query, description = "Part of the name, whatever the case."),
        ("updated_since" = Option<String>, Query, description = "Changed at this time or later.", format = DateTime),
        ("version" = Option<String>, Query, description = "`latest`, or a version; all versions when not given."),
    ),
    responses((status = 200, description = "The versions.", body = Object), Always, Filtered)
)]
pub async fn list_official(
    acting: Acting,
    State(app): State<Arc<App>>,
    query: Parameters,
) -> Result<Json<Value>, Problem> {
    acting.require(Scope::ServersRead)?;
    let mut query = query.read()?;
    let after = query.optional_or_empty("cursor", cursor);
    let limit = query.optional("limit", number(1, 100)).unwrap_or(30);
    let search = query.optional_or_empty("search", any);
    let updated_since = query.optional("updated_since", form::moment);
    let version = query.optional_or_empty("version", any).map(wanted);
    query.finish()?;
    let mut found =
        acting.rows(&app).versions(&VersionFilter { after, search, updated_since, version, limit }).await?;
    let more = found.len() as u64 > limit;
    found.truncate(limit as usize);
    let mut metadata = json!({ "count": found.len() });
    if let Some(last) = found.last().filter(|_| more) {
        metadata["nextCursor"] = json!(format!("{}:{}", last.name, last.version));
    }
    let servers: Vec<Value> = found.into_iter().map(official).collect::<Result<_, _>>()?;
    Ok(Json(json!({ "servers": servers, "metadata": metadata })))
}

/// Lists the versions of an entry as the official MCP Registry API does, deleted ones included.
///
/// Needs `servers:read`.
#[utoipa::path(
    get, path = "/v0.1/servers/{name}/versions", tag = "marketplace",
    params(("name" = String, Path, description = "The name, in which `/` is written `%2F`.")),
    responses((status = 200, description = "The versions, the newest first.", body = Object), Always, Named)
)]
pub async fn list_official_versions(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(name): Name,
) -> Result<Json<Value>, Problem> {
    acting.require(Scope::ServersRead)?;
    let found = acting.rows(&app).entry_versions(stored(&name)?).await.map_err(Problem::of("entry"))?;
    let servers: Vec<Value> = found.into_iter().map(official).collect::<Result<_, _>>()?;
    Ok(Json(json!({ "metadata": { "count": servers.len() }, "servers": servers })))
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
    State(app): State<Arc<App>>,
    place: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    acting.require(Scope::ServersRead)?;
    let Path((name, version)) = place.map_err(|_| Problem::not_found("entry"))?;
    let version = wanted(stored(&version)?.to_owned());
    let found = acting.rows(&app).entry_version(stored(&name)?, &version).await;
    Ok(Json(official(found.map_err(Problem::of("version"))?)?))
}

fn wanted(version: String) -> WantedVersion {
    if version == "latest" { WantedVersion::Latest } else { WantedVersion::Exactly(version) }
}

/// Reads a cursor: the name and the version of the last element before.
fn cursor(text: &str) -> Read<(String, String)> {
    let pair = any(text).ok().and_then(|text| {
        let (name, version) = text.split_once(':')?;
        Some((name.to_owned(), version.to_owned()))
    });
    pair.ok_or_else(|| "is `metadata.nextCursor` of the page before, as it is".to_owned())
}
