//! Queries of sessions, by their own tenant and until they expire. Sessions are no part of the registry: no
//! audit event, no change number.

use jiff::Timestamp;
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, UpdateMany};

use crate::change;
use crate::error::{DbError, is_unique_violation};
use crate::rows::all_set;
use crate::rows::sessions::{ActiveModel, Column, Entity, Model};
use crate::scope::{OperatorScope, TenantScope, refuse_nul};
use crate::session::{NewSession, SessionRow};
use crate::time;

impl TenantScope<'_> {
    pub async fn create_session(&self, new: NewSession) -> Result<SessionRow, DbError> {
        refuse_nul([new.principal.as_str(), new.endpoint.as_str(), new.facts.as_str()])?;
        let now = time::to_column(time::now());
        let row = Model {
            id_hash: new.id_hash.to_vec(),
            tenant_id: self.tenant.0,
            principal: new.principal,
            endpoint: new.endpoint,
            facts: new.facts,
            created_at: now,
            seen_at: now,
            expires_at: time::to_column(new.expires_at),
        };
        let tx = change::begin(self.db).await?;
        self.hold_tenant(&tx).await?;
        Entity::insert::<ActiveModel>(all_set(row.clone())).exec_without_returning(&tx).await.map_err(
            |error| match is_unique_violation(&error) {
                true => DbError::Conflict("this session exists".to_owned()),
                false => error.into(),
            },
        )?;
        tx.commit().await?;
        Ok(row.into())
    }

    /// Returns the session whose id has this hash, unless another tenant's or expired.
    pub async fn find_session(&self, id_hash: &[u8; 32]) -> Result<Option<SessionRow>, DbError> {
        let select = Entity::find().filter(self.live_session(id_hash));
        Ok(select.one(self.db.reader()).await?.map(SessionRow::from))
    }

    /// Writes new facts and the time of use. An expired session is not found and does not come back.
    pub async fn update_session(
        &self,
        id_hash: &[u8; 32],
        facts: &str,
        expires_at: Timestamp,
    ) -> Result<(), DbError> {
        refuse_nul([facts])?;
        let seen = self.seen(id_hash, expires_at).col_expr(Column::Facts, Expr::value(facts));
        self.write(seen).await
    }

    /// Notes the time of use.
    pub async fn touch_session(&self, id_hash: &[u8; 32], expires_at: Timestamp) -> Result<(), DbError> {
        self.write(self.seen(id_hash, expires_at)).await
    }

    /// Deletes a session and returns whether there was one.
    pub async fn delete_session(&self, id_hash: &[u8; 32]) -> Result<bool, DbError> {
        let done = Entity::delete_many().filter(self.live_session(id_hash)).exec(self.db.writer()).await?;
        Ok(done.rows_affected > 0)
    }

    fn live_session(&self, id_hash: &[u8; 32]) -> Condition {
        Condition::all()
            .add(Column::IdHash.eq(id_hash.to_vec()))
            .add(Column::TenantId.eq(self.tenant.0))
            .add(Column::ExpiresAt.gt(time::to_column(time::now())))
    }

    fn seen(&self, id_hash: &[u8; 32], expires_at: Timestamp) -> UpdateMany<Entity> {
        Entity::update_many()
            .col_expr(Column::SeenAt, Expr::value(time::to_column(time::now())))
            .col_expr(Column::ExpiresAt, Expr::value(time::to_column(expires_at)))
            .filter(self.live_session(id_hash))
    }

    async fn write(&self, update: UpdateMany<Entity>) -> Result<(), DbError> {
        let done = update.exec(self.db.writer()).await?;
        if done.rows_affected == 0 { Err(DbError::NotFound) } else { Ok(()) }
    }
}

impl OperatorScope<'_> {
    /// Deletes the sessions of all tenants that had expired by then; returns their number.
    pub async fn purge_sessions(&self, now: Timestamp) -> Result<u64, DbError> {
        let expired = Column::ExpiresAt.lte(time::to_column(now));
        Ok(Entity::delete_many().filter(expired).exec(self.db.writer()).await?.rows_affected)
    }

    /// Keeps the `most` last used sessions of each caller; returns the number of deleted ones.
    pub async fn trim_sessions(&self, most: u32) -> Result<u64, DbError> {
        let number =
            Expr::cust("ROW_NUMBER() OVER (PARTITION BY tenant_id, principal ORDER BY seen_at DESC)");
        let numbered =
            Query::select().column(Column::IdHash).expr_as(number, "number").from(Entity).to_owned();
        let surplus = Query::select()
            .column(Column::IdHash)
            .from_subquery(numbered, "numbered")
            .and_where(Expr::col("number").gt(most))
            .to_owned();
        let delete = Entity::delete_many().filter(Column::IdHash.in_subquery(surplus));
        Ok(delete.exec(self.db.writer()).await?.rows_affected)
    }
}
