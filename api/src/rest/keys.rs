//! `/v1/keys`: API keys. The secret is returned once, when the key is made, and not stored.

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
    AgentIdText, Always, Filtered, KeyIdText, Moment, Named, ScopeText, Sent, TenantIdText, body,
};
use crate::rest::input::{Fields, Name, NoBody, Parameters, Payload, form, parameters};
use crate::rest::listed::{Created, PageOf, created};
use crate::rest::{find, tenancy};

body!(
    NewKeyBody as "NewKey", new_key,
    "A key to be made. What it may do is said by `role` or by `scopes`, not by both.",
    {"name": "the coder's key", "agentId": "coder-1", "role": "agent"}
);

/// The body of a new key, before its names are looked up.
struct NewKey {
    tenant: Option<String>,
    agent: Option<String>,
    name: String,
    scopes: Scopes,
    expires_at: Option<jiff::Timestamp>,
}

fn new_key(f: &mut Fields) -> Option<NewKey> {
    let given = (f.has("role"), f.has("scopes"));
    let about = "The tenant's id or slug; the caller's own when not given.";
    let tenant = f.optional("tenantId", form::text(1, 64), about);
    let about =
        "The id or slug of the agent that it speaks as; without one it may speak as any by `X-Agent-Id`.";
    let agent = f.optional("agentId", form::text(1, 64), about);
    let name = f.required("name", form::text(1, 200), "1 to 200 characters.");
    let about = "`operator`, `tenant-admin` or `agent`; instead of `scopes`.";
    let role = f.optional("role", form::role(), about);
    let about = "What it may do; instead of `role`. Nobody grants what they lack.";
    let scopes = f.optional("scopes", form::scopes(), about);
    let about = "Until when it is valid; for ever when not given.";
    let expires_at = f.optional("expiresAt", form::future(), about);
    match given {
        (true, true) => f.wrong("scopes", "is given beside role: give one of them"),
        (false, false) => f.wrong("role", "is missing: give role or scopes"),
        (true, false) | (false, true) => {}
    }
    let scopes = role.map(Role::scopes).or(scopes).unwrap_or_default();
    Some(NewKey { tenant, agent, name: name?, scopes, expires_at })
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

/// A new key.
#[derive(Serialize, ToSchema)]
#[schema(as = MadeKey)]
pub struct MadeKeyBody {
    #[serde(flatten)]
    key: KeyBody,
    /// The secret, sent as `X-MCP-Key` or as a bearer token. It is shown only here.
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

/// Lists a tenant's keys, newest first, revoked ones included.
///
/// Needs `servers:write` and `configs:write`, for another tenant `tenants:admin`.
#[utoipa::path(
    get, path = "/v1/keys", tag = "keys",
    params(
        ("tenantId" = Option<String>, Query, description = "The tenant's id or slug; the caller's own when not given."),
        ("page" = Option<u64>, Query, description = "Which page, from 1.", minimum = 1, maximum = 1_000_000_000),
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

/// Makes a key, and returns its secret once.
///
/// Needs `servers:write` and `configs:write`, for another tenant `tenants:admin`; and every scope that the
/// key gets.
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
    let NewKey { tenant, agent, name, scopes, expires_at } = payload.read(new_key)?;
    tenancy::may_grant(&acting, scopes)?;
    let tenant = tenancy::administered(&app, &acting, tenant.as_deref()).await?;
    let rows = app.db.tenant(tenant);
    let agent = find::agent_if_named(rows, agent.as_deref()).await?;
    let made = Authn::new_key();
    let new = NewCredential {
        agent: agent.map(|agent| agent.id),
        hint: made.hint,
        secret_hash: made.hash,
        scopes,
        name,
        expires_at,
    };
    let key = rows.create_credential(new, &acting.actor()).await.map_err(Problem::of("agent"))?;
    let body = MadeKeyBody { secret: made.secret, key: key.into() };
    Ok(([(header::CACHE_CONTROL, "no-store")], created("/v1/keys", body.key.id, body)))
}

/// Revokes a key, which stays in the list.
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

    fn read(body: &str) -> Result<NewKey, Problem> {
        Fields::read(body.as_bytes(), new_key)
    }

    #[test]
    fn what_a_key_may_do_is_said_once() {
        assert_eq!(read(r#"{"name":"k","role":"agent"}"#).unwrap().scopes, Role::Agent.scopes());
        let scopes = read(r#"{"name":"k","scopes":["tools:call"]}"#).unwrap().scopes;
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
