//! Built-in server `collab`: tasks, shared workspaces with leases, and logs that agents follow. The
//! database is the authority; this process keeps contents by hash, and who waits for what.

mod agent;
mod archive;
mod blobs;
mod checkout;
mod definitions;
mod edit;
mod feed;
mod files;
mod hub;
mod leases;
mod logs;
mod mirror;
mod path;
mod resources;
mod seen;
mod steps;
mod tasks;
mod upkeep;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use entity::Db;
use parking_lot::Mutex;
use protocol::provider::{
    Changed, ProviderError, ProviderInfo, RequestContext, ToolDefinition, ToolOutput, ToolProvider, Watch,
};
use protocol::{Code, Refusal, Scope, TenantId};
use proxy::state::StateStore;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::agent::Agent;
pub use self::blobs::{Blobs, S3};
pub use self::checkout::Checkouts;
pub use self::feed::Feed;
use self::hub::{About, Hub, Notice};
use self::seen::Seen;
use self::steps::Steps;
pub use self::tasks::new_task_id;
pub use self::upkeep::CollabFigures;
pub use path::is_task_id;

/// Settings of the server.
#[derive(Clone, Debug)]
pub struct CollabSettings {
    /// Length of a lease without `ttl_seconds`.
    pub lease: Duration,
    /// Largest contents of a file, bytes.
    pub max_file_bytes: usize,
    /// Life of copies in Redis.
    pub cache_ttl: Duration,
    /// Interval at which other programs' rows are looked for.
    pub sync_from: Duration,
    /// Interval at which heartbeats are written.
    pub sync_to: Duration,
    /// Copies and messages of the tenant `default` under the names of earlier gateways too.
    pub compat_keys: Option<TenantId>,
}

/// The built-in server `collab`. Cheap to clone.
#[derive(Clone)]
pub struct Collab {
    db: Db,
    state: Arc<dyn StateStore>,
    blobs: Arc<Blobs>,
    checkouts: Option<Arc<Checkouts>>,
    hub: Arc<Hub>,
    steps: Arc<Steps>,
    seen: Arc<Seen>,
    settings: Arc<CollabSettings>,
    figures: Arc<upkeep::Figures>,
    outbound: Arc<Mutex<Option<mpsc::UnboundedReceiver<Notice>>>>,
    tasks: TaskTracker,
    /// Ends waits when the gateway stops.
    stopping: CancellationToken,
}

impl Collab {
    pub fn new(
        db: Db,
        state: Arc<dyn StateStore>,
        blobs: Blobs,
        checkouts: Option<Checkouts>,
        settings: CollabSettings,
    ) -> Self {
        let (hub, outbound) = Hub::new();
        Self {
            steps: Steps::new(db.clone(), Arc::clone(&hub)),
            seen: Arc::new(Seen::new(Arc::clone(&state), settings.cache_ttl)),
            db,
            state,
            blobs: Arc::new(blobs),
            checkouts: checkouts.map(Arc::new),
            hub,
            settings: Arc::new(settings),
            figures: Arc::default(),
            outbound: Arc::new(Mutex::new(Some(outbound))),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
        }
    }

    /// Waits for an event, at most so long, and not longer than the gateway runs.
    async fn wait(&self, most: Duration, event: impl Future<Output = ()>) {
        tokio::select! {
            () = event => {}
            () = tokio::time::sleep(most) => {}
            () = self.stopping.cancelled() => {}
        }
    }

    /// Tells of a committed change.
    fn changed(&self, tenant: TenantId, task: &str, seq: i64, about: About) {
        let key = (tenant, task.into());
        self.hub.changed(Notice { key, seq: Some(seq), about: about.and(About::LOGS), path: None });
    }

    async fn run_tool(&self, call: &Call<'_>, tool: &str) -> Result<ToolOutput, ProviderError> {
        let read = definitions::is_read(tool).ok_or(ProviderError::NotFound)?;
        call.agent.require(if read { Scope::TasksRead } else { Scope::TasksWrite })?;
        if let Some(task) = &call.task_id {
            path::check_task(task)?;
            self.seen.note(call.agent.tenant, task, &call.agent.member.agent);
        }
        match tool {
            "task_create" => self.task_create(call).await,
            "task_get" => self.task_get(call).await,
            "task_update" => self.task_update(call).await,
            "task_list" => self.task_list(call).await,
            "task_next" => self.task_next(call).await,
            "task_handoff" => self.task_handoff(call).await,
            "join_collab" => self.join_collab(call).await,
            "leave_collab" => self.leave_collab(call).await,
            "who" => self.who(call).await,
            "file_read" => self.file_read(call).await,
            "file_write" => self.file_write(call).await,
            "file_edit" => self.file_edit(call).await,
            "file_delete" => self.file_delete(call).await,
            "file_import" => self.file_import(call).await,
            "file_list" => self.file_list(call).await,
            "file_history" => self.file_history(call).await,
            "file_diff" => self.file_diff(call).await,
            "claim_file" => self.claim_file(call).await,
            "renew_file" => self.renew_file(call).await,
            "release_file" => self.release_file(call).await,
            "log_step" => self.log_step(call).await,
            "subscribe_logs" => self.subscribe_logs(call).await,
            _ => Err(ProviderError::NotFound),
        }
    }
}

/// One call of a tool.
struct Call<'a> {
    agent: Agent,
    task_id: Option<String>,
    arguments: &'a RawValue,
    deadline: Instant,
}

impl<'a> Call<'a> {
    /// Returns the call of a tool, as the agent that its arguments may name.
    fn of(context: &RequestContext<'_>, arguments: &'a RawValue) -> Result<Self, Refusal> {
        #[derive(Deserialize)]
        struct Head {
            agent_id: Option<String>,
            task_id: Option<String>,
        }
        let Head { agent_id, task_id } = read(arguments)?;
        Ok(Self { agent: Agent::of(context, agent_id)?, task_id, arguments, deadline: context.deadline })
    }

    /// Reads the arguments.
    fn read<T: Deserialize<'a>>(&self) -> Result<T, Refusal> {
        read(self.arguments)
    }

    /// Returns the time by which an answer that waits is given: a moment before the call's own time is over.
    fn answer_by(&self) -> Instant {
        self.deadline.checked_sub(Duration::from_millis(500)).unwrap_or(self.deadline)
    }
}

/// Reads arguments, whose names and types the schema has checked.
fn read<'a, T: Deserialize<'a>>(arguments: &'a RawValue) -> Result<T, Refusal> {
    serde_json::from_str(arguments.get()).map_err(|error| {
        Refusal::new(Code::ValidationFailed, format!("the arguments cannot be read: {error}"))
    })
}

#[async_trait]
impl ToolProvider for Collab {
    fn info(&self) -> ProviderInfo {
        ProviderInfo {
            name: "collab",
            title: "Collaboration",
            version: env!("CARGO_PKG_VERSION"),
            description: "Tasks, shared workspaces with leases that are enforced, and logs that agents follow. \
                          Join a task, claim a file before you change it, read it before you write it, log \
                          your steps, and release the file.",
        }
    }

    async fn tools(&self, _context: &RequestContext<'_>) -> Result<Vec<ToolDefinition>, ProviderError> {
        Ok(definitions::all(self.checkouts.is_some()))
    }

    async fn call(
        &self,
        context: &RequestContext<'_>,
        tool: &str,
        arguments: &RawValue,
    ) -> Result<ToolOutput, ProviderError> {
        self.run_tool(&Call::of(context, arguments)?, tool).await
    }

    fn has_resources(&self) -> bool {
        true
    }

    async fn resources(&self, context: &RequestContext<'_>) -> Result<Vec<Value>, ProviderError> {
        self.list_resources(context.tenant).await
    }

    async fn resource_templates(&self, _context: &RequestContext<'_>) -> Result<Vec<Value>, ProviderError> {
        Ok(resources::templates())
    }

    async fn read_resource(
        &self,
        context: &RequestContext<'_>,
        uri: &str,
    ) -> Result<Vec<Value>, ProviderError> {
        let agent = Agent::of_caller(context)?;
        agent.require(Scope::TasksRead)?;
        self.resource_contents(&agent, uri).await
    }

    fn has_updates(&self) -> bool {
        true
    }

    async fn watch_resource(
        &self,
        context: &RequestContext<'_>,
        uri: &str,
        changed: Changed,
    ) -> Result<Watch, ProviderError> {
        self.watch_uri(context.tenant, uri, changed).await
    }

    fn watch_resource_list(&self, tenant: TenantId, changed: Changed) -> Option<Watch> {
        Some(Watch::new(self.hub.watch(tenant, None, About::LIST, None, changed)))
    }
}

/// Returns an answer as JSON, for the model and for programs.
fn answer(structured: Value) -> ToolOutput {
    ToolOutput { text: structured.to_string(), structured: Some(structured) }
}

/// Returns the seconds of a bounded argument as a duration.
fn seconds(given: Option<f64>, usual: Duration, most: u64) -> Duration {
    given.map_or(usual, |seconds| Duration::from_secs_f64(seconds.clamp(0.0, most as f64)))
}

fn too_large(bytes: usize, most: usize) -> Refusal {
    Refusal::new(
        Code::BodyTooLarge,
        format!("the contents have {bytes} bytes, and a file has at most {most}"),
    )
    .hint("split the file; the operator sets `collaboration.workspace_file_max_bytes`")
}

/// Returns contents as text, or in Base64, with the name of the encoding.
fn encoded(contents: &Bytes) -> (String, &'static str) {
    use base64::Engine;
    match std::str::from_utf8(contents) {
        Ok(text) => (text.to_owned(), "utf-8"),
        Err(_) => (base64::engine::general_purpose::STANDARD.encode(contents), "base64"),
    }
}
