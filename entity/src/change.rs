//! One change: a transaction that cannot be committed without its audit events, and that bumps the
//! change counter by which other replicas notice.

use protocol::{AuditId, TenantId};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, ExprTrait, QueryFilter,
    SqliteTransactionMode, TransactionOptions, TransactionTrait,
};
use serde_json::Value;

use crate::actor::Actor;
use crate::db::{Backend, Db};
use crate::error::DbError;
use crate::rows::{all_set, audit_events, change_counter};
use crate::time;

/// The advisory lock that changes of the whole installation take on PostgreSQL: migrations and
/// declared servers, which every replica does at its start.
const INSTALLATION_LOCK: &str = "SELECT pg_advisory_xact_lock(7233183901370418)";

/// A transaction of one actor. Dropped, it changes nothing.
pub(crate) struct Change<'a> {
    pub tx: DatabaseTransaction,
    actor: &'a Actor,
}

/// What was done, for the audit.
pub(crate) struct Event {
    /// The tenant whose row changed; `None` for what belongs to the whole installation.
    pub tenant: Option<TenantId>,
    pub action: &'static str,
    pub target: String,
    /// Without secrets.
    pub details: Value,
}

impl<'a> Change<'a> {
    pub(crate) async fn begin(db: &Db, actor: &'a Actor) -> Result<Self, DbError> {
        Ok(Self { tx: begin(db).await?, actor })
    }

    /// A change that only one replica at a time makes.
    pub(crate) async fn begin_alone(db: &Db, actor: &'a Actor) -> Result<Self, DbError> {
        Ok(Self { tx: begin_alone(db).await?, actor })
    }

    /// Writes the events, bumps the counter, commits. Without events nothing has changed, and
    /// nothing is committed.
    pub(crate) async fn commit(self, events: impl IntoIterator<Item = Event>) -> Result<(), DbError> {
        let rows: Vec<_> = events.into_iter().map(|event| all_set(self.row(event))).collect();
        if rows.is_empty() {
            return Ok(self.tx.rollback().await?);
        }
        for row in rows {
            audit_events::Entity::insert::<audit_events::ActiveModel>(row)
                .exec_without_returning(&self.tx)
                .await?;
        }
        // Last, because its lock makes other changes wait until the commit.
        change_counter::Entity::update_many()
            .col_expr(change_counter::Column::Changes, Expr::col(change_counter::Column::Changes).add(1))
            .filter(change_counter::Column::Id.eq(change_counter::ONLY))
            .exec(&self.tx)
            .await?;
        Ok(self.tx.commit().await?)
    }

    fn row(&self, event: Event) -> audit_events::Model {
        audit_events::Model {
            id: AuditId::new().0,
            at: time::to_column(time::now()),
            tenant_id: event.tenant.map(|tenant| tenant.0),
            actor_tenant_id: self.actor.tenant.0,
            actor_agent_id: self.actor.agent.map(|agent| agent.0),
            actor_credential_id: self.actor.credential.map(|credential| credential.0),
            actor_kind: self.actor.kind_text().to_owned(),
            request_id: self.actor.request.0,
            ip: self.actor.ip.map(|ip| ip.to_string()),
            action: event.action.to_owned(),
            target: event.target,
            details: event.details,
        }
    }
}

/// A transaction that may write. SQLite takes the write lock at once: a transaction that begins
/// reading and then writes fails when another process wrote between.
pub(crate) async fn begin(db: &Db) -> Result<DatabaseTransaction, DbError> {
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    Ok(db.writer().begin_with_options(options).await?)
}

/// As [`begin`], one replica at a time.
pub(crate) async fn begin_alone(db: &Db) -> Result<DatabaseTransaction, DbError> {
    let tx = begin(db).await?;
    if db.backend() == Backend::Postgres {
        tx.execute_unprepared(INSTALLATION_LOCK).await?;
    }
    Ok(tx)
}
