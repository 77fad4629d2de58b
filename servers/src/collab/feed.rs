//! Events of a task, read on as they come.

use std::time::Duration;

use entity::collab::Event;
use protocol::{Code, Refusal};

use super::Collab;
use super::agent::Agent;
use super::hub::Follower;

/// Most events of one read.
const MOST: u64 = 50;

/// Least time between two reads that found nothing.
const BETWEEN: Duration = Duration::from_millis(10);

/// Pause after a failed read.
const AGAIN: Duration = Duration::from_secs(1);

/// A reader of a task's events after a number. It keeps nothing: a slow reader reads on from its number.
pub struct Feed {
    collab: Collab,
    agent: Agent,
    task: String,
    after: i64,
    follower: Follower,
}

impl Collab {
    /// Begins to read the events of a task after a number.
    pub async fn feed(&self, agent: Agent, task: &str, after: i64) -> Result<Feed, Refusal> {
        let follower = self.hub.follow((agent.tenant, task.into()));
        self.db.tenant(agent.tenant).events_after(&agent.member, task, after, 0).await?;
        Ok(Feed { collab: self.clone(), agent, task: task.to_owned(), after, follower })
    }
}

impl Feed {
    /// Returns the next events, at least one; waits until there is one. While the database is away it waits
    /// too.
    ///
    /// # Errors
    /// [`Code::NotFound`] when the task was deleted, or the agent may not find it any more.
    pub async fn next(&mut self) -> Result<Vec<Event>, Refusal> {
        loop {
            let scope = self.collab.db.tenant(self.agent.tenant);
            match scope.events_after(&self.agent.member, &self.task, self.after, MOST).await {
                Ok((events, _)) => {
                    if let Some(last) = events.last() {
                        self.after = last.seq;
                        return Ok(events);
                    }
                    self.follower.after(self.after).await;
                    tokio::time::sleep(BETWEEN).await;
                }
                Err(refusal) if refusal.code == Code::NotFound => return Err(refusal),
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }
}
