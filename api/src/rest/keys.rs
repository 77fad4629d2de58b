//! `/v1/keys`: API keys. The secret is answered once, when the key is made, and kept nowhere.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use entity::{Credential, DbError, NewCredential};
use protocol::{AgentId, CredentialId, Role, Scope, Scopes, TenantId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::authn::Authn;
use crate::http::problem::Problem;
use crate::rest::acting::Acting;
use crate::rest::describe::{
    AgentIdText, Always, Filtered, KeyIdText, Moment, Named, ScopeText, Sent, TenantIdText,
};
use crate::rest::input::{Fields, Name, NoBody, Parameters, Payload, form, parameters};
use crate::rest::listed::{Created, PageOf, created};
use crate::rest::{find, tenancy};

/// A key to be made. What it may do is said by `role` or by `scopes`, not by both.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NewKey, example = json!({"name": "the coder's key", "agentId": "coder-1", "role": "agent"}))]
pub struct NewKeyBody {
    /// The tenant's id or slug; the caller's own when not given.
    tenant_id: Option<String>,
    /// The id or slug of the agent that it speaks as; without one it may speak as any by `X-Agent-Id`.
    agent_id: Option<String>,
    /// 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// `operator`, `tenant-admin` or `agent`; instead of `scopes`.
    #[schema(value_type = Option<String>, pattern = "^(operator|tenant-admin|agent)$")]
    role: Option<Role>,
    /// What it may do; instead of `role`. Nobody grants what they lack.
    #[schema(value_type = Option<Vec<ScopeText>>)]
    scopes: Option<Scopes>,
    /// Until when it is valid; for ever when not given.
    #[schema(value_type = Option<Moment>)]
    expires_at: Option<jiff::Timestamp>,
}

/// An API key, without its secret.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Key)]
pub struct KeyBody {
    #[schema(value_type = KeyIdText)]
    id: CredentialId,
    #[schema(value_type = TenantIdText)]
    tenant_id: TenantId,
    #[schema(value_type = Option<AgentIdText>)]
    agent_id: Option<AgentId>,
    name: String,
    /// The last four characters of the secret.
    #[schema(example = "x7Qk")]
    hint: String,
    #[schema(value_type = Vec<ScopeText>)]
    scopes: Vec<&'static str>,
    #[schema(value_type = Option<Moment>)]
    expires_at: Option<jiff::Timestamp>,
    #[schema(value_type = Option<Moment>)]
    revoked_at: Option<jiff::Timestamp>,
    #[schema(value_type = Moment)]
    created_at: jiff::Timestamp,
    #[schema(value_type = Option<Moment>)]
    last_used_at: Option<jiff::Timestamp>,
}

/// A key that was just made.
#[derive(Serialize, ToSchema)]
#[schema(as = MadeKey)]
pub struct MadeKeyBody {
    #[serde(flatten)]
    key: KeyBody,
    /// To be sent as `X-MCP-Key` or as a bearer token. It is shown here and never again.
    #[schema(example = "mcp_live_…")]
    secret: String,
}

impl From<Credential> for KeyBody {
    fn from(row: Credential) -> Self {
        Self {
            id: row.id,
            tenant_id: row.tenant,
            agent_id: row.agent,
            name: row.name,
            hint: row.hint,
            scopes: row.scopes.iter().map(Scope::as_str).collect(),
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
            created_at: row.created_at,
            last_used_at: row.last_used_at,
        }
    }
}

impl NewKeyBody {
    fn read(mut fields: Fields) -> Result<Self, Problem> {
        let tenant_id = fields.optional("tenantId", form::text(1, 64));
        let agent_id = fields.optional("agentId", form::text(1, 64));
        let name = fields.required("name", form::text(1, 200));
        let given = (fields.has("role"), fields.has("scopes"));
        let role = fields.optional("role", form::role);
        let scopes = fields.optional("scopes", form::scopes);
        let expires_at = fields.optional("expiresAt", form::future);
        match given {
            (true, true) => fields.wrong("scopes", "is given beside role: give one of them"),
            (false, false) => fields.wrong("role", "is missing: give role or scopes"),
            (true, false) | (false, true) => {}
        }
        fields.finish(|| Some(Self { tenant_id, agent_id, name: name?, role, scopes, expires_at }))
    }

    fn scopes(&self) -> Scopes {
        self.role.map(Role::scopes).or(self.scopes).unwrap_or_default()
    }
}

/// Lists a tenant's keys, newest first, revoked ones included.
///
/// Needs `servers:write` and `configs:write`, for another tenant `tenants:admin`.
#[utoipa::path(
    get, path = "/v1/keys", tag = "keys",
    params(
        ("tenantId" = Option<String>, Query, description = "The tenant's id or slug; the caller's own when not given."),
        ("page" = Option<u64>, Query, description = "Which page, from 1.", minimum = 1),
        ("pageSize" = Option<u64>, Query, description = "Items on a page, 50 when not given.", minimum = 1, maximum = 500),
    ),
    responses((status = 200, description = "The keys, without their secrets.", body = PageOf<KeyBody>), Always, Named, Filtered)
)]
pub async fn list_keys(
    acting: Acting,
    State(app): State<Arc<App>>,
    query: Parameters,
) -> Result<Json<PageOf<KeyBody>>, Problem> {
    tenancy::administers(&acting)?;
    let mut query = query.read()?;
    let tenant = query.optional("tenantId", parameters::any);
    let page = query.page();
    query.finish()?;
    let tenant = tenancy::administered(&app, &acting, tenant.as_deref()).await?;
    let rows = app.db.tenant(tenant).credentials(page).await?;
    Ok(PageOf::of(rows, KeyBody::from))
}

/// Makes a key, and answers its secret once.
///
/// Needs `servers:write` and `configs:write`, for another tenant `tenants:admin`; and every scope that
/// the key gets.
#[utoipa::path(
    post, path = "/v1/keys", tag = "keys", request_body = NewKeyBody,
    responses((status = 201, description = "The key with its secret.", body = MadeKeyBody), Always, Named, Filtered, Sent)
)]
pub async fn create_key(
    acting: Acting,
    State(app): State<Arc<App>>,
    payload: Payload,
) -> Result<([(HeaderName, &'static str); 1], Created<MadeKeyBody>), Problem> {
    tenancy::administers(&acting)?;
    let body = NewKeyBody::read(payload.fields()?)?;
    tenancy::may_grant(&acting, body.scopes())?;
    let tenant = tenancy::administered(&app, &acting, body.tenant_id.as_deref()).await?;
    let rows = app.db.tenant(tenant);
    let agent = find::agent_if_named(rows, body.agent_id.as_deref()).await?;
    let made = Authn::new_key();
    let new = NewCredential {
        agent: agent.map(|agent| agent.id),
        hint: made.hint,
        secret_hash: made.hash,
        scopes: body.scopes(),
        name: body.name,
        expires_at: body.expires_at,
    };
    let key = rows.create_credential(new, &acting.actor()).await.map_err(Problem::of("agent"))?;
    let body = MadeKeyBody { secret: made.secret, key: key.into() };
    Ok(([(header::CACHE_CONTROL, "no-store")], created("/v1/keys", body.key.id, body)))
}

/// Revokes a key. It stays in the list.
///
/// Needs `servers:write` and `configs:write`, for another tenant `tenants:admin`; a key that holds
/// `tenants:admin` is revoked by an operator only.
#[utoipa::path(
    delete, path = "/v1/keys/{id}", tag = "keys",
    params(
        ("id" = KeyIdText, Path, description = "The key's id."),
        ("tenantId" = Option<String>, Query, description = "The tenant's id or slug; the caller's own when not given."),
    ),
    responses((status = 204, description = "It is revoked."), Always, Named, Filtered, Sent)
)]
pub async fn delete_key(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(name): Name,
    query: Parameters,
    _: NoBody,
) -> Result<StatusCode, Problem> {
    tenancy::administers(&acting)?;
    let mut query = query.read()?;
    let tenant = query.optional("tenantId", parameters::any);
    query.finish()?;
    let rows = app.db.tenant(tenancy::administered(&app, &acting, tenant.as_deref()).await?);
    let id: CredentialId = name.parse().map_err(|_| Problem::of("key")(DbError::NotFound))?;
    let key = rows.find_credential(id).await.map_err(Problem::of("key"))?;
    if key.scopes.contains(Scope::TenantsAdmin) {
        acting.require(Scope::TenantsAdmin)?;
    }
    rows.revoke_credential(id, &acting.actor()).await.map_err(Problem::of("key"))?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<NewKeyBody, Problem> {
        NewKeyBody::read(Fields::parse(body.as_bytes())?)
    }

    #[test]
    fn what_a_key_may_do_is_said_once() {
        assert_eq!(read(r#"{"name":"k","role":"agent"}"#).unwrap().scopes(), Role::Agent.scopes());
        let scopes = read(r#"{"name":"k","scopes":["tools:call"]}"#).unwrap().scopes();
        assert_eq!(scopes.to_text(), "tools:call");
        for bad in [
            r#"{"name":"k"}"#,
            r#"{"role":"agent"}"#,
            r#"{"name":"k","role":"agent","scopes":["tools:call"]}"#,
            r#"{"name":"k","role":"king"}"#,
            r#"{"name":"k","scopes":[]}"#,
            r#"{"name":"k","scopes":["of:nothing"]}"#,
            r#"{"name":"k","role":"agent","expiresAt":"2020-01-01T00:00:00Z"}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
