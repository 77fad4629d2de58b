//! Start of a child process as an upstream.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::{Code, Refusal};
use tokio_util::sync::CancellationToken;

use super::connection::{self, StderrTail, StdioConnection, StdioPlan, stopped};
use crate::peer::upstream::{PeerUpstream, Started};
use crate::peer::{Connection, PeerPlan, handshake};
use crate::server::StdioLaunch;
use crate::upstream::{Failure, Initialized};

/// A child after its handshake.
pub struct StartedChild {
    pub started: Started,
    pub pid: Option<u32>,
}

/// Reason for a failed start.
#[derive(Debug)]
pub struct NotStarted {
    pub refusal: Refusal,
    /// True if the child lives and answered the handshake, but not in its era.
    pub wrong_era: bool,
}

impl From<Refusal> for NotStarted {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, wrong_era: false }
    }
}

/// Time for a first `subscriptions/listen`, so that changes during the first call are received.
const LISTENING: Duration = Duration::from_secs(1);

/// Starts the child and performs the handshake. A child whose handshake fails is ended.
pub async fn start(
    plan: &StdioPlan,
    launch: &StdioLaunch,
    generation: u64,
    deadline: Instant,
) -> Result<StartedChild, NotStarted> {
    let child = StartingChild::open(plan, launch).await?;
    match child.shake(generation, deadline).await {
        Ok(initialized) => Ok(child.started(initialized).await),
        Err(failed) => {
            child.end(failed.refusal.clone()).await;
            Err(failed)
        }
    }
}

/// A child before the end of its handshake.
pub struct StartingChild {
    pub(super) connection: Arc<StdioConnection>,
    /// Cancelled by a stop of the server.
    stopping: CancellationToken,
}

impl StartingChild {
    /// Starts the child, with the plan of the legacy era if its era is unknown.
    pub async fn open(plan: &StdioPlan, launch: &StdioLaunch) -> Result<StartingChild, Refusal> {
        let stopping = plan.processes.stopping();
        Ok(StartingChild { connection: connection::open(plan, launch).await?, stopping })
    }

    /// Performs the handshake in the era of the plan.
    pub async fn shake(&self, generation: u64, deadline: Instant) -> Result<Initialized, NotStarted> {
        let shaken = self.unless_stopped(handshake::shake(&self.connection, generation, deadline)).await;
        shaken.map_err(|failure| NotStarted {
            wrong_era: self.connection.state.is_open() && failure.refusal.code == Code::UpstreamFailed,
            refusal: self.not_started(failure.refusal),
        })
    }

    /// Replaces the plan by that of the modern era, after a handshake in that era.
    pub fn become_modern(&self, plan: PeerPlan) {
        self.connection.become_modern(plan);
    }

    /// Returns the upstream of a child whose handshake is complete.
    pub async fn started(self, initialized: Initialized) -> StartedChild {
        let pid = self.connection.process.handle.pid().await;
        let upstream = PeerUpstream::new(self.connection, &initialized);
        upstream.listening(LISTENING).await;
        StartedChild { started: upstream.started(initialized), pid }
    }

    /// Ends the child, and waits until nothing is left of it.
    pub async fn end(self, refusal: Refusal) {
        self.connection.close(refusal);
        self.connection.process.handle.end();
        self.connection.process.handle.over().await;
    }

    pub(super) async fn unless_stopped<T>(
        &self,
        handshake: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            answer = handshake => answer,
            () = self.stopping.cancelled() => {
                Err(Failure { refusal: stopped(self.connection.server()), sent: true })
            }
        }
    }

    pub(super) fn not_started(&self, refusal: Refusal) -> Refusal {
        not_started(self.connection.server(), refusal, &self.connection.process.stderr)
    }
}

/// Returns the refusal for a failed handshake.
fn not_started(server: &str, refusal: Refusal, stderr: &StderrTail) -> Refusal {
    match refusal.code {
        Code::TimedOut => {}
        Code::ServerStopped => return refusal,
        _ => return Refusal { code: Code::UpstreamUnavailable, ..refusal },
    }
    let reason = format!("`{server}` runs but did not answer the handshake in time: it waits for something");
    stderr.added_to(
        Refusal::new(Code::UpstreamUnavailable, reason)
            .hint("a first start may download a lot: raise the server's `startTimeoutMs`, or see its logs"),
    )
}
