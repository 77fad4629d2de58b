//! `/v1/tokens`: bearer tokens of the gateway's own, for one agent and a short time.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use protocol::{Role, Scopes};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::app::App;
use crate::authn::TokenClaims;
use crate::http::problem::Problem;
use crate::rest::acting::Acting;
use crate::rest::describe::{Always, Filtered, Moment, Named, Sent, body};
use crate::rest::input::{Fields, Payload, form};
use crate::rest::{find, tenancy};

body!(NewTokenBody as "NewToken", new_token, "A token to be made.", {
    "agentId": "coder-1", "expiresIn": "1h"
});

/// The body of a new token, before its names are looked up.
struct NewToken {
    agent: String,
    tenant: Option<String>,
    scopes: Scopes,
    life: Option<Duration>,
}

fn new_token(f: &mut Fields) -> Option<NewToken> {
    let agent = f.required("agentId", form::text(1, 64), "The id or slug of the agent that it speaks as.");
    let about = "The tenant's id or slug; the caller's own when not given.";
    let tenant = f.optional("tenantId", form::text(1, 64), about);
    let about =
        "What it may do; the scopes of the role `agent` when not given. Nobody grants what they lack.";
    let scopes = f.optional("scopes", form::scopes(), about).unwrap_or_else(|| Role::Agent.scopes());
    let about = "How long it is valid; `JWT_EXPIRES_IN` when not given.";
    let life = f.optional("expiresIn", form::life(), about);
    Some(NewToken { agent: agent?, tenant, scopes, life })
}

/// A new token, shown once.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Token)]
pub struct TokenBody {
    /// The token, sent as `Authorization: Bearer …`. A token cannot be revoked.
    token: String,
    #[schema(value_type = Moment)]
    expires_at: jiff::Timestamp,
}

/// Makes a token for an agent.
///
/// Needs `servers:write` and `configs:write`, for another tenant `tenants:admin`; and every scope that
/// the token gets.
#[utoipa::path(
    post, path = "/v1/tokens", tag = "keys", request_body = NewTokenBody,
    responses((status = 201, description = "The token.", body = TokenBody), Always, Named, Filtered, Sent)
)]
pub async fn create_token(
    acting: Acting,
    State(app): State<Arc<App>>,
    payload: Payload,
) -> Result<(StatusCode, [(HeaderName, &'static str); 1], Json<TokenBody>), Problem> {
    tenancy::administers(&acting)?;
    let NewToken { agent, tenant, scopes, life } = payload.read(new_token)?;
    tenancy::may_grant(&acting, scopes)?;
    let tenant = tenancy::administered(&app, &acting, tenant.as_deref()).await?;
    let agent = find::agent(app.db.tenant(tenant), &agent).await?;
    let life = life.unwrap_or_else(|| app.config.jwt_life());
    let details = json!({ "agent": agent.slug, "scopes": scopes.to_text(), "lifeSeconds": life.as_secs() });
    let rows = app.db.tenant(tenant);
    let audited = rows.audit("token.create", agent.id.to_string(), details, &acting.actor()).await;
    audited.map_err(Problem::of("tenant"))?;
    let claims = TokenClaims { tenant, agent: agent.id, agent_slug: agent.slug, scopes, life };
    let issued = app.gateway.authn.issue(claims)?;
    let body = TokenBody { token: issued.token, expires_at: issued.expires_at };
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(body)))
}
