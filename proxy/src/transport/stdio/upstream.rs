//! Start of a child process as an upstream.

use std::time::{Duration, Instant};

use protocol::{Code, Refusal};

use super::connection::{self, StderrTail, StdioPlan, stopped};
use crate::peer::upstream::{PeerUpstream, Started};
use crate::peer::{Connection, handshake};
use crate::server::StdioLaunch;
use crate::upstream::Failure;

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
    let connection = connection::open(plan, launch).await?;
    let stopping = plan.processes.stopping();
    let shaken = tokio::select! {
        shaken = handshake::shake(&connection, generation, deadline) => shaken,
        () = stopping.cancelled() => Err(Failure { refusal: stopped(&plan.peer.server), sent: true }),
    };
    let initialized = match shaken {
        Ok(initialized) => initialized,
        Err(failure) => {
            let wrong_era = connection.state.is_open() && failure.refusal.code == Code::UpstreamFailed;
            let process = &connection.process;
            let refusal = not_started(&plan.peer.server, failure.refusal, &process.stderr);
            connection.close(refusal.clone());
            process.handle.end();
            process.handle.over().await;
            return Err(NotStarted { refusal, wrong_era });
        }
    };
    let pid = connection.process.handle.pid().await;
    let upstream = PeerUpstream::new(connection, &initialized);
    upstream.listening(LISTENING).await;
    Ok(StartedChild { started: upstream.started(initialized), pid })
}

/// Returns the refusal for a failed handshake.
pub fn not_started(server: &str, refusal: Refusal, stderr: &StderrTail) -> Refusal {
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
