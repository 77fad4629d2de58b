//! The OpenAPI document, and Swagger UI that shows it. The routes describe themselves; this file has the
//! parts that routes share.

pub mod rpc;

use std::sync::Arc;

use axum::Router;
use serde_json::Value;
use utoipa::openapi::path::{ParameterBuilder, ParameterIn};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, Ref, RefOr, Required, ResponseBuilder,
    SecurityRequirement,
};
use utoipa::openapi::{OpenApiBuilder, tag::TagBuilder};
use utoipa::{PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use crate::app::App;
use crate::http::headers::API_KEY;
use crate::http::paths;
use crate::http::problem::{FieldError, MEDIA_TYPE, ProblemBody};
use crate::ops::endpoints;
use crate::rest::MAX_TEXT;
use crate::rest::describe;
use crate::{http, rest};

/// Meanings of the document's tags, in their order.
const TAGS: [(&str, &str); 12] = [
    ("mcp", "For MCP clients: Streamable HTTP, revisions 2024-11-05 to 2026-07-28."),
    ("call", "Calling tools: JSON-RPC, and one call as plain REST."),
    ("servers", "The registry of MCP servers, and how each is doing."),
    ("configs", "What a tenant or one of its agents may do with a server."),
    ("marketplace", "Servers to install, and how each was tried."),
    ("executions", "The record of calls."),
    ("tenants", "Tenants: the boundary nothing crosses."),
    ("agents", "Agents: the clients of a tenant."),
    ("keys", "API keys and tokens."),
    ("tasks", "Tasks that agents share: workspaces, leases, logs."),
    ("audit", "Who changed what."),
    ("operations", "Whether the gateway lives and is ready."),
];

const ABOUT: &str = "Trunkline is a registry and gateway for MCP servers: tenants register servers, agents reach every \
tool through one endpoint, and every call is on record.\n\nCallers send an API key (`X-MCP-Key`) or a token \
(`Authorization: Bearer`). A caller from the gateway's own machine needs neither where the loopback bypass is on. \
`X-Agent-Id` names the agent of a caller that has none of its own, `X-Tenant-Id` the tenant that an operator acts \
for. Refusals are `application/problem+json` with a stable `code`, a sentence, and a hint where there is something \
to do.";

/// Returns the whole document.
pub fn document() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Trunkline")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(LicenseBuilder::new().name("MIT").identifier(Some("MIT")).build()))
        .build();
    let tags = TAGS.map(|(name, about)| TagBuilder::new().name(name).description(Some(about)).build());
    // Any one of these credentials, or none from a trusted connection.
    let security = [
        SecurityRequirement::new("key", [] as [&str; 0]),
        SecurityRequirement::new("bearer", [] as [&str; 0]),
        SecurityRequirement::default(),
    ];
    let shared = OpenApiBuilder::new().info(info).tags(Some(tags)).security(Some(security)).build();
    let routes = OpenApiRouter::with_openapi(shared).merge(http::router()).merge(endpoints::router());
    let (_, mut document) = routes.merge(rest::router()).split_for_parts();
    name_wildcards(&mut document);
    add_one_server(&mut document);
    add_components(&mut document);
    state_parameters(&mut document);
    document
}

/// States of each parameter that it is not null, and of texts of queries what all of them keep to.
fn state_parameters(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        let parameters =
            operations.into_iter().flatten().flat_map(|operation| operation.parameters.iter_mut().flatten());
        for parameter in parameters {
            let RefOr::T(parameter) = parameter else { continue };
            let Some(schema) = &mut parameter.schema else { continue };
            let mut stated = serde_json::to_value(&*schema).expect("a schema is JSON");
            // The official Registry API takes empty texts.
            let is_text = parameter.parameter_in == ParameterIn::Query && !path.starts_with("/v0.1");
            state(&mut stated, is_text);
            *schema = serde_json::from_value(stated).expect("a schema with other keywords is one");
        }
    }
}

fn state(schema: &mut Value, is_text: bool) {
    if let Value::Array(types) = &schema["type"] {
        schema["type"] = types.iter().find(|kind| *kind != "null").cloned().unwrap_or_default();
    }
    let is_plain = ["pattern", "format", "enum"].iter().all(|keyword| schema.get(keyword).is_none());
    if is_text && is_plain && schema["type"] == "string" {
        for (keyword, limit) in TEXT {
            schema[keyword] = limit();
        }
    }
}

type Keyword = (&'static str, fn() -> Value);

/// Keywords of a text of a query.
const TEXT: [Keyword; 3] =
    [("minLength", || 1.into()), ("maxLength", || MAX_TEXT.into()), ("pattern", || r"^[^\u0000]*$".into())];

/// Returns the document as it is served and committed.
pub fn text() -> String {
    let mut text = document().to_pretty_json().expect("the document is JSON");
    text.push('\n');
    text
}

/// Returns the routes of `/openapi.json`, and of Swagger UI at `/docs`, which loads nothing from elsewhere.
pub fn routes() -> Router<Arc<App>> {
    let config = utoipa_swagger_ui::Config::from("/openapi.json").try_it_out_enabled(true);
    SwaggerUi::new("/docs").url("/openapi.json", document()).config(config).into()
}

/// Copies the operations of `/mcp` to the endpoint of one server.
fn add_one_server(document: &mut OpenApi) {
    let mut item = document.paths.paths.get(paths::MCP).expect("it is a route").clone();
    let slug = ParameterBuilder::new()
        .name("slug")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some("The server's slug."))
        .schema(Some(String::schema()))
        .example(Some("calculator".into()))
        .build();
    for operation in [&mut item.post, &mut item.get, &mut item.delete].into_iter().flatten() {
        operation.parameters.get_or_insert_default().insert(0, slug.clone().into());
        operation.operation_id = operation.operation_id.as_ref().map(|id| format!("{id}_server"));
    }
    let strict = ParameterBuilder::new()
        .name("strict")
        .parameter_in(ParameterIn::Query)
        .description(Some("True for lists without definitions that official clients refuse."))
        .schema(Some(bool::schema()))
        .build();
    if let Some(post) = &mut item.post {
        post.parameters.get_or_insert_default().push(strict.into());
    }
    document.paths.paths.insert(format!("{}{{slug}}", paths::SERVER), item);
}

/// Names the rest of a path as OpenAPI does: `{path}` and not `{*path}`.
fn name_wildcards(document: &mut OpenApi) {
    let paths = std::mem::take(&mut document.paths.paths);
    document.paths.paths = paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
}

/// Adds the schemas and responses that routes refer to by name.
fn add_components(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    components.schemas.extend(describe::schemas().into_iter().chain(rpc::schemas()));
    components.schemas.insert("FieldError".to_owned(), FieldError::schema());
    components.schemas.insert(ProblemBody::name().into_owned(), ProblemBody::schema());
    for (name, about) in describe::PROBLEMS {
        let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name(ProblemBody::name()))).build();
        let response = ResponseBuilder::new().description(*about).content(MEDIA_TYPE, problem).build();
        components.responses.insert((*name).to_owned(), response.into());
    }
    let key = ApiKeyValue::with_description(API_KEY.as_str(), "An API key, from `POST /v1/keys`.");
    components.add_security_scheme("key", SecurityScheme::ApiKey(ApiKey::Header(key)));
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "A token from `POST /v1/tokens` or your identity provider; an API key is taken here too.",
        ))
        .build();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
