//! The latest version of an entry: the highest by semantic versioning that is not deleted; a pre-release only while
//! no release exists.

use std::cmp::Reverse;

use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, FromQueryResult, QueryFilter, QuerySelect};
use semver::Version;

use crate::error::DbError;
use crate::marketplace::Status;
use crate::rows::all_set;
use crate::rows::marketplace::{entries, versions};

/// A version without its document.
#[derive(Clone, Debug, FromQueryResult)]
pub(super) struct Outline {
    pub version: String,
    pub title: Option<String>,
    pub description: String,
    pub stdio: bool,
    pub remote: bool,
    pub status: String,
    pub is_latest: bool,
    pub published_at: i64,
}

/// Order of versions: those of no semantic versioning first, by time; then pre-releases; then releases.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Other(i64),
    PreRelease(Version),
    Release(Version),
}

pub(super) fn rank(version: &str, published_at: i64) -> Rank {
    match Version::parse(version) {
        Ok(version) if version.pre.is_empty() => Rank::Release(version),
        Ok(version) => Rank::PreRelease(version),
        Err(_) => Rank::Other(published_at),
    }
}

/// Returns all versions of an entry.
pub(super) async fn outlines(tx: &DatabaseTransaction, name: &str) -> Result<Vec<Outline>, DbError> {
    use versions::Column;
    let select = versions::Entity::find().filter(Column::Name.eq(name)).select_only().columns([
        Column::Version,
        Column::Title,
        Column::Description,
        Column::Stdio,
        Column::Remote,
        Column::Status,
        Column::IsLatest,
        Column::PublishedAt,
    ]);
    Ok(select.into_model::<Outline>().all(tx).await?)
}

/// Finds the latest version after a change, marks it, and stores the entry with what is shown of it.
pub(super) async fn settle(tx: &DatabaseTransaction, entry: &mut entries::Model) -> Result<(), DbError> {
    let mut all = outlines(tx, &entry.name).await?;
    all.sort_by_key(|one| Reverse(rank(&one.version, one.published_at)));
    let latest = all.iter().find(|one| one.status != Status::Deleted.as_str());
    entry.latest = latest.map(|one| one.version.clone());
    for one in &all {
        let is_latest = entry.latest.as_ref() == Some(&one.version);
        if one.is_latest != is_latest {
            mark(tx, &entry.name, &one.version, is_latest).await?;
        }
    }
    if let Some(latest) = latest {
        (entry.stdio, entry.remote) = (latest.stdio, latest.remote);
        entry.search = searchable(entry, latest);
    }
    entries::Entity::update::<entries::ActiveModel>(all_set(entry.clone())).exec(tx).await?;
    Ok(())
}

async fn mark(tx: &DatabaseTransaction, name: &str, version: &str, is_latest: bool) -> Result<(), DbError> {
    versions::Entity::update_many()
        .col_expr(versions::Column::IsLatest, Expr::value(is_latest))
        .filter(versions::Column::Name.eq(name))
        .filter(versions::Column::Version.eq(version))
        .exec(tx)
        .await?;
    Ok(())
}

/// Returns the text that a search looks at.
fn searchable(entry: &entries::Model, latest: &Outline) -> String {
    let title = latest.title.as_deref().unwrap_or_default();
    format!("{}\n{title}\n{}{}", entry.name, latest.description, entry.tags).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::rank;

    #[test]
    fn a_release_is_later_than_any_pre_release() {
        let mut versions = ["2.0.0-rc.1", "1.10.0", "0.0.1a8", "1.9.0", "2.0.0-rc.10", "1.10.0+7"];
        versions.sort_by_key(|version| rank(version, 0));
        assert_eq!(versions, ["0.0.1a8", "2.0.0-rc.1", "2.0.0-rc.10", "1.9.0", "1.10.0", "1.10.0+7"]);
    }
}
