//! Entries without a publisher: those of the program, which every start makes equal to it, and those that the
//! operator imports.

use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QuerySelect};
use serde_json::json;

use super::changes::add;
use super::latest::settle;
use crate::actor::Actor;
use crate::change::{Change, Event};
use crate::error::DbError;
use crate::marketplace::{Imported, NewVersion, Source};
use crate::rows::marketplace::entries::tags_column;
use crate::rows::marketplace::{entries, versions};
use crate::scope::OperatorScope;
use crate::time;

impl OperatorScope<'_> {
    /// Makes the curated entries equal the program's, and returns the number of changed ones. A name that somebody
    /// else has is left out. An entry that the program no longer has stays.
    pub async fn declare_entries(&self, curated: &[NewVersion], actor: &Actor) -> Result<u64, DbError> {
        let change = Change::begin_alone(self.db, actor).await?;
        let mut changed = Vec::new();
        for new in curated {
            if declare(&change.tx, new).await? {
                changed.push(format!("{}@{}", new.name, new.version));
            }
        }
        if changed.is_empty() {
            return Ok(0);
        }
        let count = changed.len() as u64;
        let details = json!({ "entries": changed });
        let target = "marketplace".to_owned();
        change
            .commit_unnumbered([Event { tenant: None, action: "registry.declare", target, details }])
            .await?;
        Ok(count)
    }

    /// Adds versions that come from another registry, and says of each what became of it. A second time nothing
    /// changes.
    pub async fn import(&self, all: &[NewVersion], actor: &Actor) -> Result<Vec<Imported>, DbError> {
        let change = self.change(actor).await?;
        let mut outcomes = Vec::with_capacity(all.len());
        for new in all {
            outcomes.push(import(&change.tx, new).await?);
        }
        let with = |wanted: Imported| -> Vec<String> {
            let both = all.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == wanted);
            both.map(|(new, _)| format!("{}@{}", new.name, new.version)).collect()
        };
        let (added, updated) = (with(Imported::Added), with(Imported::Updated));
        if added.is_empty() && updated.is_empty() {
            return Ok(outcomes);
        }
        let details = json!({ "added": added, "updated": updated });
        let target = "marketplace".to_owned();
        change
            .commit_unnumbered([Event { tenant: None, action: "registry.import", target, details }])
            .await?;
        Ok(outcomes)
    }
}

/// Adds or corrects a curated entry; returns whether something changed.
async fn declare(tx: &DatabaseTransaction, new: &NewVersion) -> Result<bool, DbError> {
    let row = entries::Entity::find_by_id(new.name.clone()).lock_exclusive().one(tx).await?;
    let Some(mut row) = row else { return add(tx, None, Source::Curated, new).await.map(|()| true) };
    if row.source != Source::Curated.as_str() {
        tracing::warn!(entry = new.name, "a curated entry is left out: its name is taken");
        return Ok(false);
    }
    let known = find_version(tx, new).await?;
    let Some(known) = known else { return add(tx, None, Source::Curated, new).await.map(|()| true) };
    let tags = tags_column(&new.tags);
    if known.document == new.document && row.category == new.category && row.tags == tags {
        return Ok(false);
    }
    versions::Entity::update_many()
        .col_expr(versions::Column::Document, Expr::value(new.document.as_str()))
        .col_expr(versions::Column::Title, Expr::value(new.title.clone()))
        .col_expr(versions::Column::Description, Expr::value(new.description.as_str()))
        .col_expr(versions::Column::UpdatedAt, Expr::value(time::to_column(time::now())))
        .filter(versions::Column::Name.eq(new.name.as_str()))
        .filter(versions::Column::Version.eq(new.version.as_str()))
        .exec(tx)
        .await?;
    (row.category, row.tags) = (new.category.clone(), tags);
    settle(tx, &mut row).await?;
    Ok(true)
}

async fn import(tx: &DatabaseTransaction, new: &NewVersion) -> Result<Imported, DbError> {
    let row = entries::Entity::find_by_id(new.name.clone()).lock_exclusive().one(tx).await?;
    let mut ours = row.filter(|row| row.source == Source::Imported.as_str());
    if let (Some(row), Some(known)) = (&mut ours, find_version(tx, new).await?) {
        if known.document != new.document {
            let reason =
                format!("version {} is here with another document, and versions never change", new.version);
            return Ok(Imported::Refused(reason));
        }
        if known.status == new.status.as_str() {
            return Ok(Imported::Unchanged);
        }
        versions::Entity::update_many()
            .col_expr(versions::Column::Status, Expr::value(new.status.as_str()))
            .col_expr(versions::Column::UpdatedAt, Expr::value(time::to_column(time::now())))
            .filter(versions::Column::Name.eq(new.name.as_str()))
            .filter(versions::Column::Version.eq(new.version.as_str()))
            .exec(tx)
            .await?;
        return settle(tx, row).await.map(|()| Imported::Updated);
    }
    match add(tx, None, Source::Imported, new).await {
        Ok(()) => Ok(Imported::Added),
        Err(DbError::Conflict(reason) | DbError::Invalid(reason)) => Ok(Imported::Refused(reason)),
        Err(other) => Err(other),
    }
}

async fn find_version(
    tx: &DatabaseTransaction,
    new: &NewVersion,
) -> Result<Option<versions::Model>, DbError> {
    Ok(versions::Entity::find_by_id((new.name.clone(), new.version.clone())).one(tx).await?)
}
