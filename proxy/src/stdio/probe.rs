//! A stdio server that is asked which era it speaks and ended afterwards. Only what begins an era is
//! sent, never a call.

use std::time::Instant;

use protocol::mcp::{Era, code};
use protocol::{Code, Refusal};
use tokio_util::task::TaskTracker;

use super::handshake;
use super::link::{Link, StdioPlan};
use super::oddities::excerpt;
use super::upstream::not_started;
use crate::server::StdioLaunch;
use crate::upstream::{Failure, UpstreamAnswer, error_code};

/// What one child made of one era.
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
    link: Link,
    plan: StdioPlan,
}

impl ProbeChild {
    pub async fn start(
        plan: StdioPlan,
        launch: &StdioLaunch,
        tasks: &TaskTracker,
    ) -> Result<ProbeChild, Refusal> {
        let link = Link::open(&plan, launch, tasks).await?;
        Ok(ProbeChild { link, plan })
    }

    /// `initialize` or `server/discover`. The future may be dropped. A stop of the server ends it.
    pub async fn ask(&self, era: Era, deadline: Instant) -> Probe {
        let stopping = self.plan.processes.stopping();
        tokio::select! {
            probe = self.answer(era, deadline) => probe,
            () = stopping.cancelled() => Probe::Gone(self.link.stopped()),
        }
    }

    async fn answer(&self, era: Era, deadline: Instant) -> Probe {
        let (wire, client) = (&self.link.wire, &self.plan.client);
        match era {
            Era::Legacy => match handshake::legacy(wire, client, None, 0, deadline).await {
                Ok(_) => Probe::Speaks,
                Err(failure) => self.without_answer(failure),
            },
            Era::Modern => match handshake::discover(wire, client, deadline).await {
                Ok(UpstreamAnswer::Result(result)) if handshake::speaks_modern(&result) => Probe::Speaks,
                Ok(UpstreamAnswer::Error(error)) if is_modern_error(&error) => Probe::Speaks,
                Ok(UpstreamAnswer::Result(other) | UpstreamAnswer::Error(other)) => {
                    let reason = format!("`{}` answered {}", self.plan.who, excerpt(&other));
                    Probe::Refuses(Refusal::new(Code::UpstreamUnavailable, reason))
                }
                Err(failure) => self.without_answer(failure),
            },
        }
    }

    fn without_answer(&self, failure: Failure) -> Probe {
        let timed_out = failure.refusal.code == Code::TimedOut;
        let refusal = not_started(&self.plan.who, failure.refusal, &self.link.words);
        match (timed_out, self.link.wire.is_open()) {
            (true, _) => Probe::Silent(refusal),
            (false, true) => Probe::Refuses(refusal),
            (false, false) => Probe::Gone(refusal),
        }
    }

    /// Why it counts as silent although its time is not over.
    pub fn silent(&self) -> Probe {
        let late = Refusal::new(Code::TimedOut, "it did not answer in time");
        Probe::Silent(not_started(&self.plan.who, late, &self.link.words))
    }

    /// Whether it has read what it was asked, or had when it ended. One that had not ended by itself.
    pub fn has_read(&self) -> bool {
        self.link.wire.is_input_read()
    }

    /// Waits until nothing is left of it.
    pub async fn stop(self) {
        self.link.stop().await;
    }
}

impl Drop for ProbeChild {
    fn drop(&mut self) {
        self.link.wire.close(Refusal::new(Code::ServerStopped, "it was started for a question only"));
        self.link.handle.end();
    }
}

/// Errors that only a server of the modern era gives.
fn is_modern_error(error: &[u8]) -> bool {
    let modern = [code::HEADER_MISMATCH, code::MISSING_CLIENT_CAPABILITY, code::UNSUPPORTED_PROTOCOL_VERSION];
    error_code(error).is_some_and(|code| modern.iter().any(|modern| i64::from(*modern) == code))
}
