//! `/v1/tenants`: the operator creates and deletes tenants; a tenant sees itself.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use entity::{NewTenant, Tenant};
use protocol::{Scope, TenantId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::problem::Problem;
use crate::rest::acting::Acting;
use crate::rest::describe::{
    Always, Contested, Filtered, Moment, Named, Sent, TenantIdText, TenantSlug, body,
};
use crate::rest::input::form::Form;
use crate::rest::input::{Fields, Name, NoBody, Parameters, Payload, form};
use crate::rest::listed::{Created, PageOf, created};
use crate::rest::{find, tenancy};

body!(NewTenantBody as "NewTenant", new_tenant, "A tenant to be made.", {"slug": "acme", "name": "Acme"});

fn new_tenant(f: &mut Fields) -> Option<NewTenant> {
    let slug = f.required("slug", Form::named("TenantSlug", |value| form::text(1, 63).read(value)), "");
    let name = f.required("name", form::text(1, 200), "1 to 200 characters.");
    Some(NewTenant { slug: slug?, name: name? })
}

/// A tenant: the boundary nothing crosses.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Tenant)]
pub struct TenantBody {
    #[schema(value_type = TenantIdText)]
    id: TenantId,
    #[schema(value_type = TenantSlug)]
    slug: String,
    name: String,
    #[schema(value_type = Moment)]
    created_at: jiff::Timestamp,
}

impl From<Tenant> for TenantBody {
    fn from(Tenant { id, slug, name, created_at }: Tenant) -> Self {
        Self { id, slug, name, created_at }
    }
}

/// Lists the tenants, by slug.
///
/// Needs `tenants:admin`.
#[utoipa::path(
    get, path = "/v1/tenants", tag = "tenants",
    params(
        ("page" = Option<u64>, Query, description = "Which page, from 1.", minimum = 1, maximum = 1_000_000_000),
        ("pageSize" = Option<u64>, Query, description = "Items on a page, 50 when not given.", minimum = 1, maximum = 500),
    ),
    responses((status = 200, description = "The tenants.", body = PageOf<TenantBody>), Always, Filtered)
)]
pub async fn list_tenants(
    acting: Acting,
    State(app): State<Arc<App>>,
    parameters: Parameters,
) -> Result<Json<PageOf<TenantBody>>, Problem> {
    acting.require(Scope::TenantsAdmin)?;
    let mut query = parameters.read()?;
    let page = query.page();
    query.finish()?;
    let rows = app.db.operator().tenants(page).await?;
    Ok(PageOf::of(rows, TenantBody::from))
}

/// Creates a tenant.
///
/// Needs `tenants:admin`.
#[utoipa::path(
    post, path = "/v1/tenants", tag = "tenants", request_body = NewTenantBody,
    responses((status = 201, description = "The tenant; `Location` is its path.", body = TenantBody), Always, Filtered, Sent, Contested)
)]
pub async fn create_tenant(
    acting: Acting,
    State(app): State<Arc<App>>,
    payload: Payload,
) -> Result<Created<TenantBody>, Problem> {
    acting.require(Scope::TenantsAdmin)?;
    let new = payload.read(new_tenant)?;
    let tenant = app.db.operator().create_tenant(new, &acting.actor()).await?;
    Ok(created("/v1/tenants", tenant.id, tenant.into()))
}

/// Finds a tenant, by id or slug.
///
/// Other tenants than the caller's own need `tenants:admin`.
#[utoipa::path(
    get, path = "/v1/tenants/{id}", tag = "tenants",
    params(("id" = String, Path, description = "The tenant's id or slug.", example = "default")),
    responses((status = 200, description = "The tenant.", body = TenantBody), Always, Named)
)]
pub async fn find_tenant(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(name): Name,
) -> Result<Json<TenantBody>, Problem> {
    if !tenancy::is_own(&acting, &name) && !acting.has(Scope::TenantsAdmin) {
        return Err(Problem::not_found("tenant"));
    }
    Ok(Json(find::tenant(&app, &name).await?.into()))
}

/// Deletes a tenant with its agents, servers and configs, and revokes its keys.
///
/// Executions and audit events stay. The tenant `default` stays too. Needs `tenants:admin`.
#[utoipa::path(
    delete, path = "/v1/tenants/{id}", tag = "tenants",
    params(("id" = String, Path, description = "The tenant's id or slug.")),
    responses((status = 204, description = "It is deleted."), Always, Named, Filtered, Sent, Contested)
)]
pub async fn delete_tenant(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(name): Name,
    _: NoBody,
) -> Result<StatusCode, Problem> {
    acting.require(Scope::TenantsAdmin)?;
    let tenant = find::tenant(&app, &name).await?;
    app.db.operator().delete_tenant(tenant.id, &acting.actor()).await.map_err(Problem::of("tenant"))?;
    Ok(StatusCode::NO_CONTENT)
}
