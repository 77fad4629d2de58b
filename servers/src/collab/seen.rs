//! Last sights of agents: versions of files that they read or wrote, and tasks that they work in.
//! Neither needs to be exact: a forgotten version is read again, a late heartbeat is late.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use protocol::TenantId;
use proxy::state::{StateKey, StateStore};
use sha2::{Digest, Sha256};

use super::agent::Agent;

pub struct Seen {
    state: Arc<dyn StateStore>,
    life: Duration,
    /// Agents by task since the last [`Seen::take`].
    present: Mutex<HashSet<(TenantId, String, String)>>,
}

impl Seen {
    pub fn new(state: Arc<dyn StateStore>, life: Duration) -> Self {
        Self { state, life, present: Mutex::default() }
    }

    /// Notes that an agent works in a task.
    pub fn note(&self, tenant: TenantId, task: &str, agent: &str) {
        self.present.lock().insert((tenant, task.to_owned(), agent.to_owned()));
    }

    /// Returns the agents noted since the last time.
    pub fn take(&self) -> HashSet<(TenantId, String, String)> {
        std::mem::take(&mut *self.present.lock())
    }

    /// Returns the etag of the version of a file that the agent saw last, if that is known. Where the shared state cannot
    /// say, the write is as one of an agent that saw nothing.
    pub async fn etag(&self, agent: &Agent, task: &str, path: &str) -> Option<String> {
        match self.state.get(&key(agent, task, path)).await {
            Ok(value) => String::from_utf8(value?.to_vec()).ok(),
            Err(error) => {
                tracing::debug!(%error, "a seen version is not known");
                None
            }
        }
    }

    /// Notes the version of a file that the agent saw.
    pub async fn saw(&self, agent: &Agent, task: &str, path: &str, etag: &str) {
        let value = etag.to_owned().into();
        if let Err(error) = self.state.put(&key(agent, task, path), value, self.life).await {
            tracing::debug!(%error, "a seen version was not noted");
        }
    }
}

fn key(agent: &Agent, task: &str, path: &str) -> StateKey {
    let mut hash = Sha256::new();
    for part in [task, &agent.member.agent, path] {
        hash.update(part);
        hash.update([0]);
    }
    StateKey::tenant(agent.tenant, &format!("seen:{:x}", hash.finalize()))
}
