//! Database transactions that cannot be committed without audit events, and the change numbers by which
//! replicas notice outdated cached rows.

use std::collections::HashSet;

use protocol::{AuditId, TenantId};
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, ExprTrait, QueryFilter,
    SqliteTransactionMode, TransactionOptions, TransactionTrait,
};
use serde_json::Value;

use crate::actor::Actor;
use crate::db::{Backend, Db};
use crate::error::DbError;
use crate::rows::{all_set, audit_events, change_counter, tenant_changes};
use crate::time;

/// The advisory lock that changes of the whole installation take on PostgreSQL: migrations and
/// declared servers, which every replica does at its start.
const INSTALLATION_LOCK: &str = "SELECT pg_advisory_xact_lock(7233183901370418)";

/// Tenants whose rows have changed since an earlier number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Changes {
    /// Number of the newest change.
    pub newest: i64,
    /// Change of the operator's rows, which every tenant's views and callers depend on.
    pub all_tenants: bool,
    pub tenants: HashSet<TenantId>,
}

impl Changes {
    /// Returns whether cached rows of this tenant may be out of date.
    pub fn affect(&self, tenant: TenantId) -> bool {
        self.all_tenants || self.tenants.contains(&tenant)
    }
}

/// A transaction of one actor, rolled back when dropped.
pub(crate) struct Change<'a> {
    pub tx: DatabaseTransaction,
    db: Db,
    actor: &'a Actor,
    /// Tenant whose cached rows the change makes out of date; `None` for all tenants.
    tenant: Option<TenantId>,
}

/// An entry for the audit log.
pub(crate) struct Event {
    /// Tenant whose row changed; `None` for rows of the whole installation.
    pub tenant: Option<TenantId>,
    pub action: &'static str,
    pub target: String,
    /// Details without secrets.
    pub details: Value,
}

impl<'a> Change<'a> {
    /// Begins a change of one tenant's rows, or (`None`) of rows that concern all tenants.
    pub(crate) async fn begin(db: &Db, tenant: Option<TenantId>, actor: &'a Actor) -> Result<Self, DbError> {
        Ok(Self { tx: begin(db).await?, db: db.clone(), actor, tenant })
    }

    /// Begins a change for all tenants that only one replica at a time makes.
    pub(crate) async fn begin_alone(db: &Db, actor: &'a Actor) -> Result<Self, DbError> {
        Ok(Self { tx: begin_alone(db).await?, db: db.clone(), actor, tenant: None })
    }

    /// Writes the events, numbers the change, commits, and waits until this process has followed. Commits
    /// nothing when there are no events.
    pub(crate) async fn commit(self, events: impl IntoIterator<Item = Event>) -> Result<(), DbError> {
        if self.write(events).await? == 0 {
            return Ok(self.tx.rollback().await?);
        }
        number(&self.tx, self.tenant).await?;
        self.tx.commit().await?;
        self.db.follow_change().await;
        Ok(())
    }

    /// Writes the events, if any, and commits without a number: for rows that no replica caches, and for
    /// new rows that leave all cached rows valid.
    pub(crate) async fn commit_unnumbered(
        self,
        events: impl IntoIterator<Item = Event>,
    ) -> Result<(), DbError> {
        self.write(events).await?;
        Ok(self.tx.commit().await?)
    }

    /// Writes the events and returns their number.
    async fn write(&self, events: impl IntoIterator<Item = Event>) -> Result<usize, DbError> {
        let mut written = 0;
        for event in events {
            write(&self.tx, self.actor, event).await?;
            written += 1;
        }
        Ok(written)
    }
}

/// Writes one audit event into a transaction that something else commits.
pub(crate) async fn write(tx: &DatabaseTransaction, actor: &Actor, event: Event) -> Result<(), DbError> {
    let row = audit_events::Model {
        id: AuditId::new().0,
        at: time::to_column(time::now()),
        tenant_id: event.tenant.map(|tenant| tenant.0),
        actor_tenant_id: actor.tenant.0,
        actor_agent_id: actor.agent.map(|agent| agent.0),
        actor_credential_id: actor.credential.map(|credential| credential.0),
        actor_kind: actor.kind_text().to_owned(),
        request_id: actor.request.0,
        ip: actor.ip.map(|ip| ip.to_string()),
        action: event.action.to_owned(),
        target: event.target,
        details: event.details,
    };
    let insert = audit_events::Entity::insert::<audit_events::ActiveModel>(all_set(row));
    insert.exec_without_returning(tx).await?;
    Ok(())
}

/// Gives the tenant's row, or that of all tenants, the next number. Must end the transaction: the lock on
/// the counter makes other changes wait until the commit, so that numbers become visible in order.
async fn number(tx: &DatabaseTransaction, tenant: Option<TenantId>) -> Result<(), DbError> {
    let counter = change_counter::Entity::update_many()
        .col_expr(change_counter::Column::Changes, Expr::col(change_counter::Column::Changes).add(1))
        .filter(change_counter::Column::Id.eq(change_counter::ONLY))
        .exec_with_returning(tx)
        .await?;
    let number = counter.first().ok_or_else(|| DbError::Corrupt("the change counter is gone".to_owned()))?;
    let row = tenant_changes::Model {
        tenant_id: tenant.map_or(tenant_changes::ALL_TENANTS, |tenant| tenant.0),
        number: number.changes,
    };
    let renumber = OnConflict::column(tenant_changes::Column::TenantId)
        .update_column(tenant_changes::Column::Number)
        .to_owned();
    tenant_changes::Entity::insert::<tenant_changes::ActiveModel>(all_set(row))
        .on_conflict(renumber)
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

impl Db {
    /// Returns the tenants whose rows have changed since the change of this number, 0 for the first; `None`
    /// when there was no change. A commit under a smaller number is never missed later.
    pub async fn changes_since(&self, number: i64) -> Result<Option<Changes>, DbError> {
        let select = tenant_changes::Entity::find().filter(tenant_changes::Column::Number.gt(number));
        let rows = select.all(self.reader()).await?;
        let Some(newest) = rows.iter().map(|row| row.number).max() else { return Ok(None) };
        let mut tenants: HashSet<TenantId> = rows.into_iter().map(|row| TenantId(row.tenant_id)).collect();
        let all_tenants = tenants.remove(&TenantId(tenant_changes::ALL_TENANTS));
        Ok(Some(Changes { newest, all_tenants, tenants }))
    }
}

/// Begins a transaction that may write. On SQLite the transaction takes the write lock at once: a
/// transaction that reads first fails when another process writes before its own write.
pub(crate) async fn begin(db: &Db) -> Result<DatabaseTransaction, DbError> {
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    Ok(db.writer().begin_with_options(options).await?)
}

/// Begins a transaction that only one replica at a time may hold.
pub(crate) async fn begin_alone(db: &Db) -> Result<DatabaseTransaction, DbError> {
    let tx = begin(db).await?;
    if db.backend() == Backend::Postgres {
        tx.execute_unprepared("SET LOCAL lock_timeout = 0").await?;
        tx.execute_unprepared(INSTALLATION_LOCK).await?;
    }
    Ok(tx)
}
