//! Rows of tasks that other programs wrote: each gets its number once, in the order in which they were written.

use std::collections::BTreeSet;
use std::time::Duration;

use protocol::TenantId;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, Condition, DatabaseTransaction, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect, TransactionTrait,
};
use serde_json::json;
use uuid::Uuid;

use super::events::TaskKey;
use super::{Head, clock, insert_events, lock_tasks, set_last_seq};
use crate::change;
use crate::collab::{EventKind, Ingested};
use crate::error::DbError;
use crate::rows::collab::events::{Column, Entity, Model};
use crate::rows::collab::{outbox, tasks};
use crate::scope::OperatorScope;

/// Rows of other programs that are taken at once.
const INGESTED: u64 = 500;

/// Tasks whose rows may be left before a look for others ends.
const LEFT: usize = 100;

impl OperatorScope<'_> {
    /// Gives numbers to rows that other programs wrote, each once, and returns their tasks. Rows of a task
    /// that another transaction holds, or that cannot be numbered, are left for the next time.
    pub async fn ingest_outbox(&self) -> Result<Vec<Ingested>, DbError> {
        let mut left: BTreeSet<TaskKey> = BTreeSet::new();
        while left.len() < LEFT {
            let others = left.iter().fold(Condition::all(), |all, key| all.add(of_task(key).not()));
            let select =
                outbox::Entity::find().filter(others).order_by_asc(outbox::Column::Id).limit(INGESTED);
            let rows = select.all(self.db.reader()).await?;
            let keys: BTreeSet<TaskKey> =
                rows.into_iter().map(|row| (TenantId(row.tenant_id), row.task_id)).collect();
            if keys.is_empty() {
                break;
            }
            let (ingested, further) = self.ingest_tasks(&keys).await?;
            if !ingested.is_empty() {
                return Ok(ingested);
            }
            left.extend(further);
        }
        Ok(Vec::new())
    }

    /// Numbers the rows of these tasks as far as they are free; returns those tasks whose rows are left. The
    /// rows are read under the lock of their task, so that two replicas keep their order.
    async fn ingest_tasks(&self, keys: &BTreeSet<TaskKey>) -> Result<(Vec<Ingested>, Vec<TaskKey>), DbError> {
        let tx = change::begin(self.db).await?;
        let mut tasks = lock_tasks(&tx, keys.iter().cloned()).await?;
        let now = clock(&tx, self.db).await?;
        let (mut ingested, mut left) = (Vec::new(), Vec::new());
        for key in keys {
            let Some(task) = tasks.get_mut(key) else {
                if !self.forget_deleted(&tx, key).await? {
                    left.push(key.clone());
                }
                continue;
            };
            let select =
                outbox::Entity::find().filter(of_task(key)).order_by_asc(outbox::Column::Id).limit(INGESTED);
            let rows = select.all(&tx).await?;
            if rows.is_empty() {
                // Another replica was faster.
                continue;
            }
            // A task whose rows cannot be numbered leaves the others as they are.
            let part = tx.begin().await?;
            match ingest(&part, task, now, rows).await {
                Ok(done) => {
                    part.commit().await?;
                    ingested.push(done);
                }
                Err(error) => {
                    part.rollback().await?;
                    let (tenant, task) = key;
                    tracing::error!(%tenant, task, error = error.detail(), "outside rows of a task are not numbered");
                    left.push(key.clone());
                }
            }
        }
        tx.commit().await?;
        Ok((ingested, left))
    }

    /// Deletes the rows of a task if it exists no more.
    async fn forget_deleted(&self, tx: &DatabaseTransaction, key: &TaskKey) -> Result<bool, DbError> {
        let (tenant, task) = key;
        let found =
            tasks::Entity::find_by_id((tenant.0, task.clone())).select_only().column(tasks::Column::Id);
        if found.into_tuple::<String>().one(tx).await?.is_some() {
            return Ok(false);
        }
        outbox::Entity::delete_many().filter(of_task(key)).exec(tx).await?;
        Ok(true)
    }

    /// Returns the number of rows of other programs that wait for their numbers.
    pub async fn outbox_depth(&self) -> Result<u64, DbError> {
        Ok(outbox::Entity::find().count(self.db.reader()).await?)
    }
}

/// Returns the condition for rows of a task in the outbox.
fn of_task((tenant, task): &TaskKey) -> Condition {
    Condition::all().add(outbox::Column::TenantId.eq(tenant.0)).add(outbox::Column::TaskId.eq(task.as_str()))
}

/// Numbers the rows of one locked task, in the order in which they were written.
async fn ingest(
    tx: &DatabaseTransaction,
    task: &mut Head,
    now: i64,
    rows: Vec<outbox::Model>,
) -> Result<Ingested, DbError> {
    let mut ids = Vec::new();
    for id in rows.iter().filter_map(|row| row.event_id) {
        task.last_seq += 1;
        let update = Entity::update_many()
            .col_expr(Column::Seq, Expr::value(task.last_seq))
            .filter(Column::Id.eq(id))
            .filter(Column::Seq.is_null());
        match update.exec(tx).await?.rows_affected {
            // The event was deleted since.
            0 => task.last_seq -= 1,
            _ => ids.push(id),
        }
    }
    let oldest = rows.iter().map(|row| row.noted_at).min();
    let row_changed = rows.iter().any(|row| row.event_id.is_none());
    if row_changed {
        task.last_seq += 1;
        task.version += 1;
        let event = Model {
            id: Uuid::now_v7(),
            tenant_id: task.tenant_id,
            task_id: task.id.clone(),
            seq: Some(task.last_seq),
            kind: EventKind::TaskChangedOutside.as_str().to_owned(),
            agent: None,
            data: json!({ "status": task.status, "version": task.version }),
            step_id: None,
            at: now,
        };
        insert_events(tx, vec![event]).await?;
    }
    delete_outbox(tx, &rows).await?;
    if row_changed || !ids.is_empty() {
        set_last_seq(tx, task).await?;
    }
    Ok(Ingested {
        tenant: TenantId(task.tenant_id),
        task: task.id.clone(),
        seq: task.last_seq,
        rows: rows.len(),
        lag: Duration::from_micros(oldest.map_or(0, |noted| (now - noted).max(0).unsigned_abs())),
        events: ids,
    })
}

async fn delete_outbox(tx: &DatabaseTransaction, rows: &[outbox::Model]) -> Result<(), DbError> {
    let ids = rows.iter().map(|row| row.id);
    outbox::Entity::delete_many().filter(outbox::Column::Id.is_in(ids)).exec(tx).await?;
    Ok(())
}
