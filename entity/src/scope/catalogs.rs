//! Queries of stored catalogs. They are no part of the registry: no audit event, no change number.

use std::collections::HashSet;

use protocol::ServerId;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};

use crate::catalog::CatalogPart;
use crate::change;
use crate::error::DbError;
use crate::rows::catalogs::{ActiveModel, Column, Entity, Model};
use crate::rows::{all_set, servers};
use crate::scope::{TenantScope, refuse_nul};
use crate::time;

/// Most rows of one statement, within the number of parameters that SQLite takes.
const ROWS: usize = 100;

impl TenantScope<'_> {
    /// Returns all stored parts, or those of one server, but for rows that this release cannot read.
    pub async fn catalogs(&self, server: Option<ServerId>) -> Result<Vec<CatalogPart>, DbError> {
        let mut select = Entity::find().filter(Column::TenantId.eq(self.tenant.0));
        if let Some(server) = server {
            select = select.filter(Column::ServerId.eq(server.0));
        }
        let rows = select.all(self.db.reader()).await?;
        let read = |row: Model| {
            let server = row.server_id;
            let unreadable = |error: &DbError| {
                tracing::warn!(%server, error = error.detail(), "a stored catalog cannot be read");
            };
            CatalogPart::try_from(row).inspect_err(unreadable).ok()
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }

    /// Stores parts in place of older ones. A later part that is stored already stays, and parts of servers
    /// that the tenant does not see are left out.
    pub async fn store_catalogs(&self, parts: &[CatalogPart]) -> Result<(), DbError> {
        refuse_nul(parts.iter().flat_map(|part| [&*part.body, part.part.as_str()]))?;
        let tx = change::begin(self.db).await?;
        self.hold_tenant(&tx).await?;
        let ids: HashSet<uuid::Uuid> = parts.iter().map(|part| part.server.0).collect();
        // Locked, so that a server is not deleted meanwhile.
        let seen = self.visible().filter(servers::Column::Id.is_in(ids)).lock_shared().all(&tx).await?;
        let seen: HashSet<uuid::Uuid> = seen.into_iter().map(|server| server.id).collect();
        let mut rows: Vec<&CatalogPart> = parts.iter().filter(|part| seen.contains(&part.server.0)).collect();
        // One order keeps two replicas from waiting for each other.
        rows.sort_by_key(|part| (part.server.0, part.era.as_str(), part.declared, part.part.as_str()));
        for rows in rows.chunks(ROWS) {
            let rows = rows.iter().map(|part| all_set::<ActiveModel>(self.row(part)));
            Entity::insert_many(rows).on_conflict(newer()).exec_without_returning(&tx).await?;
        }
        Ok(tx.commit().await?)
    }

    fn row(&self, part: &CatalogPart) -> Model {
        Model {
            tenant_id: self.tenant.0,
            server_id: part.server.0,
            era: part.era.as_str().to_owned(),
            declared: part.declared.cast_signed(),
            part: part.part.clone(),
            revision: part.revision,
            body: part.body.to_string(),
            listed_at: time::to_column(part.listed_at),
        }
    }
}

/// Replaces a stored part by one of a later revision, or by a later one of the same.
fn newer() -> OnConflict {
    let stored = |column| Expr::col((Entity, column));
    let given = |column| Expr::col(("excluded", column));
    let is_earlier = stored(Column::ListedAt).lte(given(Column::ListedAt));
    let earlier = (stored(Column::Revision).lt(given(Column::Revision)))
        .or(stored(Column::Revision).eq(given(Column::Revision)).and(is_earlier));
    OnConflict::columns([Column::TenantId, Column::ServerId, Column::Era, Column::Declared, Column::Part])
        .update_columns([Column::Revision, Column::Body, Column::ListedAt])
        .action_and_where(earlier)
        .to_owned()
}
