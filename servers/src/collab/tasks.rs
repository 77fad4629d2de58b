//! Tools for tasks and their participants.

use entity::collab::{Access, NewTask, Status, Task, TaskFilter, TaskPatch};
use entity::{Actor, Page};
use protocol::provider::{ProviderError, ToolOutput};
use protocol::{Code, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::agent::{Agent, check_agent};
use super::hub::{About, Notice};
use super::logs::LONGEST_STEP;
use super::path::check_task;
use super::{Call, Collab, answer};

/// Longest title, bytes.
const TITLE: usize = 1000;

/// Longest other text of a task, bytes.
const TEXT: usize = 100_000;

#[derive(Deserialize)]
struct Create {
    task_id: Option<String>,
    title: String,
    #[serde(flatten)]
    members: Members,
}

#[derive(Deserialize)]
struct Update {
    task_id: String,
    title: Option<String>,
    #[serde(flatten)]
    members: Members,
    result: Option<Value>,
    expected_version: Option<i64>,
    expected_status: Option<String>,
    note: Option<String>,
    /// Members to remove: null means that an argument is left out, since some clients send it so.
    clear: Option<Vec<String>>,
}

/// Members of a task that both tools take.
#[derive(Deserialize)]
struct Members {
    description: Option<String>,
    status: Option<String>,
    assigned_to: Option<String>,
    complexity: Option<i32>,
    parent: Option<String>,
    labels: Option<Vec<String>>,
    depends_on: Option<Vec<String>>,
    access: Option<String>,
    participants: Option<Vec<String>>,
}

impl Members {
    /// Returns the changes that the members are.
    fn patch(self) -> Result<TaskPatch, Refusal> {
        if let Some(parent) = &self.parent {
            check_task(parent)?;
        }
        check_texts(None, self.description.as_ref(), self.labels.as_deref().unwrap_or_default())?;
        let named = self.participants.iter().flatten().chain(&self.assigned_to);
        named.into_iter().try_for_each(|agent| check_agent(agent))?;
        Ok(TaskPatch {
            description: self.description.map(Some),
            status: self.status.as_deref().map(status).transpose()?,
            assigned_to: self.assigned_to.map(Some),
            complexity: self.complexity.map(Some),
            parent: self.parent.map(Some),
            labels: self.labels,
            depends_on: self.depends_on,
            access: self.access.as_deref().map(access).transpose()?,
            participants: self.participants.unwrap_or_default(),
            ..TaskPatch::default()
        })
    }
}

#[derive(Deserialize)]
struct OfTask {
    task_id: String,
}

#[derive(Deserialize)]
struct List {
    status: Option<String>,
    assigned_to: Option<String>,
    parent: Option<String>,
    page: Option<u64>,
    page_size: Option<u64>,
}

#[derive(Deserialize)]
struct Handoff {
    task_id: String,
    to: String,
    note: Option<String>,
}

#[derive(Deserialize)]
struct Join {
    task_id: String,
    role: Option<String>,
}

impl Collab {
    pub(super) async fn task_create(&self, call: &Call<'_>) -> Result<ToolOutput, ProviderError> {
        let Create { task_id, title, members } = call.read()?;
        let id = task_id.unwrap_or_else(new_task_id);
        check_task(&id)?;
        check_texts(Some(&title), None, &[])?;
        let new = NewTask::of(id, title, members.patch()?);
        let task = self.create_task(&call.agent, new).await?;
        Ok(answer(json!({ "task": task })))
    }

    /// Creates a task and tells of it.
    pub async fn create_task(&self, agent: &Agent, new: NewTask) -> Result<Task, Refusal> {
        let tenant = agent.tenant;
        let made = self.db.tenant(tenant).create_task(&agent.member, new).await?;
        self.changed(tenant, &made.value.id, made.seq, About::TASK.and(About::LIST));
        Ok(made.value)
    }

    pub(super) async fn task_get(&self, call: &Call<'_>) -> Result<ToolOutput, ProviderError> {
        let OfTask { task_id } = call.read()?;
        let scope = self.db.tenant(call.agent.tenant);
        let task = scope.find_task(&call.agent.member, &task_id).await?;
        let participants = scope.participants(&call.agent.member, &task_id).await?;
        Ok(answer(json!({ "task": task, "participants": participants })))
    }

    pub(super) async fn task_update(&self, call: &Call<'_>) -> Result<ToolOutput, ProviderError> {
        let given: Update = call.read()?;
        check_texts(given.title.as_ref(), given.note.as_ref(), &[])?;
        let mut patch = TaskPatch {
            title: given.title,
            result: given.result.map(Some),
            expected_version: given.expected_version,
            expected_status: given.expected_status.as_deref().map(status).transpose()?,
            note: given.note,
            ..given.members.patch()?
        };
        for name in given.clear.unwrap_or_default() {
            match name.as_str() {
                "description" => patch.description = Some(None),
                "assigned_to" => patch.assigned_to = Some(None),
                "complexity" => patch.complexity = Some(None),
                "parent" => patch.parent = Some(None),
                "result" => patch.result = Some(None),
                _ => {
                    let words = ["description", "assigned_to", "complexity", "parent", "result"];
                    return Err(unknown_word("`clear`", &name, words.into_iter()).into());
                }
            }
        }
        let task = self.update_task(&call.agent, &given.task_id, patch).await?;
        Ok(answer(json!({ "task": task })))
    }

    /// Changes a task and tells of it.
    pub async fn update_task(&self, agent: &Agent, id: &str, patch: TaskPatch) -> Result<Task, Refusal> {
        let tenant = agent.tenant;
        let bytes = patch.result.as_ref().map_or(0, |result| json!(result).to_string().len());
        if bytes > LONGEST_STEP {
            let reason = format!("the result has {bytes} bytes, and at most {LONGEST_STEP} are taken");
            return Err(Refusal::new(Code::ValidationFailed, reason)
                .hint("write what is long into a file of the task"));
        }
        let listed = patch.title.is_some() || patch.access.is_some();
        let changed = self.db.tenant(tenant).update_task(&agent.member, id, patch).await?;
        let about = if listed { About::TASK.and(About::LIST) } else { About::TASK };
        self.changed(tenant, id, changed.seq, about);
        Ok(changed.value)
    }

    /// Deletes a task and tells of it.
    pub async fn delete_task(&self, agent: &Agent, id: &str, actor: &Actor) -> Result<(), Refusal> {
        self.db.tenant(agent.tenant).delete_task(&agent.member, id, actor).await?;
        self.hub.changed(Notice { key: (agent.tenant, id.into()), seq: None, about: About::ALL, path: None });
        if let Some(checkouts) = &self.checkouts
            && let Err(reason) = self.mirror_deleted(checkouts, agent.tenant, id).await
        {
            tracing::warn!(tenant = %agent.tenant, task = id, reason, "the directory of a deleted task stays");
        }
        Ok(())
    }

    pub(super) async fn task_list(&self, call: &Call<'_>) -> Result<ToolOutput, ProviderError> {
        let given: List = call.read()?;
        let page = Page::new(given.page.unwrap_or(1), given.page_size.unwrap_or(50));
        let filter = TaskFilter {
            status: given.status.as_deref().map(status).transpose()?,
            assigned_to: given.assigned_to,
            parent: given.parent,
            newest_first: false,
        };
        let found = self.db.tenant(call.agent.tenant).list_tasks(&call.agent.member, &filter, page).await?;
        Ok(answer(json!({
            "tasks": found.items, "page": found.page, "pageSize": found.page_size, "total": found.total,
        })))
    }

    pub(super) async fn task_next(&self, call: &Call<'_>) -> Result<ToolOutput, ProviderError> {
        let List { parent, .. } = call.read()?;
        let filter = TaskFilter { parent, ..TaskFilter::default() };
        let tenant = call.agent.tenant;
        let next = self.db.tenant(tenant).next_task(&call.agent.member, &filter).await?;
        Ok(answer(match next {
            None => json!({ "task": null }),
            Some(taken) => {
                self.changed(tenant, &taken.value.id, taken.seq, About::TASK);
                json!({ "task": taken.value })
            }
        }))
    }

    /// Assigns the task to another agent and ends the caller's leases in it.
    pub(super) async fn task_handoff(&self, call: &Call<'_>) -> Result<ToolOutput, ProviderError> {
        let Handoff { task_id, to, note } = call.read()?;
        check_texts(None, note.as_ref(), &[])?;
        check_agent(&to)?;
        let task = self.db.tenant(call.agent.tenant).find_task(&call.agent.member, &task_id).await?;
        if ["done", "cancelled"].contains(&task.status.as_str()) {
            let reason = format!("the task is `{}`, so there is nothing to hand off", task.status);
            return Err(Refusal::new(Code::Conflict, reason)
                .hint("`task_update` with another `status` opens it again")
                .into());
        }
        let patch = TaskPatch {
            assigned_to: Some(Some(to.clone())),
            participants: vec![to],
            note,
            ..TaskPatch::default()
        };
        let tenant = call.agent.tenant;
        // First: afterwards an agent that was only the assignee may not find the task any more.
        let released = self.db.tenant(tenant).release_all(&call.agent.member, &task_id).await?;
        self.changed(tenant, &task_id, released.seq, About::LEASES.and(About::PEOPLE));
        let task = self.update_task(&call.agent, &task_id, patch).await?;
        let paths: Vec<String> = released.value.into_iter().map(|lease| lease.path).collect();
        Ok(answer(json!({ "task": task, "released": paths })))
    }

    pub(super) async fn join_collab(&self, call: &Call<'_>) -> Result<ToolOutput, ProviderError> {
        let Join { task_id, role } = call.read()?;
        check_texts(role.as_ref(), None, &[])?;
        let (tenant, member) = (call.agent.tenant, &call.agent.member);
        let scope = self.db.tenant(tenant);
        let joined = scope.join_task(member, &task_id, role.as_deref()).await?;
        self.changed(tenant, &task_id, joined.seq, About::PEOPLE);
        let task = scope.find_task(member, &task_id).await?;
        let leases = scope.leases(member, Some(&task_id)).await?;
        Ok(answer(json!({
            "agentId": member.agent, "task": task, "participants": joined.value, "leases": leases,
        })))
    }

    pub(super) async fn leave_collab(&self, call: &Call<'_>) -> Result<ToolOutput, ProviderError> {
        let OfTask { task_id } = call.read()?;
        let (tenant, member) = (call.agent.tenant, &call.agent.member);
        let scope = self.db.tenant(tenant);
        let released = scope.release_all(member, &task_id).await?;
        let left = scope.leave_task(member, &task_id).await?;
        self.changed(tenant, &task_id, left.seq, About::PEOPLE.and(About::LEASES));
        let paths: Vec<String> = released.value.into_iter().map(|lease| lease.path).collect();
        Ok(answer(json!({ "agentId": member.agent, "participants": left.value, "released": paths })))
    }

    pub(super) async fn who(&self, call: &Call<'_>) -> Result<ToolOutput, ProviderError> {
        let OfTask { task_id } = call.read()?;
        let scope = self.db.tenant(call.agent.tenant);
        let participants = scope.participants(&call.agent.member, &task_id).await?;
        let leases = scope.leases(&call.agent.member, Some(&task_id)).await?;
        Ok(answer(json!({ "participants": participants, "leases": leases })))
    }
}

/// Returns an id for a task whose maker chose none.
pub fn new_task_id() -> String {
    format!("task-{}", Uuid::now_v7().simple())
}

fn status(text: &str) -> Result<Status, Refusal> {
    let words = || Status::ALL.iter().map(|status| status.as_str());
    Status::read(text).ok_or_else(|| unknown_word("status", text, words()))
}

fn access(text: &str) -> Result<Access, Refusal> {
    let words = || Access::ALL.iter().map(|access| access.as_str());
    Access::read(text).ok_or_else(|| unknown_word("access", text, words()))
}

fn unknown_word<'w>(what: &str, text: &str, words: impl Iterator<Item = &'w str>) -> Refusal {
    let words: Vec<&str> = words.collect();
    let text: String = text.chars().take(40).collect();
    Refusal::new(Code::ValidationFailed, format!("{what} is one of {}, not {text:?}", words.join(", ")))
}

fn check_texts(title: Option<&String>, text: Option<&String>, labels: &[String]) -> Result<(), Refusal> {
    let long = title.is_some_and(|title| title.len() > TITLE)
        || text.is_some_and(|text| text.len() > TEXT)
        || labels.len() > 100
        || labels.iter().any(|label| label.len() > 200);
    match long {
        false => Ok(()),
        true => Err(Refusal::new(
            Code::ValidationFailed,
            format!(
                "a title has at most {TITLE} bytes, a text {TEXT}, and there are at most 100 labels of 200"
            ),
        )),
    }
}
