//! Probe of the eras that a server speaks. A stdio server is asked `server/discover`, and on an error
//! `initialize` on the same process, which is then ended. One that ends or stays silent at the question is
//! started once more and asked `initialize`; one that answers it well is, too, since some keep to the era in
//! which they were first asked. One that ended before it read the question did not start: that is the
//! answer for all who wait.

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

/// The least time that a child has to answer after it has read a question. What starts slowly has as long
/// as that took.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often it is looked whether a child has read its question.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Default)]
pub struct Outcome {
    /// None when nothing was learned.
    pub eras: Option<Eras>,
    /// Why it did not start, where that is what was learned.
    pub failed: Option<Refusal>,
    /// To be stopped.
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
    // Being refused, broken or slow is no sign of an era.
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
    /// An error is why it did not start.
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

    /// Asks `server/discover`. Whoever has read the question and says nothing for long is silent.
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
