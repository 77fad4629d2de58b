//! Finds out which eras a server speaks. Of a stdio server two children run side by side, one asked for
//! each era, and both are thrown away: some servers end when they are asked in the wrong era, and some
//! keep to the era in which they were first asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::TenantId;
use protocol::mcp::{Era, Eras};

use super::shared::PoolShared;
use super::start;
use crate::http;
use crate::logs::LogRing;
use crate::server::{Launch, ServerSpec, StdioLaunch};
use crate::stdio::{Probe, ProbeChild};
use crate::websocket;

/// The least time that one child has after the other has answered. What starts slowly has as long as
/// the other took.
const SIBLING: Duration = Duration::from_secs(2);

pub struct Outcome {
    /// None when nothing was learned.
    pub eras: Option<Eras>,
    /// To be stopped.
    pub children: Vec<ProbeChild>,
}

pub async fn ask(pool: &PoolShared, tenant: TenantId, spec: &ServerSpec) -> Outcome {
    let logs = pool.logs(tenant, spec.id);
    let deadline = Instant::now() + spec.start_timeout;
    let plan = || start::probe_plan(pool, spec, logs.clone());
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
    Outcome { eras, children: Vec::new() }
}

async fn ask_children(
    pool: &PoolShared,
    tenant: TenantId,
    spec: &ServerSpec,
    launch: &StdioLaunch,
    logs: Arc<LogRing>,
) -> Outcome {
    let places = match (pool.make_room(tenant).await, pool.make_room(tenant).await) {
        (Ok(one), Ok(other)) => (one, other),
        (Err(refusal), _) | (_, Err(refusal)) => {
            logs.note(format!("it was not asked which era it speaks: {}", refusal.reason));
            return Outcome { eras: None, children: Vec::new() };
        }
    };
    let [modern, legacy] = [Era::Modern, Era::Legacy].map(|era| start::plan(pool, spec, era, logs.clone()));
    let started = tokio::join!(
        ProbeChild::start(&modern, launch, &pool.tasks),
        ProbeChild::start(&legacy, launch, &pool.tasks),
    );
    let (modern, legacy) = match started {
        (Ok(modern), Ok(legacy)) => (modern, legacy),
        (Err(refusal), other) | (other, Err(refusal)) => {
            logs.note(format!("it was not asked which era it speaks: {}", refusal.reason));
            return Outcome { eras: None, children: other.into_iter().collect() };
        }
    };
    let (to_modern, to_legacy) = ask_both(&modern, &legacy, spec.start_timeout).await;
    let eras = judge(&to_modern, &to_legacy);
    logs.note(format!(
        "asked which era it speaks: {}; `server/discover`: {}; `initialize`: {}",
        eras.map_or("not found out", Eras::as_str),
        described(&to_modern),
        described(&to_legacy),
    ));
    drop(places);
    Outcome { eras, children: vec![modern, legacy] }
}

/// Both have as long as a start may take. As soon as one has answered well, silence of the other means
/// something.
async fn ask_both(modern: &ProbeChild, legacy: &ProbeChild, start_timeout: Duration) -> (Probe, Probe) {
    let begun = Instant::now();
    let limit = begun + start_timeout;
    let latest = limit + start_timeout.max(SIBLING);
    let patience = |first: &Probe| match first {
        Probe::Speaks => Instant::now() + begun.elapsed().max(SIBLING),
        Probe::Refuses(_) | Probe::Silent => limit,
    };
    let mut to_modern = std::pin::pin!(modern.ask(latest));
    let mut to_legacy = std::pin::pin!(legacy.ask(latest));
    tokio::select! {
        modern = &mut to_modern => {
            let legacy = tokio::time::timeout_at(patience(&modern).into(), to_legacy).await;
            (modern, legacy.unwrap_or(Probe::Silent))
        }
        legacy = &mut to_legacy => {
            let modern = tokio::time::timeout_at(patience(&legacy).into(), to_modern).await;
            (modern.unwrap_or(Probe::Silent), legacy)
        }
        () = tokio::time::sleep_until(limit.into()) => (Probe::Silent, Probe::Silent),
    }
}

fn judge(modern: &Probe, legacy: &Probe) -> Option<Eras> {
    match (modern, legacy) {
        (Probe::Speaks, Probe::Speaks) => Some(Eras::DUAL),
        (Probe::Speaks, Probe::Refuses(_) | Probe::Silent) => Some(Eras::MODERN),
        (Probe::Refuses(_) | Probe::Silent, Probe::Speaks) => Some(Eras::LEGACY),
        (Probe::Refuses(_) | Probe::Silent, Probe::Refuses(_) | Probe::Silent) => None,
    }
}

fn described(probe: &Probe) -> &str {
    match probe {
        Probe::Speaks => "answered",
        Probe::Refuses(reason) => reason,
        Probe::Silent => "silence",
    }
}
