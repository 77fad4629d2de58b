//! `/v1/tokens`: bearer tokens of the gateway's own, for one agent and a short time.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use protocol::{Role, Scopes};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::authn::TokenClaims;
use crate::http::problem::Problem;
use crate::rest::acting::Acting;
use crate::rest::describe::{Always, Filtered, Life, Moment, Named, ScopeText, Sent};
use crate::rest::input::{Fields, Payload, form};
use crate::rest::{find, tenancy};

/// A token to be made.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NewToken, example = json!({"agentId": "coder-1", "expiresIn": "1h"}))]
pub struct NewTokenBody {
    /// The id or slug of the agent that it speaks as.
    agent_id: String,
    /// The tenant's id or slug; the caller's own when not given.
    tenant_id: Option<String>,
    /// What it may do; the scopes of the role `agent` when not given. Nobody grants what they lack.
    #[schema(value_type = Option<Vec<ScopeText>>)]
    scopes: Option<Scopes>,
    /// How long it is valid; `JWT_EXPIRES_IN` when not given.
    #[schema(value_type = Option<Life>)]
    expires_in: Option<Duration>,
}

/// A token, shown once.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Token)]
pub struct TokenBody {
    /// To be sent as `Authorization: Bearer …`. It cannot be revoked: it ends.
    token: String,
    #[schema(value_type = Moment)]
    expires_at: jiff::Timestamp,
}

impl NewTokenBody {
    fn read(mut fields: Fields) -> Result<Self, Problem> {
        let agent_id = fields.required("agentId", form::text(1, 64));
        let tenant_id = fields.optional("tenantId", form::text(1, 64));
        let scopes = fields.optional("scopes", form::scopes);
        let expires_in = fields.optional("expiresIn", form::life);
        fields.finish(|| Some(Self { agent_id: agent_id?, tenant_id, scopes, expires_in }))
    }
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
    let body = NewTokenBody::read(payload.fields()?)?;
    let scopes = body.scopes.unwrap_or_else(|| Role::Agent.scopes());
    tenancy::may_grant(&acting, scopes)?;
    let tenant = tenancy::administered(&app, &acting, body.tenant_id.as_deref()).await?;
    let agent = find::agent(app.db.tenant(tenant), &body.agent_id).await?;
    let life = body.expires_in.unwrap_or_else(|| app.config.jwt_life());
    let claims = TokenClaims { tenant, agent: agent.id, agent_slug: agent.slug, scopes, life };
    let issued = app.gateway.authn.issue(claims)?;
    let body = TokenBody { token: issued.token, expires_at: issued.expires_at };
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(body)))
}
