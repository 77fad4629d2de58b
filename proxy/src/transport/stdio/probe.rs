//! Era probe on a child process, which ends afterwards. The probe sends only handshake requests.

use std::sync::Arc;
use std::time::Instant;

use protocol::mcp::Era;
use protocol::{Code, Refusal};

use super::connection::{self, StdioConnection, StdioPlan, stopped};
use super::upstream::not_started;
use crate::peer::{Connection, handshake};
use crate::server::StdioLaunch;
use crate::upstream::Failure;

/// Outcome of the first request of one era to one child.
#[derive(Debug)]
pub enum Probe {
    Speaks,
    /// Any other answer.
    Refuses(Refusal),
    /// The end of the child.
    Gone(Refusal),
    /// No answer in time.
    Silent(Refusal),
}

/// A child to probe; ends when dropped.
pub struct ProbeChild {
    connection: Arc<StdioConnection>,
    plan: StdioPlan,
}

impl ProbeChild {
    pub async fn start(plan: StdioPlan, launch: &StdioLaunch) -> Result<ProbeChild, Refusal> {
        let connection = connection::open(&plan, launch).await?;
        Ok(ProbeChild { connection, plan })
    }

    /// Sends `initialize` or `server/discover`. The future may be dropped. A stop of the server ends it.
    pub async fn ask(&self, era: Era, deadline: Instant) -> Probe {
        let stopping = self.plan.processes.stopping();
        tokio::select! {
            probe = self.answer(era, deadline) => probe,
            () = stopping.cancelled() => Probe::Gone(stopped(self.connection.server())),
        }
    }

    async fn answer(&self, era: Era, deadline: Instant) -> Probe {
        let server = self.connection.server();
        let answer = handshake::ask(&self.connection, era, deadline).await;
        match answer.and_then(|answer| handshake::verdict(era, server, answer)) {
            Ok(()) => Probe::Speaks,
            Err(failure) => self.without_answer(failure),
        }
    }

    fn without_answer(&self, failure: Failure) -> Probe {
        let timed_out = failure.refusal.code == Code::TimedOut;
        let refusal = not_started(&self.plan.peer.server, failure.refusal, &self.connection.process.stderr);
        match (timed_out, self.connection.state.is_open()) {
            (true, _) => Probe::Silent(refusal),
            (false, true) => Probe::Refuses(refusal),
            (false, false) => Probe::Gone(refusal),
        }
    }

    /// Returns the outcome for a child that is silent before its deadline.
    pub fn silent(&self) -> Probe {
        let late = Refusal::new(Code::TimedOut, "it did not answer in time");
        Probe::Silent(not_started(&self.plan.peer.server, late, &self.connection.process.stderr))
    }

    /// Returns true if the child has read the request, or had at its end. If false, the child ended by
    /// itself.
    pub fn has_read(&self) -> bool {
        self.connection.shared.lock().outbox.is_read()
    }

    /// Waits until nothing is left of the child.
    pub async fn stop(self) {
        Connection::stop(&*self.connection, stopped(self.connection.server())).await;
    }
}

impl Drop for ProbeChild {
    fn drop(&mut self) {
        self.connection.close(Refusal::new(Code::ServerStopped, "it was started for an era probe only"));
        self.connection.process.handle.end();
    }
}
