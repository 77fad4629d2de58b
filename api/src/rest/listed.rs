//! Pagination: numbered pages for registered rows, cursors for lists that only grow.

use axum::Json;
use axum::http::{HeaderName, StatusCode, header};
use entity::Paged;
use serde::Serialize;
use utoipa::ToSchema;

/// A numbered page.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PageOf<T> {
    pub items: Vec<T>,
    /// Number of this page, from 1.
    #[schema(minimum = 1, example = 1)]
    pub page: u64,
    /// Number of items on a full page.
    #[schema(minimum = 1, maximum = 500, example = 50)]
    pub page_size: u64,
    /// Number of items on all pages.
    #[schema(example = 1)]
    pub total: u64,
}

/// A page of a list that grows.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SliceOf<T> {
    pub items: Vec<T>,
    /// `cursor` of the next page; null on the last one.
    pub next_cursor: Option<String>,
}

impl<T> PageOf<T> {
    pub fn of<R>(rows: Paged<R>, show: impl Fn(R) -> T) -> Json<Self> {
        let Paged { items, page, page_size, total } = rows;
        Json(Self { items: items.into_iter().map(show).collect(), page, page_size, total })
    }
}

/// An answer with the row's ETag.
pub type Tagged<T> = ([(HeaderName, String); 1], T);

/// 201 with the path of the created row.
pub type Created<T> = (StatusCode, [(HeaderName, String); 1], Json<T>);

pub fn created<T>(collection: &str, id: impl std::fmt::Display, body: T) -> Created<T> {
    (StatusCode::CREATED, [(header::LOCATION, format!("{collection}/{id}"))], Json(body))
}
