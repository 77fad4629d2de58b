//! Publication of entries, and changes of them by their publisher or the operator.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use entity::marketplace::{EntryPatch, NewVersion, Status};
use protocol::{Code, Refusal, Scope};
use serde_json::{Value, json};

use super::{EntryBody, shown, stored};
use crate::app::App;
use crate::http::problem::{FieldError, Problem};
use crate::marketplace;
use crate::rest::acting::Acting;
use crate::rest::describe::{Always, Contested, Filtered, Named, Sent, body};
use crate::rest::input::form::{Form, kind_of};
use crate::rest::input::{Fields, Name, NoBody, Payload, form};
use crate::rest::listed::{Created, created};

body!(
    PublicationBody as "Publication", publication, "A version of an entry to be published.",
    {
        "server": {
            "name": "com.example/weather", "description": "Forecasts for a place", "version": "1.0.0",
            "remotes": [{"type": "streamable-http", "url": "https://weather.example.com/mcp"}]
        },
        "category": "utilities", "tags": ["weather"]
    }
);
body!(
    EntryPatchBody as "EntryPatch", patch, "A change of an entry.",
    {"status": "deprecated", "statusMessage": "Use com.example/forecasts."}
);

fn publication(f: &mut Fields) -> Option<NewVersion> {
    let about = "The `server.json` of the official MCP registry (schema 2025-12-11), of at most 64 KiB. Members that \
                 are not used here are kept. `version` is semantic; packages of npm and PyPI name one exact version.";
    let server = f.required("server", published(), about);
    let category = f.required("category", line(64), "What it is for, in a word or two.");
    let tags = f.optional("tags", tags(), "Words by which it is found.").unwrap_or_default();
    match marketplace::read(&server?, category?, tags) {
        Ok(new) => Some(new),
        Err(mistakes) => {
            for FieldError { field, detail } in mistakes {
                f.wrong(&path(&field), detail);
            }
            None
        }
    }
}

/// Returns the path of a mistake in a document.
fn path(field: &str) -> String {
    if field.is_empty() { "server".to_owned() } else { format!("server.{field}") }
}

/// Reads a document; its schema says what `server.json` says of those members that each document has.
fn published() -> Form<Value> {
    let version = r"^(0|[1-9]\d{0,9})\.(0|[1-9]\d{0,9})\.(0|[1-9]\d{0,9})(-[a-z][0-9A-Za-z-]{0,20})?$";
    let line = |pattern: &str, max: usize| json!({"type": "string", "minLength": 1, "maxLength": max, "pattern": pattern});
    document().with("required", json!(["name", "description", "version"])).with(
        "properties",
        json!({
            "name": line(r"^[A-Za-z0-9.-]+/[A-Za-z0-9._-]+$", 200),
            "description": line(r"^[^\u0000-\u001f\u007f-\u009f]+$", 100),
            "version": line(version, 64),
        }),
    )
}

/// Reads an object, whatever its members are.
pub(super) fn document() -> Form<Value> {
    Form::new(json!({ "type": "object" }), |value| match value {
        Value::Object(_) => Ok(value.clone()),
        other => Err(format!("is an object, not {}", kind_of(other))),
    })
}

/// Reads a text of one line.
pub(super) fn line(max: usize) -> Form<String> {
    form::text(1, max).then(|text| match text.chars().any(char::is_control) {
        true => Err("is one line without control characters".to_owned()),
        false => Ok(text),
    })
}

fn tags() -> Form<Vec<String>> {
    form::list(32, line(64))
}

fn patch(f: &mut Fields) -> Option<EntryPatch> {
    f.patching();
    let version = f.optional(
        "version",
        form::text(1, 64),
        "The version that `status` and `statusMessage` are of; all that are not deleted when not given.",
    );
    let words = [("active", Status::Active), ("deprecated", Status::Deprecated)];
    let status = f.optional("status", form::word(words), "Deprecated versions stay installable.");
    let about = "The reason, and what to use instead; null removes it.";
    let status_message = f.clearing("statusMessage", form::text(1, 500), about);
    let category = f.optional("category", line(64), "Not of curated entries.");
    let tags = f.optional("tags", tags(), "Not of curated entries.");
    let featured = f.optional("featured", form::flag(), "The operator's recommendation.");
    let verified = f.optional("verified", form::flag(), "The operator looked at it.");
    Some(EntryPatch { version, status, status_message, category, tags, featured, verified })
}

/// Publishes a version of an entry, which all tenants see.
///
/// The first tenant to publish a name owns it. A version never changes; the latest is the highest by semantic
/// versioning, and a pre-release only while there is no release. Category and tags are those of the last publication.
/// What is published runs nowhere before somebody with `servers:launch` approves the plan of an installation. Needs
/// `marketplace:publish`.
#[utoipa::path(
    post, path = "/v1/mcp/registry", tag = "marketplace", request_body = PublicationBody,
    responses(
        (status = 201, description = "The entry; `Location` is its path.", body = EntryBody),
        Always, Filtered, Sent, Contested
    )
)]
pub async fn publish_entry(
    acting: Acting,
    State(app): State<Arc<App>>,
    payload: Payload,
) -> Result<Created<EntryBody>, Problem> {
    acting.require(Scope::MarketplacePublish)?;
    let new = payload.read(publication)?;
    acting.rows(&app).publish(&new, &acting.actor()).await?;
    let body = shown(&acting, &app, &new.name).await?;
    Ok(created("/v1/mcp/registry", new.name.replace('/', "%2F"), body))
}

/// Changes the status, the category and the tags of an own entry.
///
/// Needs `marketplace:publish`; for another tenant's entry, a curated or an imported one, and for `featured` and
/// `verified` of any, `tenants:admin`.
#[utoipa::path(
    patch, path = "/v1/mcp/registry/{name}", tag = "marketplace", request_body = EntryPatchBody,
    params(("name" = String, Path, description = "The name.", example = "io.github.modelcontextprotocol/server-time")),
    responses(
        (status = 200, description = "The entry as it is now.", body = EntryBody),
        Always, Named, Filtered, Sent, Contested
    )
)]
pub async fn update_entry(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(name): Name,
    payload: Payload,
) -> Result<Json<EntryBody>, Problem> {
    acting.require(Scope::MarketplacePublish)?;
    acting.rows(&app).find_entry(stored(&name)?).await.map_err(Problem::of("entry"))?;
    let patch = payload.read(patch)?;
    if patch.featured.is_some() || patch.verified.is_some() {
        acting.require(Scope::TenantsAdmin)?;
    }
    let has_status = patch.status.is_some() || patch.status_message.is_some();
    if patch == EntryPatch::default() || patch.version.is_some() && !has_status {
        let detail = "the body changes something: status, statusMessage, category, tags, featured or verified; \
                      `version` says which version a status is of";
        return Err(Problem::invalid(vec![FieldError::new("", detail)]));
    }
    change(&acting, &app, &name, &patch).await?;
    Ok(Json(shown(&acting, &app, &name).await?))
}

/// Deletes a version: it is not listed any more, and cannot be installed.
///
/// It stays in `/v0.1/servers` with the status `deleted` for those who ask for changes, and its number cannot be
/// published again. Servers that were installed from it stay. Needs `marketplace:publish`; for an entry that is not
/// the tenant's own, `tenants:admin`.
#[utoipa::path(
    delete, path = "/v1/mcp/registry/{name}/versions/{version}", tag = "marketplace",
    params(
        ("name" = String, Path, description = "The name, in which `/` is written `%2F`."),
        ("version" = String, Path, description = "The version."),
    ),
    responses((status = 204, description = "It is deleted."), Always, Named, Filtered, Sent)
)]
pub async fn delete_entry_version(
    acting: Acting,
    State(app): State<Arc<App>>,
    place: Result<Path<(String, String)>, PathRejection>,
    _: NoBody,
) -> Result<StatusCode, Problem> {
    acting.require(Scope::MarketplacePublish)?;
    let Path((name, version)) = place.map_err(|_| Problem::not_found("entry"))?;
    let version = Some(stored(&version)?.to_owned());
    let patch = EntryPatch { version, status: Some(Status::Deleted), ..EntryPatch::default() };
    change(&acting, &app, &name, &patch).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes an entry of the caller's tenant, or, for the operator, any.
async fn change(acting: &Acting, app: &App, name: &str, patch: &EntryPatch) -> Result<(), Problem> {
    let owner = acting.rows(app).entry_owner(stored(name)?).await.map_err(Problem::of("entry"))?;
    let (rows, actor) = (acting.rows(app), acting.actor());
    let changed = match (owner == Some(acting.tenant()), acting.has(Scope::TenantsAdmin)) {
        (true, _) => rows.update_entry(name, patch, &actor).await,
        (false, true) => app.db.operator().update_entry(name, patch, &actor).await,
        (false, false) => {
            let reason =
                format!("the entry `{name}` is not this tenant's: its publisher and the operator change it");
            return Err(Refusal::new(Code::MissingScope, reason)
                .rule("publisher of the entry, scope tenants:admin")
                .hint("`GET /v1/mcp/registry?mine=true` lists the tenant's own")
                .into());
        }
    };
    changed.map_err(Problem::of("version"))
}
