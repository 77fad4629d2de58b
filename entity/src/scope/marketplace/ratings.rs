//! Ratings and installations of entries, each once per tenant, and their sums in the entry's row.

use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ColumnTrait, DatabaseTransaction, EntityTrait, ModelTrait, QueryFilter, QueryOrder, QuerySelect,
};
use serde_json::json;

use crate::actor::Actor;
use crate::change::Event;
use crate::error::DbError;
use crate::marketplace::Rating;
use crate::page::{Page, Paged};
use crate::rows::all_set;
use crate::rows::marketplace::{entries, installs, ratings};
use crate::scope::{TenantScope, paged, refuse_nul};
use crate::time;

impl TenantScope<'_> {
    /// Returns the ratings of an entry by all tenants, the newest first.
    pub async fn ratings(&self, name: &str, page: Page) -> Result<Paged<Rating>, DbError> {
        let select = ratings::Entity::find()
            .filter(ratings::Column::Name.eq(name))
            .order_by_desc(ratings::Column::UpdatedAt)
            .order_by_desc(ratings::Column::TenantId);
        Ok(paged(select, page, self.db.reader()).await?.map(Rating::from))
    }

    /// Rates an entry, in place of the tenant's earlier rating.
    ///
    /// # Errors
    /// `Conflict` for the tenant's own publication.
    pub async fn rate(
        &self,
        name: &str,
        stars: i32,
        review: Option<String>,
        actor: &Actor,
    ) -> Result<Rating, DbError> {
        refuse_nul(review.as_deref())?;
        let change = self.change(actor).await?;
        self.hold_tenant(&change.tx).await?;
        let mut entry = hold_entry(&change.tx, name).await?;
        if entry.latest.is_none() {
            return Err(DbError::NotFound);
        }
        if entry.tenant_id == Some(self.tenant.0) {
            return Err(DbError::Conflict(format!("`{name}` is this tenant's own, which it cannot rate")));
        }
        let before = self.rating(&change.tx, name).await?;
        let now = time::to_column(time::now());
        let row = ratings::Model {
            name: name.to_owned(),
            tenant_id: self.tenant.0,
            stars,
            review,
            created_at: before.as_ref().map_or(now, |before| before.created_at),
            updated_at: now,
        };
        let active = all_set::<ratings::ActiveModel>(row.clone());
        match &before {
            Some(before) => {
                ratings::Entity::update(active).exec(&change.tx).await?;
                entry.stars -= i64::from(before.stars);
            }
            None => {
                ratings::Entity::insert(active).exec_without_returning(&change.tx).await?;
                entry.ratings += 1;
            }
        }
        entry.stars += i64::from(stars);
        save(&change.tx, entry).await?;
        let details = json!({ "stars": stars, "review": row.review });
        change.commit_unnumbered([self.event("registry.rate", name, details)]).await?;
        Ok(row.into())
    }

    /// Removes the tenant's rating of an entry.
    pub async fn remove_rating(&self, name: &str, actor: &Actor) -> Result<(), DbError> {
        let change = self.change(actor).await?;
        let mut entry = hold_entry(&change.tx, name).await?;
        let rating = self.rating(&change.tx, name).await?.ok_or(DbError::NotFound)?;
        entry.ratings -= 1;
        entry.stars -= i64::from(rating.stars);
        let details = json!({ "stars": rating.stars });
        rating.delete(&change.tx).await?;
        save(&change.tx, entry).await?;
        change.commit_unnumbered([self.event("registry.unrate", name, details)]).await
    }

    /// Notes that the tenant has installed a version with an approved digest. A tenant counts once for an entry.
    pub async fn note_install(
        &self,
        name: &str,
        version: &str,
        digest: &str,
        actor: &Actor,
    ) -> Result<(), DbError> {
        let change = self.change(actor).await?;
        let mut entry = hold_entry(&change.tx, name).await?;
        let row = installs::Model {
            name: name.to_owned(),
            tenant_id: self.tenant.0,
            version: version.to_owned(),
            installed_at: time::to_column(time::now()),
        };
        let there =
            OnConflict::columns([installs::Column::Name, installs::Column::TenantId]).do_nothing().to_owned();
        let insert = installs::Entity::insert::<installs::ActiveModel>(all_set(row)).on_conflict(there);
        if insert.exec_without_returning(&change.tx).await? > 0 {
            entry.installs += 1;
            save(&change.tx, entry).await?;
        }
        let details = json!({ "version": version, "digest": digest });
        change.commit_unnumbered([self.event("registry.install", name, details)]).await
    }

    async fn rating(&self, tx: &DatabaseTransaction, name: &str) -> Result<Option<ratings::Model>, DbError> {
        Ok(ratings::Entity::find_by_id((name.to_owned(), self.tenant.0)).one(tx).await?)
    }

    fn event(&self, action: &'static str, name: &str, details: serde_json::Value) -> Event {
        Event { tenant: Some(self.tenant), action, target: name.to_owned(), details }
    }
}

async fn hold_entry(tx: &DatabaseTransaction, name: &str) -> Result<entries::Model, DbError> {
    let row = entries::Entity::find_by_id(name.to_owned()).lock_exclusive().one(tx).await?;
    row.ok_or(DbError::NotFound)
}

async fn save(tx: &DatabaseTransaction, entry: entries::Model) -> Result<(), DbError> {
    entries::Entity::update::<entries::ActiveModel>(all_set(entry)).exec(tx).await?;
    Ok(())
}
