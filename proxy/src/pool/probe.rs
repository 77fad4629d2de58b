//! Era probe of a server. A stdio server gets `server/discover` and, after an error, `initialize` on the same
//! process. A second process gets `initialize` if the first one ended or stayed silent, or if it answered,
//! since some servers keep to the era of their first request. A server that ended before it read the request
//! did not start, which is the answer for all callers that wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::mcp::{Era, Eras};
use protocol::{Code, Refusal, TenantId};

use super::start;
use super::state::{PoolState, Starting};
use crate::http;
use crate::logs::LogRing;
use crate::server::{Launch, ServerSpec, StdioLaunch};
use crate::stdio::{Probe, ProbeChild};
use crate::websocket;

/// Least time for a child to answer after it has read a request; a child that starts slowly has as long as
/// its start.
const PATIENCE: Duration = Duration::from_secs(2);

/// Time between two checks that a child has read its request.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Default)]
pub struct Outcome {
    /// The verdict, or `None`.
    pub eras: Option<Eras>,
    /// Reason why the server did not start.
    pub failed: Option<Refusal>,
    /// Children to be stopped.
    pub children: Vec<ProbeChild>,
}

pub async fn ask(pool: &PoolState, tenant: TenantId, spec: &ServerSpec) -> Outcome {
    let logs = pool.logs(tenant, spec.id);
    let deadline = Instant::now() + spec.start_timeout.value;
    let plan = || {
        let peer = start::silent_plan(pool, spec, Era::Legacy, logs.clone());
        start::remote_plan(pool, spec, peer)
    };
    let asked = match &spec.launch {
        Launch::Stdio(launch) => return ask_children(pool, tenant, spec, launch, logs).await,
        Launch::Http(launch) => http::eras(&plan(), launch, deadline).await,
        Launch::Websocket(launch) => websocket::eras(&plan(), launch, deadline).await,
        Launch::Builtin { .. } | Launch::Unsupported { .. } => Ok(None),
    };
    // A refusal, fault or delay says nothing about the era.
    let eras = asked.unwrap_or_else(|refusal| {
        logs.note(format!("it could not be found out which era it speaks: {}", refusal.reason));
        None
    });
    Outcome { eras, ..Outcome::default() }
}

async fn ask_children(
    pool: &PoolState,
    tenant: TenantId,
    spec: &ServerSpec,
    launch: &StdioLaunch,
    logs: Arc<LogRing>,
) -> Outcome {
    let mut outcome = Outcome::default();
    let asked = Asking { pool, tenant, spec, launch, logs: &logs }.eras(&mut outcome.children).await;
    match asked {
        Ok(eras) => outcome.eras = Some(eras),
        Err(refusal) => outcome.failed = Some(refusal),
    }
    outcome
}

struct Asking<'a> {
    pool: &'a PoolState,
    tenant: TenantId,
    spec: &'a ServerSpec,
    launch: &'a StdioLaunch,
    logs: &'a Arc<LogRing>,
}

impl Asking<'_> {
    /// Probes the eras. An error is a failed start.
    async fn eras(&self, children: &mut Vec<ProbeChild>) -> Result<Eras, Refusal> {
        let (first, _place) = self.start(Era::Modern).await?;
        let begun = Instant::now();
        let to_modern = self.discover(&first, begun).await;
        let to_legacy = match &to_modern {
            Probe::Gone(refusal) | Probe::Silent(refusal) if !first.has_read() => {
                let refusal = refusal.clone();
                children.push(first);
                return Err(refusal);
            }
            Probe::Refuses(_) => first.ask(Era::Legacy, begun + self.spec.start_timeout.value).await,
            Probe::Speaks | Probe::Gone(_) | Probe::Silent(_) => Probe::Silent(self.unasked()),
        };
        children.push(first);
        let to_legacy = match to_legacy {
            Probe::Gone(refusal) if refusal.code == Code::ServerStopped => return Err(refusal),
            Probe::Gone(_) | Probe::Silent(_) => {
                let (second, _place) = self.start(Era::Legacy).await?;
                let patience = match &to_modern {
                    Probe::Speaks => begun.elapsed().max(PATIENCE),
                    Probe::Refuses(_) | Probe::Gone(_) | Probe::Silent(_) => self.spec.start_timeout.value,
                };
                let answer = second.ask(Era::Legacy, Instant::now() + patience).await;
                children.push(second);
                answer
            }
            answered => answered,
        };
        self.logs.note(format!(
            "asked which era it speaks: `server/discover`: {}; `initialize`: {}",
            described(&to_modern),
            described(&to_legacy),
        ));
        match (to_modern, to_legacy) {
            (Probe::Speaks, Probe::Speaks) => Ok(Eras::DUAL),
            (Probe::Speaks, _) => Ok(Eras::MODERN),
            (_, Probe::Speaks) => Ok(Eras::LEGACY),
            (_, Probe::Refuses(refusal) | Probe::Gone(refusal) | Probe::Silent(refusal)) => Err(refusal),
        }
    }

    async fn start(&self, era: Era) -> Result<(ProbeChild, Starting<'_>), Refusal> {
        let place = self.pool.make_room(self.tenant).await?;
        let peer = start::silent_plan(self.pool, self.spec, era, self.logs.clone());
        let plan = start::stdio_plan(self.pool, self.spec, peer, self.tenant);
        Ok((ProbeChild::start(plan, self.launch).await?, place))
    }

    /// Sends `server/discover`. A child that has read the request and does not answer in time is silent.
    async fn discover(&self, child: &ProbeChild, begun: Instant) -> Probe {
        let mut asking = std::pin::pin!(child.ask(Era::Modern, begun + self.spec.start_timeout.value));
        let mut read = None;
        loop {
            tokio::select! {
                answer = &mut asking => return answer,
                () = tokio::time::sleep(LOOK) => {}
            }
            if child.has_read() {
                let (at, took) = *read.get_or_insert_with(|| (Instant::now(), begun.elapsed()));
                if at.elapsed() >= took.max(PATIENCE) {
                    return child.silent();
                }
            }
        }
    }

    fn unasked(&self) -> Refusal {
        Refusal::new(Code::UpstreamUnavailable, format!("`{}` was not asked", self.spec.slug))
    }
}

fn described(probe: &Probe) -> &str {
    match probe {
        Probe::Speaks => "answered",
        Probe::Refuses(refusal) | Probe::Gone(refusal) => &refusal.reason,
        Probe::Silent(_) => "silence",
    }
}
