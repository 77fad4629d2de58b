//! Start of an upstream from its server's specification.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use protocol::mcp::Era;
use protocol::{Code, Refusal, TenantId};

use super::PoolKey;
use super::entry::{Entry, Running};
use super::events::PoolEvent;
use super::state::PoolState;
use crate::bridge::Abilities;
use crate::builtin::BuiltinUpstream;
use crate::child::ChildPlan;
use crate::http::{self, RemotePlan};
use crate::logs::LogRing;
use crate::peer::PeerPlan;
use crate::peer::events::{Publish, UpstreamEvent};
use crate::server::{BuiltinLaunch, Launch, ServerSpec, StdioLaunch};
use crate::stdio::{self, NotStarted, StartedChild, StdioLimits, StdioPlan};
use crate::upstream::ClientProfile;
use crate::websocket;

pub async fn start(entry: &Entry, generation: u64) -> Result<Running, NotStarted> {
    match &entry.spec.launch {
        Launch::Builtin(launch) => Ok(start_builtin(entry, launch, generation)?),
        Launch::Stdio(launch) => start_child(entry, launch, generation).await,
        Launch::Http(launch) => {
            let plan = remote_plan(&entry.pool, &entry.spec, peer_plan(entry));
            Ok(remote(http::start(&plan, launch, generation, until(entry)).await)?)
        }
        Launch::Websocket(launch) => {
            let plan = remote_plan(&entry.pool, &entry.spec, peer_plan(entry));
            Ok(remote(websocket::start(&plan, launch, generation, until(entry)).await)?)
        }
        Launch::Withheld { reason } => {
            let hint = "a caller with configs:write can give the values anew: PATCH /v1/mcp/configs/{id}";
            Err(Refusal::new(Code::NotConfigured, *reason).hint(hint).into())
        }
        Launch::Unsupported { transport } => {
            let reason = format!("the transport `{transport}` is not supported by this gateway");
            Err(Refusal::new(Code::NotConfigured, reason).into())
        }
    }
}

fn start_builtin(entry: &Entry, launch: &BuiltinLaunch, generation: u64) -> Result<Running, Refusal> {
    let name = &launch.provider;
    let provider =
        entry.pool.builtins.iter().find(|provider| provider.info().name == *name).ok_or_else(|| {
            Refusal::new(Code::NotConfigured, format!("this gateway has no built-in server `{name}`"))
        })?;
    if let Some(missing) = provider.not_configured() {
        return Err(missing.rule(format!("built-in server `{name}`")));
    }
    let publish = publisher(entry, true);
    let upstream = BuiltinUpstream::new(provider.clone(), entry.key, launch.clone(), generation, publish);
    let initialized = upstream.initialized().clone();
    Ok(Running {
        upstream: Arc::new(upstream),
        initialized,
        pid: None,
        started: Instant::now(),
        is_child: false,
    })
}

async fn start_child(entry: &Entry, launch: &StdioLaunch, generation: u64) -> Result<Running, NotStarted> {
    let _starting = entry.pool.make_room(entry.key.tenant).await?;
    let plan = stdio_plan(&entry.pool, &entry.spec, peer_plan(entry), entry.key.tenant);
    Ok(running(entry, stdio::start(&plan, launch, generation, until(entry)).await?))
}

/// Returns the running upstream of a child, and logs its start.
pub fn running(entry: &Entry, child: StartedChild) -> Running {
    let StartedChild { started: (upstream, initialized), pid } = child;
    let era = entry.key.era.as_str();
    tracing::info!(server = %entry.spec.slug, pid, era, "a server started");
    Running { upstream, initialized, pid, started: Instant::now(), is_child: true }
}

/// Returns the plan of an entry's upstream.
pub fn peer_plan(entry: &Entry) -> PeerPlan {
    PeerPlan {
        client: profile(entry),
        serves_one_client: entry.key.owner != 0,
        publish: publisher(entry, false),
        ..silent_plan(&entry.pool, &entry.spec, entry.key.era, entry.logs.clone())
    }
}

/// Returns what publishes an upstream's events to the pool and counts changes of lists. Changes of resources
/// without a subscription are dropped, so that a server cannot fill the memory with them.
fn publisher(entry: &Entry, in_each_replica: bool) -> Publish {
    let (key, changes, events) = (entry.key, entry.changes.clone(), entry.pool.events.clone());
    let subscriptions = entry.subscriptions.clone();
    Arc::new(move |event: UpstreamEvent| {
        match &event {
            UpstreamEvent::ResourceUpdated { uri, .. } if !subscriptions.contains(uri) => return,
            UpstreamEvent::ResourceUpdated { .. } => {}
            UpstreamEvent::ToolsChanged | UpstreamEvent::ResourcesChanged | UpstreamEvent::PromptsChanged => {
                let count = |changes: u64| Some((changes + 1) | event.list_bit());
                changes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).ok();
            }
        }
        // Events need no receiver.
        events.send(PoolEvent { key, event, in_each_replica }).ok();
    })
}

/// Returns the profile of the client that an upstream serves alone, or that of all clients with the declared
/// capabilities.
fn profile(entry: &Entry) -> Option<Arc<ClientProfile>> {
    let PoolKey { owner, declared, .. } = entry.key;
    if owner != 0 {
        return entry.pool.profiles.get(&entry.key).map(|profile| profile.value().clone());
    }
    let capabilities = Abilities::from_bits(declared).to_capabilities();
    (declared != 0).then(|| Arc::new(ClientProfile { capabilities, info: None, listener: None }))
}

/// Returns the plan of an upstream that publishes nothing and serves no particular client.
pub fn silent_plan(pool: &PoolState, spec: &ServerSpec, era: Era, logs: Arc<LogRing>) -> PeerPlan {
    PeerPlan {
        server: spec.slug.as_str().into(),
        era,
        gateway: pool.settings.client(),
        client: None,
        serves_one_client: false,
        publish: Arc::new(|_| {}),
        logs,
        tasks: pool.tasks.clone(),
    }
}

pub fn stdio_plan(pool: &PoolState, spec: &ServerSpec, peer: PeerPlan, tenant: TenantId) -> StdioPlan {
    let settings = &pool.settings;
    StdioPlan {
        peer,
        child: ChildPlan {
            supervisor: settings.supervisor.clone(),
            environment: settings.environment.iter().cloned().collect(),
            // Half for the end of its input, half for SIGTERM.
            grace: settings.stop_grace / 2,
        },
        limits: StdioLimits { line_cap: settings.line_cap, write_cap: settings.write_cap },
        processes: pool.processes(tenant, spec.id),
    }
}

pub fn remote_plan(pool: &PoolState, spec: &ServerSpec, peer: PeerPlan) -> RemotePlan {
    let settings = &pool.settings;
    let trusted = match &spec.launch {
        Launch::Http(launch) | Launch::Websocket(launch) => launch.trusted,
        Launch::Builtin { .. } | Launch::Stdio(_) | Launch::Unsupported { .. } | Launch::Withheld { .. } => {
            false
        }
    };
    let egress = if trusted { settings.trusted_egress.clone() } else { settings.egress.clone() };
    RemotePlan { peer, egress, message_cap: settings.line_cap }
}

fn until(entry: &Entry) -> Instant {
    Instant::now() + entry.spec.start_timeout.value
}

fn remote(started: Result<http::Started, Refusal>) -> Result<Running, Refusal> {
    let (upstream, initialized) = started?;
    Ok(Running { upstream, initialized, pid: None, started: Instant::now(), is_child: false })
}
