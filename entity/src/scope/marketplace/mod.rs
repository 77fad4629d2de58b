//! Queries of the marketplace. Its entries are the same for all tenants; a publication is changed by its tenant, and
//! any entry by the operator. No replica caches them.

mod changes;
mod imports;
mod latest;
mod ratings;

use std::collections::HashMap;

use protocol::TenantId;
use sea_orm::sea_query::{Expr, LikeExpr, SimpleExpr};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, ExprTrait, IntoSimpleExpr, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait,
};

use crate::error::DbError;
use crate::marketplace::{Entry, EntryFilter, EntryVersion, Source, Status, VersionFilter, WantedVersion};
use crate::page::{Page, Paged};
use crate::rows::marketplace::{entries, versions};
use crate::scope::servers::escape_like;
use crate::scope::{TenantScope, paged};
use crate::{rows, time};

impl TenantScope<'_> {
    /// Returns the entries that have a version which is not deleted, by name.
    pub async fn entries(&self, filter: &EntryFilter, page: Page) -> Result<Paged<Entry>, DbError> {
        use entries::Column;
        let own = |mine: bool| match mine {
            true => Condition::all().add(Column::TenantId.eq(self.tenant.0)),
            false => Condition::any().add(Column::TenantId.is_null()).add(Column::TenantId.ne(self.tenant.0)),
        };
        let remote = |remote: bool| if remote { Column::Remote } else { Column::Stdio };
        let select = entries::Entity::find()
            .filter(Column::Latest.is_not_null())
            .apply_if(filter.search.as_deref(), |select, text| {
                select.filter(contains(Column::Search, &text.to_lowercase()))
            })
            .apply_if(filter.category.as_deref(), |select, category| {
                select.filter(Column::Category.eq(category))
            })
            .apply_if(filter.tag.as_deref(), |select, tag| {
                select.filter(contains(Column::Tags, &format!("\n{tag}\n")))
            })
            .apply_if(filter.remote, |select, wanted| select.filter(remote(wanted).eq(true)))
            .apply_if(filter.featured, |select, featured| select.filter(Column::Featured.eq(featured)))
            .apply_if(filter.verified, |select, verified| select.filter(Column::Verified.eq(verified)))
            .apply_if(filter.mine, |select, mine| select.filter(own(mine)))
            .order_by_asc(Column::Name);
        let rows = paged(select, page, self.db.reader()).await?;
        let names = rows.items.iter().map(|row| row.name.as_str());
        let latest = rows.items.iter().filter_map(|row| row.latest.as_deref());
        let select = versions::Entity::find()
            .filter(versions::Column::Name.is_in(names))
            .filter(versions::Column::Version.is_in(latest));
        let found = select.all(self.db.reader()).await?.into_iter();
        let mut found: HashMap<_, _> =
            found.map(|version| ((version.name.clone(), version.version.clone()), version)).collect();
        let pairs = rows.map(|row| {
            let version = found.remove(&(row.name.clone(), row.latest.clone().unwrap_or_default()));
            (row, version)
        });
        pairs.try_map(|(row, version)| entry(row, version))
    }

    /// Returns an entry with its latest version; one whose versions are all deleted is not found.
    pub async fn find_entry(&self, name: &str) -> Result<Entry, DbError> {
        let row = entries::Entity::find_by_id(name.to_owned()).one(self.db.reader()).await?;
        let row = row.ok_or(DbError::NotFound)?;
        let latest = row.latest.clone().ok_or(DbError::NotFound)?;
        let version = versions::Entity::find_by_id((name.to_owned(), latest)).one(self.db.reader()).await?;
        entry(row, version)
    }

    /// Returns the publisher of an entry, also when all of its versions are deleted.
    pub async fn entry_owner(&self, name: &str) -> Result<Option<TenantId>, DbError> {
        let row = entries::Entity::find_by_id(name.to_owned()).one(self.db.reader()).await?;
        Ok(row.ok_or(DbError::NotFound)?.tenant_id.map(TenantId))
    }

    /// Returns all versions of an entry, deleted ones included, the newest first.
    pub async fn entry_versions(&self, name: &str) -> Result<Vec<EntryVersion>, DbError> {
        let select = versions::Entity::find().filter(versions::Column::Name.eq(name));
        let mut rows = select.all(self.db.reader()).await?;
        if rows.is_empty() {
            return Err(DbError::NotFound);
        }
        rows.sort_by_key(|row| std::cmp::Reverse(latest::rank(&row.version, row.published_at)));
        rows.into_iter().map(EntryVersion::try_from).collect()
    }

    /// Returns one version, or the latest.
    pub async fn entry_version(&self, name: &str, version: &WantedVersion) -> Result<EntryVersion, DbError> {
        let select =
            versions::Entity::find().filter(versions::Column::Name.eq(name)).filter(is_version(version));
        select.one(self.db.reader()).await?.ok_or(DbError::NotFound)?.try_into()
    }

    /// Returns versions of all entries by name and version, at most `limit` and one more, by which a reader sees
    /// that there is a next page.
    pub async fn versions(&self, filter: &VersionFilter) -> Result<Vec<EntryVersion>, DbError> {
        use versions::Column;
        let after = |(name, version): &(String, String)| {
            let same = Condition::all()
                .add(Column::Name.eq(name.as_str()))
                .add(Column::Version.gt(version.as_str()));
            // The first condition lets the index begin at the name.
            Condition::all()
                .add(Column::Name.gte(name.as_str()))
                .add(Condition::any().add(Column::Name.gt(name.as_str())).add(same))
        };
        let select = versions::Entity::find()
            .apply_if(filter.after.as_ref(), |select, place| select.filter(after(place)))
            .apply_if(filter.search.as_deref(), |select, text| {
                let name: SimpleExpr = Expr::expr(sea_orm::sea_query::Func::lower(Expr::col(Column::Name)));
                select.filter(name.like(pattern(&text.to_lowercase())))
            })
            .apply_if(filter.version.as_ref(), |select, version| select.filter(is_version(version)));
        let select = match filter.updated_since {
            Some(since) => select.filter(Column::UpdatedAt.gte(time::to_column(since))),
            None => select.filter(Column::Status.ne(Status::Deleted.as_str())),
        };
        let select = select.order_by_asc(Column::Name).order_by_asc(Column::Version).limit(filter.limit + 1);
        select.all(self.db.reader()).await?.into_iter().map(EntryVersion::try_from).collect()
    }
}

fn is_version(version: &WantedVersion) -> SimpleExpr {
    match version {
        WantedVersion::Latest => versions::Column::IsLatest.eq(true),
        WantedVersion::Exactly(version) => versions::Column::Version.eq(version.as_str()),
    }
}

fn contains(column: impl IntoSimpleExpr, text: &str) -> SimpleExpr {
    column.into_simple_expr().like(pattern(text))
}

fn pattern(text: &str) -> LikeExpr {
    LikeExpr::new(format!("%{}%", escape_like(text))).escape('\\')
}

fn entry(row: entries::Model, version: Option<versions::Model>) -> Result<Entry, DbError> {
    let version =
        version.ok_or_else(|| DbError::Corrupt(format!("entry {}: no latest version", row.name)))?;
    Ok(Entry {
        source: Source::parse(&row.source).ok_or_else(|| rows::unknown_word("source", &row.source))?,
        tags: row.tags(),
        name: row.name,
        owner: row.tenant_id.map(TenantId),
        category: row.category,
        featured: row.featured,
        verified: row.verified,
        ratings: row.ratings,
        stars: row.stars,
        installs: row.installs,
        latest: version.try_into()?,
        created_at: time::from_column(row.created_at),
        updated_at: time::from_column(row.updated_at),
    })
}
