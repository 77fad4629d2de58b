//! Import of entries by the operator: from the body, or from a registry that serves the official Registry API.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use entity::Transport;
use entity::marketplace::{Imported, NewVersion, Status};
use protocol::{Code, Refusal, Scope};
use proxy::egress::{EgressError, Url};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::publish::{document, line};
use crate::app::App;
use crate::config::remote_address;
use crate::http::problem::{FieldError, Problem};
use crate::marketplace;
use crate::marketplace::remote_registry::{MAX_TIME, Pages, Trouble};
use crate::rest::acting::Acting;
use crate::rest::describe::{Always, Asked, Filtered, Sent, body};
use crate::rest::input::{Fields, Payload, form};

body!(
    ImportBody as "Import", import, "Entries to be imported, or the address of the registry that has them.",
    {"url": "https://registry.example.com"}
);

/// Documents of one transaction, in which SQLite lets no other change in.
const AT_ONCE: usize = 100;

/// Result of an import.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ImportResult)]
pub struct ImportedBody {
    added: usize,
    /// Known versions whose status followed the registry.
    updated: usize,
    unchanged: usize,
    refused: usize,
    /// The reason why a registry was not read to its end; what was read before is imported.
    incomplete: Option<String>,
    items: Vec<ImportedItem>,
}

/// Outcome of one version.
#[derive(Serialize, ToSchema)]
#[schema(as = ImportedItem)]
pub struct ImportedItem {
    /// Null where the document has none.
    name: Option<String>,
    version: Option<String>,
    #[schema(pattern = "^(added|updated|unchanged|refused)$")]
    outcome: &'static str,
    /// The reason of a refusal.
    reason: Option<String>,
}

struct Import {
    from: From,
    category: String,
}

enum From {
    Body(Vec<Value>),
    Registry(Url),
}

fn import(f: &mut Fields) -> Option<Import> {
    let about = "Documents (`server.json`), or elements of a list of the official Registry API.";
    let servers = f.optional("servers", form::list(1_000, document()), about);
    let address = form::text(1, 2_048).then(|text| remote_address::url(&text, Transport::StreamableHttp));
    let about = "The address of a registry that serves `GET /v0.1/servers` below it. It is public, unless the \
                 operator opened its network.";
    let url = f.optional("url", address, about);
    let category =
        f.optional("category", line(64), "The category of what is imported; `imported` when not given.");
    let category = category.unwrap_or_else(|| "imported".to_owned());
    let from = match (servers, url) {
        (Some(servers), None) => From::Body(servers),
        (None, Some(url)) => From::Registry(url),
        (None, None) | (Some(_), Some(_)) => {
            f.wrong("servers", "or `url` is given, and not both");
            return None;
        }
    };
    Some(Import { from, category })
}

/// Imports entries that belong to no tenant. A second time nothing changes.
///
/// Versions never change: one that is here with another document is refused, as is a name that is curated or a
/// tenant's. At most 500 pages of 8 MiB are read in 2 minutes. Needs `tenants:admin`.
#[utoipa::path(
    post, path = "/v1/mcp/registry/import", tag = "marketplace", request_body = ImportBody,
    responses(
        (status = 200, description = "What became of each version.", body = ImportedBody),
        Always, Filtered, Sent, Asked
    )
)]
pub async fn import_entries(
    acting: Acting,
    State(app): State<Arc<App>>,
    payload: Payload,
) -> Result<Json<ImportedBody>, Problem> {
    acting.require(Scope::TenantsAdmin)?;
    let Import { from, category } = payload.read(import)?;
    let mut items = Vec::new();
    let incomplete = match from {
        From::Body(servers) => {
            for some in servers.chunks(AT_ONCE) {
                items.extend(take(&acting, &app, some, &category).await?);
            }
            None
        }
        From::Registry(url) => follow(&acting, &app, &url, &category, &mut items).await?,
    };
    let count = |outcome: &str| items.iter().filter(|item| item.outcome == outcome).count();
    Ok(Json(ImportedBody {
        added: count("added"),
        updated: count("updated"),
        unchanged: count("unchanged"),
        refused: count("refused"),
        incomplete,
        items,
    }))
}

/// Imports all pages of a registry; returns the reason why it was not read to its end. Fails if its first page cannot
/// be read.
async fn follow(
    acting: &Acting,
    app: &App,
    url: &Url,
    category: &str,
    items: &mut Vec<ImportedItem>,
) -> Result<Option<String>, Problem> {
    let begun = Instant::now();
    let mut pages = Pages::of(&app.egress, url);
    loop {
        if begun.elapsed() > MAX_TIME {
            return Ok(Some(format!("the registry was read for {} s", MAX_TIME.as_secs())));
        }
        match pages.next().await {
            Ok(None) => return Ok(None),
            Ok(Some(servers)) => items.extend(take(acting, app, &servers, category).await?),
            Err(Trouble::Bound(reason)) => return Ok(Some(reason)),
            Err(Trouble::Egress(error)) if items.is_empty() => return Err(unreached(&error)),
            Err(Trouble::Egress(error)) => return Ok(Some(error.to_string())),
        }
    }
}

fn unreached(error: &EgressError) -> Problem {
    let code = match error {
        EgressError::NotUrl(_) | EgressError::Scheme(_) | EgressError::NotPublic { .. } => {
            return Problem::invalid(vec![FieldError::new("url", format!("is refused: {error}"))]);
        }
        EgressError::TimedOut { .. } => Code::TimedOut,
        EgressError::Redirect { .. }
        | EgressError::TooManyRedirects { .. }
        | EgressError::Unreachable { .. }
        | EgressError::Broken { .. }
        | EgressError::Status { .. }
        | EgressError::TooLarge { .. }
        | EgressError::NotJson { .. }
        | EgressError::Client(_) => Code::UpstreamFailed,
    };
    Refusal::new(code, error.to_string())
        .hint("`url` is the address below which the registry serves /v0.1/servers")
        .into()
}

/// Imports the documents that can be read, and says of each what became of it.
async fn take(
    acting: &Acting,
    app: &App,
    servers: &[Value],
    category: &str,
) -> Result<Vec<ImportedItem>, Problem> {
    let read: Vec<(&Value, Result<NewVersion, String>)> =
        servers.iter().map(|one| version(one, category)).collect();
    let good: Vec<NewVersion> = read.iter().filter_map(|(_, one)| one.as_ref().ok().cloned()).collect();
    let mut outcomes = app.db.operator().import(&good, &acting.actor()).await?.into_iter();
    let item = |(document, read): (&Value, Result<NewVersion, String>)| {
        let outcome = read.map_or_else(Imported::Refused, |_| {
            outcomes.next().expect("each document that was read has an outcome")
        });
        let text = |name: &str| document[name].as_str().map(form::shortened);
        let (name, version) = (text("name"), text("version"));
        let (outcome, reason) = match outcome {
            Imported::Added => ("added", None),
            Imported::Updated => ("updated", None),
            Imported::Unchanged => ("unchanged", None),
            Imported::Refused(reason) => ("refused", Some(reason)),
        };
        ImportedItem { name, version, outcome, reason }
    };
    Ok(read.into_iter().map(item).collect())
}

/// Reads a document, or an element of a list of the official Registry API with its status and time.
fn version<'a>(element: &'a Value, category: &str) -> (&'a Value, Result<NewVersion, String>) {
    let document = element.get("server").filter(|server| server.is_object()).unwrap_or(element);
    let facts = &element["_meta"]["io.modelcontextprotocol.registry/official"];
    let read = || {
        let new = marketplace::read(document, category.to_owned(), Vec::new());
        let new = new.map_err(|mistakes| sentence(&mistakes))?;
        let status = stated(facts, "status", Status::parse)?.unwrap_or(Status::Active);
        let published_at = stated(facts, "publishedAt", |at| at.parse().ok())?;
        Ok(NewVersion { status, published_at, ..new })
    };
    (document, read())
}

/// Reads what a registry says of a version beside its document, if it does.
fn stated<T>(facts: &Value, name: &str, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>, String> {
    let text = match &facts[name] {
        Value::Null => return Ok(None),
        Value::String(text) => text.as_str(),
        other => return Err(format!("its {name} is {}, not a text", form::kind_of(other))),
    };
    read(text).map(Some).ok_or_else(|| format!("its {name} is not known: `{}`", form::shortened(text)))
}

fn sentence(mistakes: &[FieldError]) -> String {
    let one = |mistake: &FieldError| match mistake.field.as_str() {
        "" => mistake.detail.clone(),
        field => format!("{field} {}", mistake.detail),
    };
    mistakes.iter().map(one).collect::<Vec<_>>().join("; ")
}
