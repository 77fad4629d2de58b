//! Queries of tasks. A change of a task holds the lock of the task's row, so that its events are numbered in
//! the order of commits and without gaps, and its leases and files change one at a time. All times are those
//! of the database.

mod dependencies;
mod events;
mod files;
mod leases;
mod outbox;
mod participants;
mod patch;
mod queue;
mod tasks;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use protocol::{Code, Refusal, TenantId};
use sea_orm::sea_query::{Expr, LockBehavior, LockType};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, DerivePartialModel, EntityTrait,
    QueryFilter, QuerySelect, Statement,
};
use serde_json::Value;
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use crate::change;
use crate::collab::{Access, Done, EventKind, Member};
use crate::db::{Backend, Db};
use crate::error::{DbError, is_unique_violation};
use crate::rows::all_set;
use crate::rows::collab::{events as event_rows, participants as participant_rows, tasks as task_rows};
use crate::scope::TenantScope;
use crate::time;

/// The lock of a task's row. Another program that inserts an event holds the row's key until it commits, and
/// does not keep this lock from being taken.
const LOCK: LockType = LockType::NoKeyUpdate;

/// A transaction that holds one task's row.
struct TaskChange {
    tx: DatabaseTransaction,
    task: task_rows::Model,
    /// The database's time, after the row was locked.
    now: i64,
    events: Vec<event_rows::Model>,
    /// Change of the task's own members, not only of the number of its newest event.
    own_members: bool,
    /// Time for which the row was waited for.
    waited: Duration,
    _turn: Option<OwnedMutexGuard<()>>,
}

/// The columns that number a task's events and decide who finds it. What another program wrote into the others
/// is not read.
#[derive(Clone, Debug, DerivePartialModel)]
#[sea_orm(entity = "task_rows::Entity")]
struct Head {
    tenant_id: Uuid,
    id: String,
    status: String,
    access: String,
    created_by: Option<String>,
    assigned_to: Option<String>,
    version: i64,
    last_seq: i64,
}

impl From<&task_rows::Model> for Head {
    fn from(row: &task_rows::Model) -> Self {
        Head {
            tenant_id: row.tenant_id,
            id: row.id.clone(),
            status: row.status.clone(),
            access: row.access.clone(),
            created_by: row.created_by.clone(),
            assigned_to: row.assigned_to.clone(),
            version: row.version,
            last_seq: row.last_seq,
        }
    }
}

impl TaskChange {
    /// Returns the change of the members of a row that this transaction inserted or took.
    fn of(tx: DatabaseTransaction, task: task_rows::Model, now: i64) -> Self {
        Self { tx, task, now, events: Vec::new(), own_members: true, waited: Duration::ZERO, _turn: None }
    }

    /// Appends an event to those that the commit writes.
    fn event(&mut self, kind: EventKind, agent: Option<&str>, data: Value) {
        self.task.last_seq += 1;
        self.events.push(event_rows::Model {
            id: Uuid::now_v7(),
            tenant_id: self.task.tenant_id,
            task_id: self.task.id.clone(),
            seq: Some(self.task.last_seq),
            kind: kind.as_str().to_owned(),
            agent: agent.map(str::to_owned),
            data,
            step_id: None,
            at: self.now,
        });
    }

    /// Writes the events and what changed of the task's row, and commits. Without an event nothing changed.
    async fn commit<T>(self, value: T) -> Result<Done<T>, DbError> {
        let seq = self.task.last_seq;
        if !self.events.is_empty() {
            insert_events(&self.tx, self.events).await?;
            match self.own_members {
                true => {
                    let row = all_set::<task_rows::ActiveModel>(self.task);
                    task_rows::Entity::update(row).exec(&self.tx).await?;
                }
                false => set_last_seq(&self.tx, &Head::from(&self.task)).await?,
            }
        }
        self.tx.commit().await?;
        Ok(Done { value, seq })
    }
}

impl TenantScope<'_> {
    /// Begins a change of a task that the member may find.
    async fn change_task(&self, member: &Member, id: &str) -> Result<TaskChange, Refusal> {
        let begun = Instant::now();
        let turn = self.db.turn((self.tenant, id)).await.map_err(refused)?;
        let tx = change::begin(self.db).await.map_err(refused)?;
        let select = task_rows::Entity::find_by_id((self.tenant.0, id.to_owned())).lock(LOCK);
        let task = select.one(&tx).await.map_err(refused)?.ok_or_else(|| no_task(id))?;
        let waited = begun.elapsed();
        if !self.is_open(&tx, member, &Head::from(&task)).await? {
            return Err(no_task(id));
        }
        let now = clock(&tx, self.db).await.map_err(refused)?;
        Ok(TaskChange { tx, task, now, events: Vec::new(), own_members: false, waited, _turn: Some(turn) })
    }

    /// Returns the task, unless the member may not find it.
    async fn open_task(&self, member: &Member, id: &str) -> Result<Head, Refusal> {
        let select =
            task_rows::Entity::find_by_id((self.tenant.0, id.to_owned())).into_partial_model::<Head>();
        let task = select.one(self.db.reader()).await.map_err(refused)?.ok_or_else(|| no_task(id))?;
        match self.is_open(self.db.reader(), member, &task).await? {
            true => Ok(task),
            false => Err(no_task(id)),
        }
    }

    async fn is_open(
        &self,
        db: &impl ConnectionTrait,
        member: &Member,
        task: &Head,
    ) -> Result<bool, Refusal> {
        let named = [&task.created_by, &task.assigned_to].into_iter().flatten();
        // A word that another program wrote opens nothing.
        let restricted = task.access != Access::Tenant.as_str();
        if !restricted || member.sees_all || named.into_iter().any(|agent| *agent == member.agent) {
            return Ok(true);
        }
        let key = (self.tenant.0, task.id.clone(), member.agent.clone());
        Ok(participant_rows::Entity::find_by_id(key).one(db).await.map_err(refused)?.is_some())
    }
}

/// Returns the present time of the database, so that the clocks of replicas may differ.
async fn clock(tx: &impl ConnectionTrait, db: &Db) -> Result<i64, DbError> {
    if db.backend() == Backend::Sqlite {
        return Ok(time::to_column(time::now()));
    }
    let select = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    let row = tx.query_one_raw(Statement::from_string(tx.get_database_backend(), select)).await?;
    let row = row.ok_or_else(|| DbError::Corrupt("the database gave no time".to_owned()))?;
    Ok(row.try_get_by_index(0)?)
}

/// Inserts events.
///
/// # Errors
/// [`DbError::Conflict`] for a number or an id that a row of another program has.
async fn insert_events(tx: &DatabaseTransaction, events: Vec<event_rows::Model>) -> Result<(), DbError> {
    /// Most rows of one statement, within the number of parameters that SQLite takes.
    const ROWS: usize = 500;
    for rows in events.chunks(ROWS) {
        let rows = rows.iter().cloned().map(all_set::<event_rows::ActiveModel>);
        let insert = event_rows::Entity::insert_many(rows).exec_without_returning(tx).await;
        insert.map_err(|error| match is_unique_violation(&error) {
            true => DbError::Conflict("another program wrote an event of the same number or id".to_owned()),
            false => error.into(),
        })?;
    }
    Ok(())
}

/// Locks the rows of several tasks, without those that others hold.
async fn lock_tasks(
    tx: &DatabaseTransaction,
    tasks: impl IntoIterator<Item = (TenantId, String)>,
) -> Result<HashMap<(TenantId, String), Head>, DbError> {
    let any = tasks.into_iter().fold(Condition::any(), |any, (tenant, task)| {
        let this = Condition::all().add(task_rows::Column::TenantId.eq(tenant.0));
        any.add(this.add(task_rows::Column::Id.eq(task)))
    });
    if any.is_empty() {
        return Ok(HashMap::new());
    }
    let select = task_rows::Entity::find().filter(any).lock_with_behavior(LOCK, LockBehavior::SkipLocked);
    let rows = select.into_partial_model::<Head>().all(tx).await?;
    Ok(rows.into_iter().map(|row| ((TenantId(row.tenant_id), row.id.clone()), row)).collect())
}

async fn set_last_seq(tx: &DatabaseTransaction, task: &Head) -> Result<(), DbError> {
    let update = task_rows::Entity::update_many()
        .col_expr(task_rows::Column::LastSeq, Expr::value(task.last_seq))
        .col_expr(task_rows::Column::Version, Expr::value(task.version))
        .filter(task_rows::Column::TenantId.eq(task.tenant_id))
        .filter(task_rows::Column::Id.eq(task.id.as_str()));
    update.exec(tx).await?;
    Ok(())
}

fn no_task(id: &str) -> Refusal {
    Refusal::new(Code::NotFound, format!("there is no task `{id}`"))
        .hint("`task_list` shows the tasks; `task_create` makes one")
}

fn refused(error: impl Into<DbError>) -> Refusal {
    let error = error.into();
    if matches!(error, DbError::Unavailable(_) | DbError::Corrupt(_)) {
        tracing::warn!(error = error.detail(), "a query of tasks failed");
    }
    error.refusal()
}
