//! Paths of an authorization server, where clients look for one after a 401. The gateway has none, so these
//! endpoints explain the 401 instead. They need no credential.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any};
use axum::{Json, Router};
use protocol::Refusal;
use serde::Serialize;

use crate::app::App;
use crate::authn::oauth::WELL_KNOWN;
use crate::http::oauth_metadata;
use crate::http::paths::{MCP, SERVER};
use crate::http::problem::Problem;

/// Default endpoints of clients without metadata (MCP 2025-03-26, authorization, "Fallbacks").
const ENDPOINTS: [&str; 3] = ["/register", "/authorize", "/token"];

/// Metadata of an authorization server (RFC 8414, section 3; OpenID Connect Discovery 1.0, section 4).
const SERVERS: [&str; 2] = ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"];

/// An error as OAuth clients read it (RFC 6749, section 5.2; RFC 7591, section 3.2.2).
#[derive(Serialize)]
struct OAuthError {
    error: &'static str,
    error_description: String,
}

pub fn routes() -> Router<Arc<App>> {
    let mut router = Router::new();
    for path in ENDPOINTS {
        router = router.route(path, any(endpoint));
    }
    // The well-known path stands before the endpoint's path or behind it.
    for well_known in SERVERS {
        router = both(router, "", well_known, any(metadata));
    }
    for well_known in SERVERS.into_iter().chain([WELL_KNOWN]) {
        for before in [MCP, &format!("{MCP}/rpc"), &format!("{SERVER}{{slug}}")] {
            router = both(router, before, well_known, any(metadata));
        }
    }
    router
}

fn both(
    router: Router<Arc<App>>,
    before: &str,
    well_known: &str,
    answer: MethodRouter<Arc<App>>,
) -> Router<Arc<App>> {
    let path = format!("{before}{well_known}");
    router.route(&format!("{path}/{{*path}}"), answer.clone()).route(&path, answer)
}

/// Refuses registration, authorization and token requests.
async fn endpoint(State(app): State<Arc<App>>, request: Request) -> Response {
    // On `invalid_client`, clients would discard their registration and register again.
    let error = match request.uri().path() {
        "/register" => "invalid_client_metadata",
        _ => "invalid_request",
    };
    let Refusal { reason, hint, .. } = oauth_metadata::no_server(&app);
    let hint = hint.map(|hint| format!(". {hint}")).unwrap_or_default();
    let body = OAuthError { error, error_description: format!("{reason}{hint}") };
    let mut response = (StatusCode::BAD_REQUEST, Json(body)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Answers requests for metadata with 404, so that clients try the next address.
async fn metadata(State(app): State<Arc<App>>) -> Response {
    Problem::from(oauth_metadata::no_server(&app)).into_response()
}
