//! Queries of the events of tasks: steps in groups, and rows of other programs.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use protocol::{Code, Refusal, TenantId};
use sea_orm::sea_query::{Expr, LockBehavior, LockType};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, EntityTrait, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect, TransactionTrait,
};
use serde_json::json;
use uuid::Uuid;

use super::{clock, insert_events, lock_tasks, no_task, refuse_nul_inside, refused, set_last_seq};
use crate::change;
use crate::collab::{Event, EventKind, Ingested, Member, NewStep, Numbered};
use crate::error::DbError;
use crate::rows::collab::events::{Column, Entity, Model};
use crate::rows::collab::{outbox, tasks};
use crate::scope::{OperatorScope, TenantScope, refuse_nul};
use crate::time;

/// Rows of other programs that one transaction takes.
const INGESTED: u64 = 500;

/// Data of one page of events after which it ends, bytes.
const PAGE_BYTES: usize = 1 << 20;

type TaskKey = (TenantId, String);

/// Number of a step, or why it is refused.
type StepAnswer = Result<Numbered, Refusal>;

impl TenantScope<'_> {
    /// Returns at most `limit` events after the number, in order, and the number of the newest event. A number
    /// that the task has not reached is of an earlier task of the same name, and counts as 0. A page ends
    /// early after about 1 MB of data.
    pub async fn events_after(
        &self,
        member: &Member,
        task: &str,
        after: i64,
        limit: u64,
    ) -> Result<(Vec<Event>, i64), Refusal> {
        let row = self.open_task(member, task).await?;
        let after = if row.last_seq < after { 0 } else { after };
        if row.last_seq <= after {
            return Ok((Vec::new(), row.last_seq));
        }
        let select = Entity::find()
            .filter(Column::TenantId.eq(self.tenant.0))
            .filter(Column::TaskId.eq(task))
            .filter(Column::Seq.gt(after))
            // A number that another program chose is no event yet.
            .filter(Column::Seq.lte(row.last_seq))
            .order_by_asc(Column::Seq)
            .limit(limit);
        let rows = select.all(self.db.reader()).await.map_err(refused)?;
        let mut bytes = 0;
        let mut in_page = |row: &Model| {
            let fits = bytes < PAGE_BYTES;
            bytes += row.data.to_string().len();
            fits
        };
        Ok((rows.into_iter().take_while(|row| in_page(row)).map(Event::from).collect(), row.last_seq))
    }
}

impl OperatorScope<'_> {
    /// Stores steps of any tasks in one transaction, in their order. A step that is refused leaves the
    /// others as they are. `None` is a step whose task another transaction holds: it is not stored, and the
    /// others do not wait for it.
    ///
    /// # Errors
    /// A step's own: [`Code::NotFound`] for its task, [`Code::Conflict`] for an id that names another step.
    pub async fn append_steps(&self, steps: &[NewStep]) -> Result<Vec<Option<StepAnswer>>, DbError> {
        match self.append_together(steps).await {
            // One of them meets a row of another program, and must not cost the others.
            Err(DbError::Conflict(_)) if steps.len() > 1 => {
                let mut answers = Vec::with_capacity(steps.len());
                for step in steps.chunks(1) {
                    answers.extend(match self.append_together(step).await {
                        Err(error @ DbError::Conflict(_)) => vec![Some(Err(error.refusal()))],
                        stored => stored?,
                    });
                }
                Ok(answers)
            }
            Err(error @ DbError::Conflict(_)) => Ok(vec![Some(Err(error.refusal()))]),
            stored => stored,
        }
    }

    async fn append_together(&self, steps: &[NewStep]) -> Result<Vec<Option<StepAnswer>>, DbError> {
        if steps.is_empty() {
            return Ok(Vec::new());
        }
        let tx = change::begin(self.db).await?;
        let keys: BTreeSet<TaskKey> = steps.iter().map(NewStep::key).collect();
        let mut tasks = lock_tasks(&tx, keys.iter().cloned()).await?;
        let locked: HashSet<TaskKey> = tasks.keys().cloned().collect();
        let elsewhere: Vec<TaskKey> = keys.into_iter().filter(|key| !locked.contains(key)).collect();
        let busy: HashSet<TaskKey> =
            newest_events(&tx, &elsewhere).await?.into_iter().map(|(key, _)| key).collect();
        let now = clock(&tx, self.db).await?;
        let mut known = self.known_steps(&tx, steps).await?;
        let (mut answers, mut events) = (Vec::with_capacity(steps.len()), Vec::new());
        for step in steps {
            answers.push(match busy.contains(&step.key()) {
                true => None,
                false => Some(self.number_step(&tx, step, now, &mut tasks, &mut known, &mut events).await?),
            });
        }
        let grown: BTreeSet<TaskKey> = events.iter().map(key_of).collect();
        insert_events(&tx, events).await?;
        for key in &grown {
            set_last_seq(&tx, &tasks[key]).await?;
        }
        tx.commit().await?;
        Ok(answers)
    }

    async fn known_steps(
        &self,
        tx: &DatabaseTransaction,
        steps: &[NewStep],
    ) -> Result<HashMap<(TaskKey, String), Model>, DbError> {
        let any =
            steps.iter().filter(|step| !step.step_id.contains('\0')).fold(Condition::any(), |any, step| {
                let this = Condition::all()
                    .add(Column::TenantId.eq(step.tenant.0))
                    .add(Column::TaskId.eq(step.task.as_str()))
                    .add(Column::StepId.eq(step.step_id.as_str()));
                any.add(this)
            });
        if any.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = Entity::find().filter(any).all(tx).await?;
        let step = |row: &Model| row.step_id.clone().unwrap_or_default();
        Ok(rows.into_iter().map(|row| ((key_of(&row), step(&row)), row)).collect())
    }

    async fn number_step(
        &self,
        tx: &DatabaseTransaction,
        step: &NewStep,
        now: i64,
        tasks: &mut HashMap<TaskKey, tasks::Model>,
        known: &mut HashMap<(TaskKey, String), Model>,
        events: &mut Vec<Model>,
    ) -> Result<StepAnswer, DbError> {
        let nul = refuse_nul([step.agent.as_str(), step.step_id.as_str()])
            .and_then(|()| refuse_nul_inside(&step.data));
        if let Err(error) = nul {
            return Ok(Err(error.refusal()));
        }
        let key = step.key();
        let Some(task) = tasks.get_mut(&key) else { return Ok(Err(no_task(&step.task))) };
        let member = Member { agent: step.agent.clone(), sees_all: step.sees_all };
        match self.db.tenant(step.tenant).is_open(tx, &member, task).await {
            Ok(true) => {}
            Ok(false) => return Ok(Err(no_task(&step.task))),
            Err(refusal) => return Ok(Err(refusal)),
        }
        let step_key = (key, step.step_id.clone());
        if let Some(earlier) = known.get(&step_key) {
            let same = earlier.data == step.data && earlier.agent.as_deref() == Some(&step.agent);
            return Ok(match (same, earlier.seq) {
                (true, Some(seq)) => Ok(Numbered { seq, repeated: true }),
                (true, None) => Err(Refusal::new(
                    Code::Conflict,
                    format!(
                        "the step `{}` was written by another program and has no number yet",
                        step.step_id
                    ),
                )
                .hint("try again in a second")),
                (false, _) => Err(Refusal::new(
                    Code::Conflict,
                    format!("the id `{}` names a step with other contents", step.step_id),
                )
                .hint("give each step an id of its own, or none")),
            });
        }
        task.last_seq += 1;
        let row = Model {
            id: Uuid::now_v7(),
            tenant_id: step.tenant.0,
            task_id: step.task.clone(),
            seq: Some(task.last_seq),
            kind: EventKind::Step.as_str().to_owned(),
            agent: Some(step.agent.clone()),
            data: step.data.clone(),
            step_id: Some(step.step_id.clone()),
            at: now,
        };
        known.insert(step_key, row.clone());
        events.push(row);
        Ok(Ok(Numbered { seq: task.last_seq, repeated: false }))
    }

    /// Gives numbers to rows that other programs wrote, each once, and returns their tasks. Rows of a task
    /// that another transaction holds are left for the next time.
    pub async fn ingest_outbox(&self) -> Result<Vec<Ingested>, DbError> {
        if outbox::Entity::find().limit(1).one(self.db.reader()).await?.is_none() {
            return Ok(Vec::new());
        }
        let tx = change::begin(self.db).await?;
        let select = outbox::Entity::find()
            .order_by_asc(outbox::Column::Id)
            .limit(INGESTED)
            .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked);
        let rows = select.all(&tx).await?;
        let mut by_task: BTreeMap<TaskKey, Vec<outbox::Model>> = BTreeMap::new();
        for row in rows {
            by_task.entry((TenantId(row.tenant_id), row.task_id.clone())).or_default().push(row);
        }
        let mut tasks = lock_tasks(&tx, by_task.keys().cloned()).await?;
        let now = clock(&tx, self.db).await?;
        let mut ingested = Vec::new();
        for (key, rows) in by_task {
            let Some(task) = tasks.get_mut(&key) else {
                self.forget_deleted(&tx, &key, &rows).await?;
                continue;
            };
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
                }
            }
        }
        tx.commit().await?;
        Ok(ingested)
    }

    /// Deletes rows of a task that exists no more; rows of a locked one stay.
    async fn forget_deleted(
        &self,
        tx: &DatabaseTransaction,
        (tenant, task): &TaskKey,
        rows: &[outbox::Model],
    ) -> Result<(), DbError> {
        if tasks::Entity::find_by_id((tenant.0, task.clone())).one(tx).await?.is_none() {
            delete_outbox(tx, rows).await?;
        }
        Ok(())
    }

    /// Returns the number of rows of other programs that wait for their numbers.
    pub async fn outbox_depth(&self) -> Result<u64, DbError> {
        Ok(outbox::Entity::find().count(self.db.reader()).await?)
    }

    /// Returns the numbers of the newest events of these tasks, without those that do not exist.
    pub async fn newest_events(&self, keys: &[(TenantId, String)]) -> Result<Vec<(TaskKey, i64)>, DbError> {
        newest_events(self.db.reader(), keys).await
    }
}

async fn newest_events(db: &impl ConnectionTrait, keys: &[TaskKey]) -> Result<Vec<(TaskKey, i64)>, DbError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let any = keys.iter().fold(Condition::any(), |any, (tenant, task)| {
        let this = Condition::all().add(tasks::Column::TenantId.eq(tenant.0));
        any.add(this.add(tasks::Column::Id.eq(task.as_str())))
    });
    let select = tasks::Entity::find().filter(any).select_only().columns([
        tasks::Column::TenantId,
        tasks::Column::Id,
        tasks::Column::LastSeq,
    ]);
    let rows: Vec<(Uuid, String, i64)> = select.into_tuple().all(db).await?;
    Ok(rows.into_iter().map(|(tenant, task, seq)| ((TenantId(tenant), task), seq)).collect())
}

/// Numbers the rows of one locked task, in the order in which they were written.
async fn ingest(
    tx: &DatabaseTransaction,
    task: &mut tasks::Model,
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

impl NewStep {
    fn key(&self) -> TaskKey {
        (self.tenant, self.task.clone())
    }
}

fn key_of(row: &Model) -> TaskKey {
    (TenantId(row.tenant_id), row.task_id.clone())
}

impl From<Model> for Event {
    fn from(row: Model) -> Self {
        Event {
            seq: row.seq.unwrap_or_default(),
            kind: row.kind,
            agent: row.agent,
            data: row.data,
            step_id: row.step_id,
            at: time::from_column(row.at),
        }
    }
}
