//! Answers about entries of the marketplace: the entry with its sums, and the official shape of a version. The tenant
//! of a publication is never shown.

use entity::marketplace::{Entry, EntryVersion};
use protocol::{Code, Refusal, TenantId};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::http::problem::Problem;
use crate::marketplace;
use crate::marketplace::document::Document;
use crate::rest::describe::Moment;

/// An entry of the marketplace, with its latest version.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RegistryEntry)]
pub struct EntryBody {
    #[schema(example = "io.github.modelcontextprotocol/server-time")]
    name: String,
    title: Option<String>,
    description: String,
    version: String,
    category: String,
    tags: Vec<String>,
    /// `stdio` for a package that is run here, `streamable-http` for a hosted server.
    transports: Vec<&'static str>,
    /// `curated` for an entry of the program, `published` by a tenant, `imported` by the operator.
    #[schema(pattern = "^(curated|published|imported)$")]
    source: &'static str,
    /// True if the caller's tenant published it.
    mine: bool,
    /// True if the operator recommends it.
    featured: bool,
    /// True if the operator looked at it.
    verified: bool,
    #[schema(pattern = "^(active|deprecated)$")]
    status: &'static str,
    /// The reason of the status, and what to use instead.
    status_message: Option<String>,
    rating: RatingSums,
    /// Number of tenants that have installed it.
    installs: i64,
    /// The tool that was called before the entry was taken in, and the answer; of curated entries.
    tried: Option<&'static str>,
    /// The reason why none was called; of curated entries.
    not_tried: Option<&'static str>,
    /// Facts to know before an installation; of curated entries.
    note: Option<&'static str>,
    #[schema(value_type = Moment)]
    published_at: jiff::Timestamp,
    #[schema(value_type = Moment)]
    updated_at: jiff::Timestamp,
    /// The official document (`server.json`), as it is.
    #[schema(value_type = Object)]
    server: Box<RawValue>,
}

/// Ratings of all tenants together.
#[derive(Serialize, ToSchema)]
pub struct RatingSums {
    /// 1 to 5; null without a rating.
    #[schema(example = 4.5)]
    average: Option<f64>,
    count: i64,
}

impl EntryBody {
    /// Returns the entry as a tenant sees it.
    pub fn of(entry: Entry, tenant: TenantId) -> Result<EntryBody, Problem> {
        let document = document_of(&entry.latest.document)?;
        let facts = marketplace::find_curated(&entry.name)
            .filter(|_| entry.source == entity::marketplace::Source::Curated)
            .map(|curated| &curated.facts);
        let average = (entry.ratings > 0).then(|| entry.stars as f64 / entry.ratings as f64);
        Ok(EntryBody {
            transports: document.transports(),
            title: document.title,
            description: document.description,
            version: entry.latest.version,
            name: entry.name,
            category: entry.category,
            tags: entry.tags,
            source: entry.source.as_str(),
            mine: entry.owner == Some(tenant),
            featured: entry.featured,
            verified: entry.verified,
            status: entry.latest.status.as_str(),
            status_message: entry.latest.status_message,
            rating: RatingSums { average, count: entry.ratings },
            installs: entry.installs,
            tried: facts.and_then(|facts| facts.tried.as_deref()),
            not_tried: facts.and_then(|facts| facts.not_tried.as_deref()),
            note: facts.and_then(|facts| facts.note.as_deref()),
            published_at: entry.created_at,
            updated_at: entry.updated_at,
            server: raw(entry.latest.document)?,
        })
    }
}

/// Reads a stored document.
pub fn document_of(text: &str) -> Result<Document, Problem> {
    serde_json::from_str(text).map_err(|error| unreadable(&error))
}

/// Returns a version as the official Registry API shows it.
pub fn official(version: EntryVersion) -> Result<Value, Problem> {
    let mut facts = json!({
        "status": version.status.as_str(),
        "publishedAt": version.published_at,
        "updatedAt": version.updated_at,
        "isLatest": version.is_latest,
    });
    if let Some(message) = version.status_message {
        facts["statusMessage"] = message.into();
    }
    let server: Value = serde_json::from_str(&version.document).map_err(|error| unreadable(&error))?;
    Ok(json!({ "server": server, "_meta": { "io.modelcontextprotocol.registry/official": facts } }))
}

fn raw(document: String) -> Result<Box<RawValue>, Problem> {
    RawValue::from_string(document).map_err(|error| unreadable(&error))
}

fn unreadable(error: &serde_json::Error) -> Problem {
    tracing::error!(%error, "a stored entry cannot be read");
    Refusal::new(Code::Internal, "the database holds something unexpected").into()
}
