//! Ratings of entries: one of each tenant.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use entity::marketplace::Rating;
use protocol::{Scope, TenantId};
use serde::Serialize;
use utoipa::ToSchema;

use super::stored;
use crate::app::App;
use crate::http::problem::Problem;
use crate::rest::acting::Acting;
use crate::rest::describe::{Always, Contested, Filtered, Moment, Named, Sent, body};
use crate::rest::input::{Fields, Name, NoBody, Parameters, Payload, form};
use crate::rest::listed::PageOf;

body!(NewRatingBody as "NewRating", rating, "A rating.", {"stars": 4, "review": "Fast, and its errors say what to do."});

/// A rating of an entry; the tenant is not shown.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Rating)]
pub struct RatingBody {
    #[schema(minimum = 1, maximum = 5)]
    stars: i32,
    review: Option<String>,
    /// True if the caller's tenant gave it.
    mine: bool,
    #[schema(value_type = Moment)]
    created_at: jiff::Timestamp,
    #[schema(value_type = Moment)]
    updated_at: jiff::Timestamp,
}

impl RatingBody {
    fn of(rating: Rating, tenant: TenantId) -> Self {
        Self {
            stars: rating.stars,
            review: rating.review,
            mine: rating.tenant == tenant,
            created_at: rating.created_at,
            updated_at: rating.updated_at,
        }
    }
}

fn rating(f: &mut Fields) -> Option<(i32, Option<String>)> {
    let stars = f.required("stars", form::whole(1, 5), "");
    let review = f.optional("review", form::text(1, 2_000), "What others should know; all tenants read it.");
    Some((stars?, review))
}

/// Lists the ratings of an entry, the newest first.
///
/// Needs `servers:read`.
#[utoipa::path(
    get, path = "/v1/mcp/registry/{name}/ratings", tag = "marketplace",
    params(
        ("name" = String, Path, description = "The name, in which `/` is written `%2F`."),
        ("page" = Option<u64>, Query, description = "Which page, from 1.", minimum = 1, maximum = 1_000_000_000),
        ("pageSize" = Option<u64>, Query, description = "Items on a page, 50 when not given.", minimum = 1, maximum = 500),
    ),
    responses((status = 200, description = "The ratings.", body = PageOf<RatingBody>), Always, Named, Filtered)
)]
pub async fn list_ratings(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(name): Name,
    query: Parameters,
) -> Result<Json<PageOf<RatingBody>>, Problem> {
    acting.require(Scope::ServersRead)?;
    let mut query = query.read()?;
    let page = query.page();
    query.finish()?;
    let rows = acting.rows(&app);
    rows.find_entry(stored(&name)?).await.map_err(Problem::of("entry"))?;
    Ok(PageOf::of(rows.ratings(&name, page).await?, |rating| RatingBody::of(rating, acting.tenant())))
}

/// Rates an entry, in place of the tenant's earlier rating.
///
/// A tenant does not rate what it published. Needs `servers:write`.
#[utoipa::path(
    put, path = "/v1/mcp/registry/{name}/rating", tag = "marketplace", request_body = NewRatingBody,
    params(("name" = String, Path, description = "The name, in which `/` is written `%2F`.")),
    responses(
        (status = 200, description = "The rating.", body = RatingBody),
        Always, Named, Filtered, Sent, Contested
    )
)]
pub async fn rate_entry(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(name): Name,
    payload: Payload,
) -> Result<Json<RatingBody>, Problem> {
    acting.require(Scope::ServersWrite)?;
    let (stars, review) = payload.read(rating)?;
    let rated = acting.rows(&app).rate(stored(&name)?, stars, review, &acting.actor()).await;
    Ok(Json(RatingBody::of(rated.map_err(Problem::of("entry"))?, acting.tenant())))
}

/// Deletes the tenant's rating of an entry.
///
/// Needs `servers:write`.
#[utoipa::path(
    delete, path = "/v1/mcp/registry/{name}/rating", tag = "marketplace",
    params(("name" = String, Path, description = "The name, in which `/` is written `%2F`.")),
    responses((status = 204, description = "It is deleted."), Always, Named, Filtered, Sent)
)]
pub async fn delete_rating(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(name): Name,
    _: NoBody,
) -> Result<StatusCode, Problem> {
    acting.require(Scope::ServersWrite)?;
    let deleted = acting.rows(&app).remove_rating(stored(&name)?, &acting.actor()).await;
    deleted.map_err(Problem::of("rating"))?;
    Ok(StatusCode::NO_CONTENT)
}
