//! Asks a child that is thrown away afterwards which era it speaks. Only what begins an era is sent,
//! never a call.

use std::time::Instant;

use protocol::mcp::{Era, code};
use protocol::{Code, Refusal};
use tokio_util::task::TaskTracker;

use super::handshake;
use super::link::{Link, StdioPlan};
use super::oddities::excerpt;
use crate::own::ClientName;
use crate::server::StdioLaunch;
use crate::upstream::{Failure, UpstreamAnswer, error_code};

/// What one child made of one era.
#[derive(Debug)]
pub enum Probe {
    Speaks,
    /// It answered otherwise, or ended: the reason, for the log.
    Refuses(String),
    /// It neither answered nor ended.
    Silent,
}

/// A child that is asked one thing. Dropped, it is ended.
pub struct ProbeChild {
    link: Link,
    client: ClientName,
    era: Era,
}

impl ProbeChild {
    /// Starts the one that is asked for the era of the plan.
    pub async fn start(
        plan: &StdioPlan,
        launch: &StdioLaunch,
        tasks: &TaskTracker,
    ) -> Result<ProbeChild, Refusal> {
        let link = Link::open(plan, launch, tasks).await?;
        Ok(ProbeChild { link, client: plan.client.clone(), era: plan.era })
    }

    /// `initialize` or `server/discover`. The future may be dropped.
    pub async fn ask(&self, deadline: Instant) -> Probe {
        let (wire, client) = (&self.link.wire, &self.client);
        match self.era {
            Era::Legacy => match handshake::legacy(wire, client, None, 0, deadline).await {
                Ok(_) => Probe::Speaks,
                Err(failure) => silent_or_gone(failure),
            },
            Era::Modern => match handshake::discover(wire, client, deadline).await {
                Ok(UpstreamAnswer::Result(result)) if handshake::speaks_modern(&result) => Probe::Speaks,
                Ok(UpstreamAnswer::Error(error)) if is_modern_error(&error) => Probe::Speaks,
                Ok(UpstreamAnswer::Result(other) | UpstreamAnswer::Error(other)) => {
                    Probe::Refuses(format!("it answered {}", excerpt(&other)))
                }
                Err(failure) => silent_or_gone(failure),
            },
        }
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

fn silent_or_gone(failure: Failure) -> Probe {
    match failure.refusal.code {
        Code::TimedOut => Probe::Silent,
        _ => Probe::Refuses(failure.refusal.reason.into_owned()),
    }
}

/// Errors that only a server of the modern era gives.
fn is_modern_error(error: &[u8]) -> bool {
    let modern = [code::HEADER_MISMATCH, code::MISSING_CLIENT_CAPABILITY, code::UNSUPPORTED_PROTOCOL_VERSION];
    error_code(error).is_some_and(|code| modern.iter().any(|modern| i64::from(*modern) == code))
}
