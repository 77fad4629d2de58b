//! `/v1/mcp/servers`: registers, finds, changes and deletes servers. The modules below read lists and state,
//! and control processes.

pub mod answer;
pub mod changes;
pub mod definitions;
pub mod discover;
pub mod forms;
pub mod process;
mod remote;
pub mod rules;
mod values;

use std::sync::Arc;

use answer::{ServerBody, Showing, etag};
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use entity::{Page, Paged, Server, ServerFilter, Transport};
use forms::{NewServerBody, Registration, ServerPatchBody};
use protocol::Scope;
use proxy::pool::State as Health;

use crate::app::App;
use crate::http::problem::Problem;
use crate::rest::acting::Acting;
use crate::rest::describe::{Always, Conditional, Contested, Filtered, Named, Sent};
use crate::rest::find;
use crate::rest::input::parameters::{any, one_of};
use crate::rest::input::{IfMatch, Name, NoBody, Parameters, Payload};
use crate::rest::listed::{Created, PageOf, Tagged, created};

/// Lists the tenant's own servers and the global ones that none of them hides, by slug.
///
/// Needs `servers:read`.
#[utoipa::path(
    get, path = "/v1/mcp/servers", tag = "servers",
    params(
        ("status" = Option<String>, Query, description = "`healthy`, `degraded`, `unhealthy`, `unknown`, `stopped` or `not_configured`.", pattern = "^(healthy|degraded|unhealthy|unknown|stopped|not_configured)$"),
        ("category" = Option<String>, Query, description = "The category, exactly."),
        ("transport" = Option<String>, Query, description = "`builtin`, `stdio`, `streamable-http` or `websocket`.", pattern = "^(builtin|stdio|streamable-http|websocket)$"),
        ("search" = Option<String>, Query, description = "Found anywhere in slug, name, description, category or tags, whatever the case."),
        ("page" = Option<u64>, Query, description = "Which page, from 1.", minimum = 1, maximum = 1_000_000_000),
        ("pageSize" = Option<u64>, Query, description = "Items on a page, 50 when not given; also `page_size`.", minimum = 1, maximum = 500),
    ),
    responses((status = 200, description = "The servers.", body = PageOf<ServerBody>), Always, Filtered)
)]
pub async fn list_servers(
    acting: Acting,
    State(app): State<Arc<App>>,
    query: Parameters,
) -> Result<Json<PageOf<ServerBody>>, Problem> {
    acting.require(Scope::ServersRead)?;
    let mut query = query.read()?;
    let state = |text: &str| Health::ALL.into_iter().find(|state| state.as_str() == text);
    let status = query.optional("status", one_of(state, &Health::ALL.map(Health::as_str)));
    let filter = ServerFilter {
        category: query.optional("category", any),
        transport: query
            .optional("transport", one_of(Transport::parse, &Transport::ALL.map(Transport::as_str))),
        search: query.optional("search", any),
    };
    let page = query.page();
    query.finish()?;
    let showing = Showing::to(&app, &acting).await?;
    let rows = match status {
        None => acting.rows(&app).servers(&filter, page).await?,
        Some(status) => in_state(&app, &showing, &acting, &filter, status, page).await?,
    };
    Ok(PageOf::of(rows, |row| showing.server(row)))
}

/// Registers a server.
///
/// Needs `servers:write`; `servers:launch` for stdio, since registering one is running a program, and the
/// operator may narrow which programs; `tenants:admin` for a global one. A remote server's address must be
/// public, unless the operator opened its network. A tenant's server hides a global one of the same slug, and
/// the answer says so.
#[utoipa::path(
    post, path = "/v1/mcp/servers", tag = "servers", request_body = NewServerBody,
    responses(
        (status = 201, description = "The server; `Location` is its path.", body = ServerBody, headers(("ETag" = String, description = "For `If-Match`."))),
        Always, Filtered, Sent, Contested
    )
)]
pub async fn create_server(
    acting: Acting,
    State(app): State<Arc<App>>,
    payload: Payload,
) -> Result<Tagged<Created<ServerBody>>, Problem> {
    acting.require(Scope::ServersWrite)?;
    register(&acting, &app, payload.read(forms::new_server)?).await
}

/// Registers a server, if the caller may.
pub async fn register(
    acting: &Acting,
    app: &App,
    registration: Registration,
) -> Result<Tagged<Created<ServerBody>>, Problem> {
    rules::may_register(acting, &app.config, &app.gateway.upstreams.pool.providers(), &registration)?;
    remote::reachable(&app.egress, registration.server.settings.url.as_deref())?;
    let server = match registration.global {
        true => app.db.operator().create_server(registration.server, &acting.actor()).await?,
        false => acting.rows(app).create_server(registration.server, &acting.actor()).await?,
    };
    let showing = Showing::to(app, acting).await?;
    let tag = [(header::ETAG, etag(&server))];
    Ok((tag, created("/v1/mcp/servers", server.id, showing.server(server))))
}

/// Finds a server, by id or slug.
///
/// Needs `servers:read`.
#[utoipa::path(
    get, path = "/v1/mcp/servers/{id}", tag = "servers",
    params(("id" = String, Path, description = "The server's id or slug.", example = "calculator")),
    responses(
        (status = 200, description = "The server.", body = ServerBody, headers(("ETag" = String, description = "For `If-Match`."))),
        Always, Named
    )
)]
pub async fn find_server(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(name): Name,
) -> Result<Tagged<Json<ServerBody>>, Problem> {
    acting.require(Scope::ServersRead)?;
    let server = find::server(acting.rows(&app), &name).await?;
    let showing = Showing::to(&app, &acting).await?;
    Ok(([(header::ETAG, etag(&server))], Json(showing.with_definitions(server))))
}

/// Changes a server: members that are left out stay, null clears.
///
/// Needs `servers:write`; `servers:launch` for what a stdio server executes (command, args, env, cwd),
/// `tenants:admin` for a global one. A change of what is executed raises `revision` and lets the old process
/// finish its calls. Slug, transport and scope never change.
#[utoipa::path(
    patch, path = "/v1/mcp/servers/{id}", tag = "servers", request_body = ServerPatchBody,
    params(
        ("id" = String, Path, description = "The server's id or slug."),
        ("If-Match" = Option<String>, Header, description = "The ETag of the state that is to be changed; 412 when it is another one by now.", pattern = r#"^(\*|(W/)?"[^",]*"(, *(W/)?"[^",]*")*)$"#),
    ),
    responses(
        (status = 200, description = "The server as it is now.", body = ServerBody, headers(("ETag" = String, description = "For `If-Match`."))),
        Always, Named, Filtered, Sent, Contested, Conditional
    )
)]
pub async fn update_server(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(name): Name,
    condition: IfMatch,
    payload: Payload,
) -> Result<Tagged<Json<ServerBody>>, Problem> {
    acting.require(Scope::ServersWrite)?;
    let before = find::server(acting.rows(&app), &name).await?;
    condition.check(&etag(&before))?;
    let patch = payload.read(|f| forms::server_patch(f, Some(&before)))?;
    rules::may_change(&acting, &app.config, &before, &patch)?;
    remote::reachable(&app.egress, patch.url.as_ref().and_then(Option::as_deref))?;
    let revision = condition.is_exact().then_some(before.revision);
    let changed = match before.tenant {
        Some(_) => acting.rows(&app).update_server(before.id, patch, revision, &acting.actor()).await,
        None => app.db.operator().update_server(before.id, patch, revision, &acting.actor()).await,
    };
    let server = changed.map_err(Problem::of("server"))?;
    let showing = Showing::to(&app, &acting).await?;
    Ok(([(header::ETAG, etag(&server))], Json(showing.server(server))))
}

/// Deletes a server with its configs.
///
/// The server's executions stay, with its slug; the slug is free again. Needs `servers:write`, and
/// `tenants:admin` for a global one.
#[utoipa::path(
    delete, path = "/v1/mcp/servers/{id}", tag = "servers",
    params(
        ("id" = String, Path, description = "The server's id or slug."),
        ("If-Match" = Option<String>, Header, description = "The ETag of the state that is to be deleted.", pattern = r#"^(\*|(W/)?"[^",]*"(, *(W/)?"[^",]*")*)$"#),
    ),
    responses((status = 204, description = "It is deleted."), Always, Named, Filtered, Sent, Contested, Conditional)
)]
pub async fn delete_server(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(name): Name,
    condition: IfMatch,
    _: NoBody,
) -> Result<StatusCode, Problem> {
    acting.require(Scope::ServersWrite)?;
    let server = find::server(acting.rows(&app), &name).await?;
    rules::owns(&acting, &server)?;
    condition.check(&etag(&server))?;
    let deleted = match server.tenant {
        Some(_) => acting.rows(&app).delete_server(server.id, &acting.actor()).await,
        None => app.db.operator().delete_server(server.id, &acting.actor()).await,
    };
    deleted.map_err(Problem::of("server"))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Selects servers by state, which is not in the rows, so that all other matches are loaded.
async fn in_state(
    app: &App,
    showing: &Showing<'_>,
    acting: &Acting,
    filter: &ServerFilter,
    state: Health,
    page: Page,
) -> Result<Paged<Server>, Problem> {
    let mut found = Vec::new();
    for number in 1.. {
        let rows = acting.rows(app).servers(filter, Page::new(number, Page::MAX_SIZE)).await?;
        let last = number.saturating_mul(Page::MAX_SIZE) >= rows.total;
        found.extend(rows.items.into_iter().filter(|row| showing.status(row).state == state));
        if last {
            break;
        }
    }
    Ok(Paged::of_all(found.into_iter(), page))
}
