//! Queries of the events of tasks: pages of them, and steps in groups.

use std::collections::{BTreeSet, HashMap, HashSet};

use protocol::{Code, Refusal, TenantId};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use uuid::Uuid;

use super::{Head, clock, insert_events, lock_tasks, no_task, refused, set_last_seq};
use crate::change;
use crate::collab::{Event, EventKind, Member, NewStep, Numbered};
use crate::db::Backend;
use crate::error::DbError;
use crate::rows::collab::events::{Column, Entity, Model};
use crate::rows::collab::tasks;
use crate::scope::{OperatorScope, TenantScope, refuse_nul, refuse_nul_inside};
use crate::time;

/// Tasks of one query, within the depth of expressions that SQLite takes.
const ASKED: usize = 400;

/// Data of one page of events after which it ends, bytes.
const PAGE_BYTES: usize = 1 << 20;

pub(super) type TaskKey = (TenantId, String);

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
        Ok((in_page(rows), row.last_seq))
    }

    /// Returns at most `limit` of the newest events, in order, and the number of the newest. Older ones are left
    /// out after about 1 MB of data.
    pub async fn last_events(
        &self,
        member: &Member,
        task: &str,
        limit: u64,
    ) -> Result<(Vec<Event>, i64), Refusal> {
        let row = self.open_task(member, task).await?;
        let select = Entity::find()
            .filter(Column::TenantId.eq(self.tenant.0))
            .filter(Column::TaskId.eq(task))
            .filter(Column::Seq.lte(row.last_seq))
            .order_by_desc(Column::Seq)
            .limit(limit);
        let mut events = in_page(select.all(self.db.reader()).await.map_err(refused)?);
        events.reverse();
        Ok((events, row.last_seq))
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
            Err(DbError::Conflict(_) | DbError::Busy) if steps.len() > 1 => {
                let mut answers = Vec::with_capacity(steps.len());
                for step in steps.chunks(1) {
                    answers.extend(self.append_together(step).await.unwrap_or_else(alone));
                }
                Ok(answers)
            }
            Err(error @ (DbError::Conflict(_) | DbError::Busy)) => Ok(alone(error)),
            stored => stored,
        }
    }

    async fn append_together(&self, steps: &[NewStep]) -> Result<Vec<Option<StepAnswer>>, DbError> {
        if steps.is_empty() {
            return Ok(Vec::new());
        }
        let tx = change::begin(self.db).await?;
        if self.db.backend() == Backend::Postgres {
            // A step that another program writes too is waited for only shortly.
            tx.execute_unprepared("SET LOCAL lock_timeout = 200").await?;
        }
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
        tasks: &mut HashMap<TaskKey, Head>,
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

    /// Returns the numbers of the newest events of these tasks, without those that do not exist.
    pub async fn newest_events(&self, keys: &[(TenantId, String)]) -> Result<Vec<(TaskKey, i64)>, DbError> {
        newest_events(self.db.reader(), keys).await
    }
}

async fn newest_events(db: &impl ConnectionTrait, keys: &[TaskKey]) -> Result<Vec<(TaskKey, i64)>, DbError> {
    let mut newest = Vec::new();
    for keys in keys.chunks(ASKED) {
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
        newest.extend(rows.into_iter().map(|(tenant, task, seq)| ((TenantId(tenant), task), seq)));
    }
    Ok(newest)
}

/// Returns the first events, at least one, until they have a page's size.
fn in_page(rows: Vec<Model>) -> Vec<Event> {
    let mut bytes = 0;
    let mut fits = |row: &Model| {
        let fits = bytes < PAGE_BYTES;
        bytes += row.data.to_string().len();
        fits
    };
    rows.into_iter().take_while(|row| fits(row)).map(Event::from).collect()
}

/// Answers the only step of a transaction that failed: one that meets a held row is tried again.
fn alone(error: DbError) -> Vec<Option<StepAnswer>> {
    vec![match error {
        DbError::Busy => None,
        error => Some(Err(error.refusal())),
    }]
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
