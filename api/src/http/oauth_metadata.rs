//! `GET /.well-known/oauth-protected-resource[/path]`: the authorization server of an MCP endpoint (RFC
//! 9728). Needs no credential, and answers for every slug alike.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use protocol::{Code, Refusal};

use crate::app::App;
use crate::authn::oauth;
use crate::authn::oauth::WELL_KNOWN;
use crate::http::paths;
use crate::http::problem::Problem;

/// Returns the metadata of an endpoint; without a path, that of `/mcp`, for clients that look there only.
pub async fn resource_metadata(State(app): State<Arc<App>>, request: Request) -> Response {
    let path = match request.uri().path().strip_prefix(WELL_KNOWN).unwrap_or_default() {
        "" | "/" => paths::MCP,
        path => path,
    };
    if !oauth::is_endpoint(path) {
        let refusal = Refusal::new(Code::NotFound, "there is no MCP endpoint at this path")
            .hint("endpoints are /mcp, /mcp/s/{slug} and /mcp/rpc");
        return Problem::from(refusal).into_response();
    }
    match app.resources.at(request.headers(), request.uri(), path).document() {
        Some(document) => Json(document).into_response(),
        None if app.resources.issuer().is_some() => {
            let reason = "under this host the gateway has no name of its own, so no token can be for it";
            let refusal = Refusal::new(Code::NotFound, reason)
                .rule("server.public_url (PUBLIC_URL)")
                .hint("the operator says as PUBLIC_URL under which address clients know the gateway");
            Problem::from(refusal).into_response()
        }
        None => Problem::from(no_server(&app)).into_response(),
    }
}

/// Returns the refusal of a gateway without an authorization server. The client did not send its credential,
/// so the hint names every likely mistake.
pub fn no_server(app: &App) -> Refusal {
    let refusal = |reason: String| Refusal::new(Code::NotFound, reason).rule("auth.jwt_issuer (JWT_ISSUER)");
    match app.resources.issuer() {
        Some(issuer) => refusal(format!("this gateway is no authorization server; {issuer} issues its tokens"))
            .hint(format!("GET {WELL_KNOWN}{} names it to clients", paths::MCP)),
        // Some clients black out what looks like a header with a key in it, so none is written out here.
        None => refusal(
            "the API key is missing, unknown, expired or revoked; this gateway has no OAuth login".to_owned(),
        )
        .hint(
            "Send a valid key in the header X-MCP-Key, or in the header Authorization as a bearer token; the 401 \
             says what is wrong with the present one. An administrator makes keys with POST /v1/keys.",
        ),
    }
}
