//! Queries of tasks themselves.

use protocol::{Code, Refusal};
use sea_orm::sea_query::{LockBehavior, Query, SelectStatement};
use sea_orm::{
    ColumnTrait, Condition, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, Select,
};
use serde_json::{Map, Value, json};

use super::patch::apply;
use super::{Head, LOCK, TaskChange, clock, insert_events, no_task, refused};
use crate::actor::Actor;
use crate::change::{self, Change, Event as AuditEvent};
use crate::collab::{Access, Done, EventKind, Member, NewTask, Status, Task, TaskFilter, TaskPatch};
use crate::error::{DbError, is_unique_violation};
use crate::page::{Page, Paged};
use crate::rows::all_set;
use crate::rows::collab::{dependencies, outbox, participants, tasks};
use crate::rows::tenants;
use crate::scope::{TenantScope, paged, refuse_nul};
use crate::time;

impl TenantScope<'_> {
    /// Creates a task.
    ///
    /// # Errors
    /// [`Code::Conflict`] for an id that is taken, [`Code::ValidationFailed`] for tasks to depend on that do
    /// not exist, or depend on this one.
    pub async fn create_task(&self, member: &Member, new: NewTask) -> Result<Done<Task>, Refusal> {
        check_texts(&new).map_err(refused)?;
        let tx = change::begin(self.db).await.map_err(refused)?;
        self.hold_tenant(&tx).await.map_err(refused)?;
        let now = clock(&tx, self.db).await.map_err(refused)?;
        let task = tasks::Model {
            tenant_id: self.tenant.0,
            id: new.id,
            title: new.title,
            description: new.description,
            status: new.status.as_str().to_owned(),
            assigned_to: new.assigned_to,
            complexity: new.complexity,
            parent: new.parent,
            labels: json!(new.labels),
            result: None,
            access: new.access.as_str().to_owned(),
            created_by: Some(member.agent.clone()),
            version: 1,
            // A row that begins with 0 is another program's.
            last_seq: 1,
            created_at: now,
            updated_at: now,
        };
        let row = all_set::<tasks::ActiveModel>(task.clone());
        tasks::Entity::insert(row).exec_without_returning(&tx).await.map_err(|error| {
            match is_unique_violation(&error) {
                true => Refusal::new(Code::Conflict, format!("the task `{}` exists", task.id))
                    .hint("`task_get` shows it; a task without an id gets one"),
                false => refused(error),
            }
        })?;
        self.set_dependencies(&tx, member, &task.id, &new.depends_on).await?;
        let mut change = TaskChange::of(tx, task, now);
        change.task.last_seq = 0;
        let made = json!({
            "title": change.task.title, "status": change.task.status, "assignedTo": change.task.assigned_to,
        });
        change.event(EventKind::TaskCreated, Some(&member.agent), made);
        self.add_participants(&mut change, &new.participants).await?;
        let value = shown(change.task, new.depends_on);
        // The row has its number already: an update would look like another program's.
        insert_events(&change.tx, change.events).await.map_err(refused)?;
        change.tx.commit().await.map_err(refused)?;
        Ok(Done { seq: value.last_seq, value })
    }

    pub async fn find_task(&self, member: &Member, id: &str) -> Result<Task, Refusal> {
        let select = tasks::Entity::find_by_id((self.tenant.0, id.to_owned()));
        let row = select.one(self.db.reader()).await.map_err(refused)?.ok_or_else(|| no_task(id))?;
        if !self.is_open(self.db.reader(), member, &Head::from(&row)).await? {
            return Err(no_task(id));
        }
        let needs = self.dependencies(&[row.id.as_str()]).await.map_err(refused)?.remove(id);
        Ok(shown(row, needs.unwrap_or_default()))
    }

    /// Returns the tasks that the member may find, in the order that the filter names.
    pub async fn list_tasks(
        &self,
        member: &Member,
        filter: &TaskFilter,
        page: Page,
    ) -> Result<Paged<Task>, Refusal> {
        let select = tasks::Entity::find()
            .filter(self.found_by(member))
            .apply_if(filter.status, |select, status| {
                select.filter(tasks::Column::Status.eq(status.as_str()))
            })
            .apply_if(filter.assigned_to.as_ref(), |select, agent| {
                select.filter(tasks::Column::AssignedTo.eq(agent.as_str()))
            })
            .apply_if(filter.parent.as_ref(), |select, parent| {
                select.filter(tasks::Column::Parent.eq(parent.as_str()))
            });
        let select = match filter.newest_first {
            true => select.order_by_desc(tasks::Column::CreatedAt).order_by_asc(tasks::Column::Id),
            false => oldest_first(select),
        };
        let rows = paged(select, page, self.db.reader()).await.map_err(refused)?;
        let ids: Vec<&str> = rows.items.iter().map(|row| row.id.as_str()).collect();
        let mut needs = self.dependencies(&ids).await.map_err(refused)?;
        Ok(rows.map(|row| {
            let needs = needs.remove(&row.id).unwrap_or_default();
            shown(row, needs)
        }))
    }

    /// Returns ids and titles of the newest tasks that are open to every agent.
    pub async fn newest_tasks(&self, most: u64) -> Result<Vec<(String, String)>, Refusal> {
        let select = tasks::Entity::find()
            .filter(tasks::Column::TenantId.eq(self.tenant.0))
            .filter(tasks::Column::Access.eq(Access::Tenant.as_str()))
            .order_by_desc(tasks::Column::CreatedAt)
            .order_by_asc(tasks::Column::Id)
            .limit(most);
        let rows = select.all(self.db.reader()).await.map_err(refused)?;
        Ok(rows.into_iter().map(|row| (row.id, row.title)).collect())
    }

    /// Changes a task.
    ///
    /// # Errors
    /// [`Code::VersionConflict`] if the task is not as the patch expects, with what it is.
    pub async fn update_task(
        &self,
        member: &Member,
        id: &str,
        patch: TaskPatch,
    ) -> Result<Done<Task>, Refusal> {
        let mut change = self.change_task(member, id).await?;
        let task = &change.task;
        let expected = patch.expected_version.is_none_or(|version| version == task.version)
            && patch.expected_status.is_none_or(|status| status.as_str() == task.status);
        if !expected {
            return Err(Refusal::new(
                Code::VersionConflict,
                format!("the task is at version {} with the status `{}`", task.version, task.status),
            )
            .fact("currentVersion", task.version)
            .fact("currentStatus", task.status.as_str())
            .hint("read the task again and repeat the change if it still makes sense"));
        }
        let mut needs = self.dependencies_in(&change.tx, &[id]).await.map_err(refused)?;
        let mut needs = needs.remove(id).unwrap_or_default();
        let participants = patch.participants.clone();
        let changes = apply(&mut change.task, &mut needs, patch).map_err(refused)?;
        if changes.contains_key("dependsOn") {
            // One at a time per tenant: two changes that do not see each other could close a circle.
            let one = tenants::Entity::find_by_id(self.tenant.0).lock(LOCK);
            one.one(&change.tx).await.map_err(refused)?;
            self.set_dependencies(&change.tx, member, id, &needs).await?;
        }
        if !changes.is_empty() {
            changed(&mut change, member, changes);
        }
        self.add_participants(&mut change, &participants).await?;
        let task = shown(change.task.clone(), needs);
        change.commit(task).await.map(with_seq).map_err(refused)
    }

    /// Gives the member the oldest task that is pending, without another assignee, and whose dependencies
    /// are done. Two members never get the same.
    pub async fn next_task(
        &self,
        member: &Member,
        filter: &TaskFilter,
    ) -> Result<Option<Done<Task>>, Refusal> {
        let tx = change::begin(self.db).await.map_err(refused)?;
        let ready = self.ready_for(member, filter);
        let Some(task) = take_one(&tx, ready).await.map_err(refused)? else { return Ok(None) };
        let now = clock(&tx, self.db).await.map_err(refused)?;
        let mut change = TaskChange::of(tx, task, now);
        change.task.status = Status::InProgress.as_str().to_owned();
        change.task.assigned_to = Some(member.agent.clone());
        let changes = Map::from_iter([
            ("status".to_owned(), json!(change.task.status)),
            ("assignedTo".to_owned(), json!(member.agent)),
        ]);
        changed(&mut change, member, changes);
        let id = change.task.id.clone();
        let needs = self.dependencies_in(&change.tx, &[&id]).await.map_err(refused)?.remove(&id);
        let task = shown(change.task.clone(), needs.unwrap_or_default());
        Ok(Some(change.commit(task).await.map(with_seq).map_err(refused)?))
    }

    /// Selects the ready tasks, the oldest first.
    fn ready_for(&self, member: &Member, filter: &TaskFilter) -> Select<tasks::Entity> {
        let unfinished = Query::select()
            .column(tasks::Column::Id)
            .from(tasks::Entity)
            .and_where(tasks::Column::TenantId.eq(self.tenant.0))
            .and_where(tasks::Column::Status.ne(Status::Done.as_str()))
            .to_owned();
        let waits = Query::select()
            .column(dependencies::Column::TaskId)
            .from(dependencies::Entity)
            .and_where(dependencies::Column::TenantId.eq(self.tenant.0))
            .and_where(dependencies::Column::Needs.in_subquery(unfinished))
            .to_owned();
        let free = Condition::any()
            .add(tasks::Column::AssignedTo.is_null())
            .add(tasks::Column::AssignedTo.eq(member.agent.as_str()));
        let select = tasks::Entity::find()
            .filter(self.found_by(member))
            .filter(tasks::Column::Status.eq(Status::Pending.as_str()))
            .filter(free)
            .filter(tasks::Column::Id.not_in_subquery(waits));
        let parent = filter.parent.as_ref();
        oldest_first(
            select
                .apply_if(parent, |select, parent| select.filter(tasks::Column::Parent.eq(parent.as_str()))),
        )
    }

    /// Deletes a task with its workspace, leases and events, and writes an audit event.
    pub async fn delete_task(&self, member: &Member, id: &str, actor: &Actor) -> Result<(), Refusal> {
        self.open_task(member, id).await?;
        let change = Change::begin(self.db, Some(self.tenant), actor).await.map_err(refused)?;
        let gone = tasks::Entity::delete_by_id((self.tenant.0, id.to_owned())).exec(&change.tx).await;
        if gone.map_err(refused)?.rows_affected == 0 {
            return Err(no_task(id));
        }
        // A later task of the same name has no rows of this one.
        let needed = dependencies::Entity::delete_many()
            .filter(dependencies::Column::TenantId.eq(self.tenant.0))
            .filter(dependencies::Column::Needs.eq(id));
        needed.exec(&change.tx).await.map_err(refused)?;
        let noted = outbox::Entity::delete_many()
            .filter(outbox::Column::TenantId.eq(self.tenant.0))
            .filter(outbox::Column::TaskId.eq(id));
        noted.exec(&change.tx).await.map_err(refused)?;
        let event = AuditEvent {
            tenant: Some(self.tenant),
            action: "task.delete",
            target: id.to_owned(),
            details: json!({}),
        };
        change.commit_unnumbered([event]).await.map_err(refused)
    }

    /// Selects the ids of the tasks that the member may find.
    pub(super) fn found_ids(&self, member: &Member) -> SelectStatement {
        tasks::Entity::find()
            .filter(self.found_by(member))
            .select_only()
            .column(tasks::Column::Id)
            .into_query()
    }

    /// Returns the condition for tasks that the member may find.
    pub(super) fn found_by(&self, member: &Member) -> Condition {
        let ours = Condition::all().add(tasks::Column::TenantId.eq(self.tenant.0));
        if member.sees_all {
            return ours;
        }
        let joined = Query::select()
            .column(participants::Column::TaskId)
            .from(participants::Entity)
            .and_where(participants::Column::TenantId.eq(self.tenant.0))
            .and_where(participants::Column::Agent.eq(member.agent.as_str()))
            .to_owned();
        ours.add(
            Condition::any()
                .add(tasks::Column::Access.eq(Access::Tenant.as_str()))
                .add(tasks::Column::CreatedBy.eq(member.agent.as_str()))
                .add(tasks::Column::AssignedTo.eq(member.agent.as_str()))
                .add(tasks::Column::Id.in_subquery(joined)),
        )
    }
}

/// Locks the first of the selected tasks that no other transaction takes.
async fn take_one(
    tx: &DatabaseTransaction,
    ready: Select<tasks::Entity>,
) -> Result<Option<tasks::Model>, DbError> {
    loop {
        let free = ready.clone().limit(1).lock_with_behavior(LOCK, LockBehavior::SkipLocked);
        let taken = match free.one(tx).await? {
            Some(task) => task,
            None => {
                if ready.clone().limit(1).one(tx).await?.is_none() {
                    return Ok(None);
                }
                // All are locked, if only for a log step.
                let Some(task) = ready.clone().limit(1).lock(LOCK).one(tx).await? else { continue };
                task
            }
        };
        // What it depends on may have changed before it was locked; its own statement sees that.
        let still = ready.clone().filter(tasks::Column::Id.eq(taken.id.as_str()));
        if let Some(task) = still.one(tx).await? {
            return Ok(Some(task));
        }
    }
}

/// Notes a change of the task's row.
fn changed(change: &mut TaskChange, member: &Member, changes: Map<String, Value>) {
    change.own_members = true;
    change.task.version += 1;
    change.task.updated_at = change.now;
    change.event(EventKind::TaskUpdated, Some(&member.agent), Value::Object(changes));
}

fn oldest_first(select: Select<tasks::Entity>) -> Select<tasks::Entity> {
    select.order_by_asc(tasks::Column::CreatedAt).order_by_asc(tasks::Column::Id)
}

/// Most tasks that one depends on, and most participants of one call.
const MOST_NAMED: usize = 100;

pub(super) fn check_names(depends_on: &[String], participants: &[String]) -> Result<(), DbError> {
    for (what, names) in
        [("tasks that one depends on", depends_on), ("participants of one call", participants)]
    {
        if names.len() > MOST_NAMED {
            return Err(DbError::Invalid(format!("{} {what} are more than {MOST_NAMED}", names.len())));
        }
    }
    Ok(())
}

fn check_texts(new: &NewTask) -> Result<(), DbError> {
    check_names(&new.depends_on, &new.participants)?;
    let optional = [&new.description, &new.assigned_to, &new.parent];
    let lists = [&new.labels, &new.depends_on, &new.participants];
    refuse_nul(
        [&new.id, &new.title]
            .into_iter()
            .chain(optional.into_iter().flatten())
            .chain(lists.into_iter().flatten())
            .map(String::as_str),
    )
}

fn shown(row: tasks::Model, depends_on: Vec<String>) -> Task {
    Task {
        id: row.id,
        title: row.title,
        description: row.description,
        status: row.status,
        assigned_to: row.assigned_to,
        complexity: row.complexity,
        parent: row.parent,
        labels: labels(row.labels),
        depends_on,
        result: row.result,
        access: row.access,
        created_by: row.created_by,
        version: row.version,
        last_seq: row.last_seq,
        created_at: time::from_column(row.created_at),
        updated_at: time::from_column(row.updated_at),
    }
}

/// Reads labels, also those of another program that are no list of texts.
fn labels(column: Value) -> Vec<String> {
    let text = |value: Value| value.as_str().map(str::to_owned).unwrap_or_else(|| value.to_string());
    match column {
        Value::Array(items) => items.into_iter().map(text).collect(),
        other => vec![text(other)],
    }
}

/// Brings the number of the newest event into the task.
fn with_seq(done: Done<Task>) -> Done<Task> {
    Done { value: Task { last_seq: done.seq, ..done.value }, seq: done.seq }
}
