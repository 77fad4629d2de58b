//! Installation of an entry. It first shows the exact program and arguments, or the address, and is carried out when
//! the caller approves their digest.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use entity::marketplace::{Entry, EntryVersion, Status, WantedVersion};
use protocol::{Code, Refusal, Scope};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::entry::document_of;
use crate::app::App;
use crate::http::problem::Problem;
use crate::marketplace;
use crate::marketplace::document::Document;
use crate::marketplace::plan::Plan;
use crate::rest::acting::Acting;
use crate::rest::describe::{Always, Contested, Filtered, Named, Sent, ServerSlug, body};
use crate::rest::input::form::Form;
use crate::rest::input::{Fields, Name, Payload, form};
use crate::rest::servers::answer::ServerBody;
use crate::rest::servers::{forms, register};

body!(
    InstallBody as "Install", install, "An installation, or the request for its plan.",
    {"transport": "stdio", "inputs": {"directory": "/srv/files"}}
);

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
    /// Values among these that the entry gives, and not the caller, by name.
    #[schema(value_type = Object)]
    fixed: BTreeMap<String, String>,
    /// The value of `approve` that carries this plan out.
    #[schema(pattern = "^sha256:[0-9a-f]{64}$")]
    digest: String,
}

struct Install {
    version: Option<String>,
    slug: Option<protocol::Slug>,
    remote: bool,
    inputs: BTreeMap<String, String>,
    approve: Option<String>,
}

fn install(f: &mut Fields) -> Option<Install> {
    let version = f.optional("version", form::text(1, 64), "The version; the latest when not given.");
    let slug = f.optional("slug", form::slug(), "The slug of the server; that of the entry when not given.");
    let transport = form::word([("stdio", false), ("streamable-http", true)]);
    let about = "How it is installed, for an entry that offers both; stdio when not given and offered.";
    let remote = f.optional("transport", transport, about);
    let inputs = f.optional("inputs", inputs(), "Values for what the entry asks for, by name.");
    let about =
        "The digest of the plan that is carried out; without it the plan is shown, and nothing is done.";
    let approve = f.optional("approve", form::text(71, 71), about);
    let (remote, inputs) = (remote.unwrap_or(false), inputs.unwrap_or_default());
    Some(Install { version, slug, remote, inputs, approve })
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
    let Install { version, slug, remote, inputs, approve } = payload.read(install)?;
    let (entry, version) = wanted(&acting, &app, &name, version).await?;
    let document = document_of(&version.document)?;
    let remote = remote || document.package().is_none() && document.remote().is_some();
    let plan = Plan::of(&document, remote, &inputs).map_err(Problem::invalid)?;
    let slug = slug.map_or_else(|| marketplace::slug(&name), |slug| slug.to_string());
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
            fixed: plan.fixed,
            digest,
        };
        return Ok(Json(body).into_response());
    };
    if approved != digest {
        let reason = "the plan is another one than was approved: the entry or an input has changed";
        let hint = "send it without `approve`, look at the plan, and approve its digest";
        return Err(Refusal::new(Code::Conflict, reason).fact("digest", digest).hint(hint).into());
    }
    let registration =
        Fields::read(server(&entry, &document, slug, plan).to_string().as_bytes(), forms::new_server)?;
    let registered = register(&acting, &app, registration).await?;
    let noted = acting.rows(&app).note_install(&name, &version.version, &digest, &acting.actor()).await;
    if let Err(error) = noted {
        // The server is there: its installation does not fail for the count.
        tracing::warn!(entry = name, error = error.detail(), "an installation was not counted");
    }
    Ok(registered.into_response())
}

/// Returns the entry with the version that is to be installed: the latest, or one that is not deleted.
async fn wanted(
    acting: &Acting,
    app: &App,
    name: &str,
    version: Option<String>,
) -> Result<(Entry, EntryVersion), Problem> {
    let rows = acting.rows(app);
    let entry = rows.find_entry(name).await.map_err(Problem::of("entry"))?;
    let Some(version) = version else {
        let latest = entry.latest.clone();
        return Ok((entry, latest));
    };
    let found =
        rows.entry_version(name, &WantedVersion::Exactly(version)).await.map_err(Problem::of("version"))?;
    match found.status {
        Status::Active | Status::Deprecated => Ok((entry, found)),
        Status::Deleted => Err(Problem::not_found("version")),
    }
}

/// Returns the registration of a plan, as a client would send it.
fn server(entry: &Entry, document: &Document, slug: String, plan: Plan) -> Value {
    let mut body = json!({
        "slug": slug,
        "name": document.title.as_ref().unwrap_or(&document.name),
        "description": document.description,
        "category": entry.category,
        "tags": entry.tags,
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
