//! Owners of tasks (tasks extension, and the legacy experiment): only the caller who got a task id may use
//! it, at the server that gave the id.

use std::sync::Arc;
use std::time::Duration;

use memchr::memmem;
use protocol::mcp::Era;
use protocol::{Code, Refusal, Slug};
use proxy::state::{StateKey, StateStore};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::mcp::context::Context;

/// Time for which a task is remembered.
const LIFE: Duration = Duration::from_secs(24 * 3600);

const EXTENSION: &str = "io.modelcontextprotocol/tasks";

pub struct Tasks {
    pub state: Arc<dyn StateStore>,
}

#[derive(Serialize, Deserialize)]
struct Owned {
    principal: String,
    server: Slug,
}

impl Tasks {
    /// Remembers the task that a result began, if any.
    pub async fn note(&self, context: Context<'_>, server: &Slug, result: &[u8]) {
        let Some(task) = begun(result) else { return };
        let owned = Owned { principal: context.caller.principal(), server: server.clone() };
        let value = serde_json::to_vec(&owned).expect("plain data").into();
        if let Err(error) = self.state.put(&key(context, &task), value, LIFE).await {
            tracing::warn!(%error, "a task cannot be remembered; its caller will not find it");
        }
    }

    /// Finds the server of this caller's task.
    pub async fn server(&self, context: Context<'_>, task: &str) -> Result<Slug, Refusal> {
        let client = &context.protocol.client;
        let declares = || {
            let declared = client.capabilities.as_deref().map_or("", |declared| declared.get());
            memmem::find(declared.as_bytes(), EXTENSION.as_bytes()).is_some()
        };
        if client.era == Era::Modern && !declares() {
            return Err(Refusal::new(Code::MissingCapability, "tasks need the extension to be declared")
                .fact("requiredCapabilities", serde_json::json!({ "extensions": { EXTENSION: {} } })));
        }
        let unknown = || Refusal::new(Code::InvalidParams, "this caller has no such task");
        let owned = self.state.get(&key(context, task)).await?.ok_or_else(unknown)?;
        let owned: Owned = serde_json::from_slice(&owned).map_err(|_| unknown())?;
        let here = context.protocol.endpoint.slug().is_none_or(|slug| *slug == owned.server);
        match here && owned.principal == context.caller.principal() {
            true => Ok(owned.server),
            false => Err(unknown()),
        }
    }
}

/// Returns the key of this caller's task: the ids of servers may collide between callers.
fn key(context: Context<'_>, task: &str) -> StateKey {
    let owned = format!("{}\n{task}", context.caller.principal());
    let hash: String = Sha256::digest(owned).iter().map(|byte| format!("{byte:02x}")).collect();
    StateKey::tenant(context.caller.tenant, &format!("mcp-task:{hash}"))
}

/// Returns the id of the task that a result began: modern at the top, legacy in `task`.
fn begun(result: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Begun {
        task_id: Option<String>,
        task: Option<Box<Begun>>,
    }
    memmem::find(result, br#""taskId""#)?;
    let begun: Begun = serde_json::from_slice(result).ok()?;
    begun.task_id.or_else(|| begun.task.and_then(|task| task.task_id))
}
