//! A stdio server that is asked which era it speaks and ended afterwards. Only what begins an era is
//! sent, never a call.

use std::sync::Arc;
use std::time::Instant;

use protocol::mcp::Era;
use protocol::{Code, Refusal};

use super::connection::{self, StdioConnection, StdioPlan, stopped};
use super::upstream::not_started;
use crate::peer::{Connection, handshake};
use crate::server::StdioLaunch;
use crate::upstream::Failure;

/// The outcome of the first request of one era to one child.
#[derive(Debug)]
pub enum Probe {
    Speaks,
    /// It answered otherwise.
    Refuses(Refusal),
    /// It ended.
    Gone(Refusal),
    /// It neither answered nor ended.
    Silent(Refusal),
}

/// A child that is asked. Dropped, it is ended.
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

    /// Returns why it counts as silent although its time is not over.
    pub fn silent(&self) -> Probe {
        let late = Refusal::new(Code::TimedOut, "it did not answer in time");
        Probe::Silent(not_started(&self.plan.peer.server, late, &self.connection.process.stderr))
    }

    /// Returns whether it has read what it was asked, or had when it ended. One that had not ended by itself.
    pub fn has_read(&self) -> bool {
        self.connection.shared.lock().outbox.is_read()
    }

    /// Waits until nothing is left of it.
    pub async fn stop(self) {
        Connection::stop(&*self.connection, stopped(self.connection.server())).await;
    }
}

impl Drop for ProbeChild {
    fn drop(&mut self) {
        self.connection.close(Refusal::new(Code::ServerStopped, "it was started for a question only"));
        self.connection.process.handle.end();
    }
}
