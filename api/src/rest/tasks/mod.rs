//! `/v1/tasks`: tasks, their files as they are, and their events.

pub mod events;

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use entity::collab::{Access, File, NewTask, Participant, Status, Task, TaskFilter, TaskPatch};
use protocol::{Code, Refusal, Scope};
use serde::Serialize;
use serde_json::{Value, json};
use servers::collab::Agent;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::problem::Problem;
use crate::rest::acting::Acting;
use crate::rest::describe::{Always, Conditional, Contested, Filtered, Named, Sent, body, described};
use crate::rest::input::form::{Form, words};
use crate::rest::input::parameters::{any, one_of};
use crate::rest::input::{Fields, IfMatch, Name, NoBody, Parameters, Payload, form};
use crate::rest::listed::{Created, PageOf, Tagged, created};

body!(NewTaskBody as "NewTask", new_task, "A task to be made.", {
    "id": "task-123", "title": "Write the parser", "dependsOn": ["task-122"]
});
body!(TaskPatchBody as "TaskPatch", task_patch, "What changes of a task.", {
    "status": "done", "result": {"tests": 12}, "expectedVersion": 3
});

fn new_task(f: &mut Fields) -> Option<NewTask> {
    let id = f.optional("id", task_id(), "Chosen by the caller; made when not given.");
    let title = f.required("title", form::text(1, 1000), "1 to 1000 characters.");
    let members = members(f);
    Some(NewTask::of(id.unwrap_or_else(servers::collab::new_task_id), title?, members))
}

fn task_patch(f: &mut Fields) -> Option<TaskPatch> {
    f.patching();
    f.fixed(&["id", "version", "lastSeq", "createdBy", "createdAt", "updatedAt"], "cannot be set");
    let title = f.optional("title", form::text(1, 1000), "1 to 1000 characters.");
    let members = members(f);
    let about = "What came out: any JSON of at most 64 KiB, which takes the place of an earlier one.";
    let result = f.clearing("result", anything(), about);
    let expected_version =
        f.optional("expectedVersion", form::whole(1, i64::MAX), "The version that the change builds on.");
    let expected_status =
        f.optional("expectedStatus", status_form(), "The status that the change builds on.");
    let note = f.optional("note", form::text(1, 10_000), "Words for those who follow the task.");
    Some(TaskPatch { title, result, expected_version, expected_status, note, ..members })
}

/// Reads the members that both bodies have.
fn members(f: &mut Fields) -> TaskPatch {
    let agents = || form::list(100, form::agent_slug());
    let access = [("tenant", Access::Tenant), ("participants", Access::Participants)];
    TaskPatch {
        description: f.clearing("description", form::text(0, 100_000), "What is to be done."),
        status: f.optional("status", status_form(), ""),
        assigned_to: f.clearing("assignedTo", form::agent_slug(), "The agent that does it."),
        complexity: f.clearing("complexity", form::whole(0, 1000), "How hard it is."),
        parent: f.clearing("parent", task_id(), "The task that this one is a part of."),
        labels: f.optional("labels", form::list(100, form::text(1, 200)), "Words to sort tasks by."),
        depends_on: f.optional("dependsOn", form::list(100, task_id()), "Tasks that must be done before."),
        access: f.optional(
            "access",
            form::word(access),
            "Who finds the task: the tenant's agents, or its own.",
        ),
        participants: f
            .optional("participants", agents(), "Agents that become participants.")
            .unwrap_or_default(),
        ..TaskPatch::default()
    }
}

fn task_id() -> Form<String> {
    form::text(1, 128).then(|id| match servers::collab::is_task_id(&id) {
        true => Ok(id),
        false => {
            Err("is 1 to 128 of A-Z, a-z, 0-9, _ . : @ and -, without a dot at the beginning".to_owned())
        }
    })
}

fn status_form() -> Form<Status> {
    let words = words(Status::ALL.iter().map(|status| status.as_str()));
    Form::new(json!({"type": "string", "pattern": words}), |value| {
        let found = value.as_str().and_then(Status::read);
        found.ok_or_else(|| format!("is one of {}", status_words()))
    })
}

fn status_words() -> String {
    Status::ALL.iter().map(|status| status.as_str()).collect::<Vec<_>>().join(", ")
}

fn anything() -> Form<Value> {
    Form::new(any_json(""), |value| Ok(value.clone()))
}

/// Returns the schema of any JSON.
fn any_json(about: &str) -> Value {
    json!({"type": ["object", "array", "string", "number", "boolean"], "description": about})
}

/// A task.
#[derive(Serialize)]
#[serde(transparent)]
pub struct TaskBody(Task);

described!(TaskBody as "Task", json!({
    "type": "object", "description": "A task. Members without a value are left out.",
    "required": ["id", "title", "status", "labels", "dependsOn", "access", "version", "lastSeq", "createdAt", "updatedAt"],
    "properties": {
        "id": {"type": "string", "example": "task-123"},
        "title": {"type": "string"},
        "description": {"type": "string"},
        "status": {"type": "string", "description": "pending, in_progress, blocked, review, done, failed or cancelled; another program may write others."},
        "assignedTo": {"type": "string"},
        "complexity": {"type": "integer"},
        "parent": {"type": "string"},
        "labels": {"type": "array", "items": {"type": "string"}},
        "dependsOn": {"type": "array", "items": {"type": "string"}},
        "result": any_json("What came out."),
        "access": {"type": "string"},
        "createdBy": {"type": "string"},
        "version": {"type": "integer", "description": "Grows with each change of these members."},
        "lastSeq": {"type": "integer", "description": "Number of the newest event."},
        "createdAt": {"$ref": "#/components/schemas/Moment"},
        "updatedAt": {"$ref": "#/components/schemas/Moment"},
    },
}));

/// A task and who works on it.
#[derive(Serialize, ToSchema)]
pub struct TaskView {
    #[serde(flatten)]
    #[schema(inline = false)]
    task: TaskBody,
    #[schema(value_type = Vec<Object>)]
    participants: Vec<Participant>,
}

/// The files of a workspace.
#[derive(Serialize, ToSchema)]
pub struct FileList {
    #[schema(value_type = Vec<Object>)]
    items: Vec<File>,
    /// The `after` of the next page; null on the last one.
    #[serde(rename = "nextCursor")]
    next_cursor: Option<String>,
}

/// Returns the agent of a request that needs this scope.
pub fn agent(acting: &Acting, scope: Scope) -> Result<Agent, Problem> {
    acting.require(scope)?;
    Ok(Agent::of_known(&acting.caller))
}

/// Lists tasks, the oldest first.
///
/// Needs `tasks:read`.
#[utoipa::path(
    get, path = "/v1/tasks", tag = "tasks",
    params(
        ("status" = Option<String>, Query, description = "Tasks in this status.", pattern = "^(pending|in_progress|blocked|review|done|failed|cancelled)$"),
        ("assignedTo" = Option<String>, Query, description = "Tasks of this agent."),
        ("parent" = Option<String>, Query, description = "Parts of this task."),
        ("page" = Option<u64>, Query, description = "Which page, from 1.", minimum = 1, maximum = 1_000_000_000),
        ("pageSize" = Option<u64>, Query, description = "Items on a page, 50 when not given.", minimum = 1, maximum = 500),
    ),
    responses((status = 200, description = "The tasks.", body = PageOf<TaskBody>), Always, Filtered)
)]
pub async fn list_tasks(
    acting: Acting,
    State(app): State<Arc<App>>,
    query: Parameters,
) -> Result<Json<PageOf<TaskBody>>, Problem> {
    let agent = agent(&acting, Scope::TasksRead)?;
    let mut query = query.read()?;
    let all: Vec<&str> = Status::ALL.iter().map(|status| status.as_str()).collect();
    let filter = TaskFilter {
        status: query.optional("status", one_of(Status::read, &all)),
        assigned_to: query.optional("assignedTo", any),
        parent: query.optional("parent", any),
        newest_first: false,
    };
    let page = query.page();
    query.finish()?;
    let rows = acting.rows(&app).list_tasks(&agent.member, &filter, page).await?;
    Ok(PageOf::of(rows, TaskBody))
}

/// Creates a task, with a workspace and a log.
///
/// Needs `tasks:write`.
#[utoipa::path(
    post, path = "/v1/tasks", tag = "tasks", request_body = NewTaskBody,
    responses((status = 201, description = "The task; `Location` is its path.", body = TaskBody), Always, Filtered, Sent, Contested)
)]
pub async fn create_task(
    acting: Acting,
    State(app): State<Arc<App>>,
    payload: Payload,
) -> Result<Tagged<Created<TaskBody>>, Problem> {
    let agent = agent(&acting, Scope::TasksWrite)?;
    let new = payload.read(new_task)?;
    let task = app.collab.create_task(&agent, new).await?;
    Ok((tag(&task), created("/v1/tasks", task.id.clone(), TaskBody(task))))
}

/// Finds a task, with its participants.
///
/// Needs `tasks:read`.
#[utoipa::path(
    get, path = "/v1/tasks/{id}", tag = "tasks",
    params(("id" = String, Path, description = "The task's id.")),
    responses((status = 200, description = "The task.", body = TaskView), Always, Named)
)]
pub async fn find_task(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(id): Name,
) -> Result<Tagged<Json<TaskView>>, Problem> {
    let agent = agent(&acting, Scope::TasksRead)?;
    let rows = acting.rows(&app);
    let task = rows.find_task(&agent.member, &id).await?;
    let participants = rows.participants(&agent.member, &id).await?;
    Ok((tag(&task), Json(TaskView { task: TaskBody(task), participants })))
}

/// Changes a task (RFC 7396, but that `result` is replaced as a whole). `If-Match` and `expectedVersion` refuse
/// the change of another version.
///
/// Needs `tasks:write`.
#[utoipa::path(
    patch, path = "/v1/tasks/{id}", tag = "tasks", request_body = TaskPatchBody,
    params(("id" = String, Path, description = "The task's id."), ("If-Match" = Option<String>, Header, description = "The ETag: the version, in quotes.", pattern = r#"^(\*|(W/)?"[^",]*"(, *(W/)?"[^",]*")*)$"#)),
    responses((status = 200, description = "The task.", body = TaskBody), Always, Named, Filtered, Sent, Contested, Conditional)
)]
pub async fn update_task(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(id): Name,
    condition: IfMatch,
    payload: Payload,
) -> Result<Tagged<Json<TaskBody>>, Problem> {
    let agent = agent(&acting, Scope::TasksWrite)?;
    let mut patch = payload.read(task_patch)?;
    let mut by_header = false;
    if condition.is_exact() {
        let before = acting.rows(&app).find_task(&agent.member, &id).await?;
        condition.check(&tag(&before)[0].1)?;
        by_header = patch.expected_version.is_none();
        patch.expected_version.get_or_insert(before.version);
    }
    let changed = app.collab.update_task(&agent, &id, patch).await.map_err(|refusal| match refusal.code {
        // It changed between the check and the change.
        Code::VersionConflict if by_header => Refusal { code: Code::PreconditionFailed, ..refusal },
        _ => refusal,
    });
    let task = changed?;
    Ok((tag(&task), Json(TaskBody(task))))
}

/// Returns the ETag of a task's version.
fn tag(task: &Task) -> [(HeaderName, String); 1] {
    [(header::ETAG, format!("\"{}\"", task.version))]
}

/// Deletes a task with its workspace, its leases and its log.
///
/// Needs `tasks:write`; a task of others also `configs:write`. It leaves an audit event.
#[utoipa::path(
    delete, path = "/v1/tasks/{id}", tag = "tasks",
    params(("id" = String, Path, description = "The task's id.")),
    responses((status = 204, description = "It is deleted."), Always, Named, Sent)
)]
pub async fn delete_task(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(id): Name,
    _: NoBody,
) -> Result<StatusCode, Problem> {
    let agent = agent(&acting, Scope::TasksWrite)?;
    let task = acting.rows(&app).find_task(&agent.member, &id).await?;
    if task.created_by.as_deref() != Some(&agent.member.agent) {
        acting.require(Scope::ConfigsWrite)?;
    }
    app.collab.delete_task(&agent, &id, &acting.actor()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists the files of a task's workspace, by path.
///
/// Needs `tasks:read`.
#[utoipa::path(
    get, path = "/v1/tasks/{id}/files", tag = "tasks",
    params(
        ("id" = String, Path, description = "The task's id."),
        ("prefix" = Option<String>, Query, description = "How the paths begin."),
        ("after" = Option<String>, Query, description = "The `nextCursor` of the page before."),
    ),
    responses((status = 200, description = "The files.", body = FileList), Always, Named, Filtered)
)]
pub async fn list_files(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(id): Name,
    query: Parameters,
) -> Result<Json<FileList>, Problem> {
    const PAGE: u64 = 500;
    let agent = agent(&acting, Scope::TasksRead)?;
    let mut query = query.read()?;
    let long = |text: &str| Ok(text.to_owned());
    let (prefix, after) = (query.optional("prefix", long), query.optional("after", long));
    query.finish()?;
    let (items, next_cursor) =
        app.collab.list_files(&agent, &id, &prefix.unwrap_or_default(), after.as_deref(), PAGE).await?;
    Ok(Json(FileList { items, next_cursor }))
}

/// Downloads a file of a task's workspace, byte for byte.
///
/// Needs `tasks:read`.
#[utoipa::path(
    get, path = "/v1/tasks/{id}/files/{*path}", tag = "tasks",
    params(
        ("id" = String, Path, description = "The task's id."),
        ("path" = String, Path, description = "The file's path; it may have slashes."),
    ),
    responses((status = 200, description = "The contents; `ETag` names the version.", content_type = "application/octet-stream"), Always, Named, Filtered)
)]
pub async fn download_file(
    acting: Acting,
    State(app): State<Arc<App>>,
    place: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, Problem> {
    let Path((id, path)) = place.map_err(|_| Problem::not_found("file"))?;
    let agent = agent(&acting, Scope::TasksRead)?;
    let (file, contents) = app.collab.file_contents_of(&agent, &id, &path).await?;
    let mut response = attached(contents.into(), "application/octet-stream", file.path.rsplit('/').next());
    let tag = format!("\"{}\"", file.etag).parse().expect("digits are plain text");
    response.headers_mut().insert(header::ETAG, tag);
    Ok(response)
}

/// Downloads a task's whole workspace as a ZIP archive of at most 64 MiB of contents.
///
/// Needs `tasks:read`.
#[utoipa::path(
    get, path = "/v1/tasks/{id}/archive", tag = "tasks",
    params(("id" = String, Path, description = "The task's id.")),
    responses((status = 200, description = "The archive.", content_type = "application/zip"), (status = 413, description = "The workspace is larger: `body_too_large`."), Always, Named)
)]
pub async fn download_workspace(
    acting: Acting,
    State(app): State<Arc<App>>,
    Name(id): Name,
) -> Result<Response, Problem> {
    let agent = agent(&acting, Scope::TasksRead)?;
    let archive = app.collab.archive(&agent, &id).await?;
    Ok(attached(archive.into(), "application/zip", Some(&format!("{id}.zip"))))
}

/// Returns contents that a browser saves and never shows: they are what an agent wrote.
fn attached(contents: Body, kind: &'static str, name: Option<&str>) -> Response {
    let mut response = Response::new(contents);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let plain: String = name
        .unwrap_or("file")
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' })
        .collect();
    let value = format!("attachment; filename=\"{plain}\"").parse().expect("it was made plain");
    headers.insert(header::CONTENT_DISPOSITION, value);
    response
}

/// Reads the number of the last event that a reader knows.
fn cursor(text: &str) -> Option<i64> {
    text.parse::<i64>().ok().filter(|number| *number >= 0)
}
