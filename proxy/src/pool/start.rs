//! Starts what a server's specification says.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use protocol::mcp::Era;
use protocol::{Code, Refusal, TenantId};

use super::entry::{Entry, Running};
use super::events::PoolEvent;
use super::shared::PoolShared;
use crate::builtin::BuiltinUpstream;
use crate::child::ChildPlan;
use crate::http::{self, Announce, RemotePlan};
use crate::logs::LogRing;
use crate::news::{News, Tell};
use crate::server::{BuiltinLaunch, Launch, ServerSpec, StdioLaunch};
use crate::stdio::{NotStarted, StdioPlan, StdioUpstream, WireLimits, WriteStyle};
use crate::websocket;

pub async fn start(entry: &Entry, generation: u64) -> Result<Running, NotStarted> {
    match &entry.spec.launch {
        Launch::Builtin(launch) => Ok(start_builtin(entry, launch, generation)?),
        Launch::Stdio(launch) => start_child(entry, launch, generation).await,
        Launch::Http(launch) => {
            Ok(remote(http::start(&remote_plan(entry), launch, generation, until(entry)).await)?)
        }
        Launch::Websocket(launch) => {
            Ok(remote(websocket::start(&remote_plan(entry), launch, generation, until(entry)).await)?)
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
    let upstream = BuiltinUpstream::new(provider.clone(), entry.key, launch.clone(), generation);
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
    let plan = StdioPlan {
        introduction: entry.pool.introductions.get(&entry.key).map(|it| it.value().clone()),
        news: news(entry),
        ..plan(&entry.pool, entry.key.tenant, &entry.spec, entry.key.era, entry.logs.clone())
    };
    let deadline = Instant::now() + entry.spec.start_timeout.value;
    let upstream = StdioUpstream::start(&plan, launch, generation, deadline, &entry.pool.tasks).await?;
    let era = entry.key.era.as_str();
    tracing::info!(server = %entry.spec.slug, pid = upstream.pid(), era, "a server started");
    let (initialized, pid) = (upstream.initialized().clone(), upstream.pid());
    Ok(Running { upstream: Arc::new(upstream), initialized, pid, started: Instant::now(), is_child: true })
}

/// How a child of a server is started that tells nothing and is for nobody in particular.
pub fn plan(
    pool: &PoolShared,
    tenant: TenantId,
    spec: &ServerSpec,
    era: Era,
    logs: Arc<LogRing>,
) -> StdioPlan {
    let settings = &pool.settings;
    StdioPlan {
        who: spec.slug.as_str().into(),
        child: ChildPlan {
            supervisor: settings.supervisor.clone(),
            environment: settings.environment.iter().cloned().collect(),
            // Half for the end of its input, half for SIGTERM.
            grace: settings.stop_grace / 2,
        },
        limits: WireLimits {
            line_cap: settings.line_cap,
            write_cap: settings.write_cap,
            write_style: WriteStyle::DirectUpTo(2),
        },
        client: settings.client(),
        introduction: None,
        era,
        news: Arc::new(|_| {}),
        logs,
        processes: pool.processes(tenant, spec.id),
    }
}

/// Counts the changes of lists, and passes everything on to whoever listens to the pool's events.
fn news(entry: &Entry) -> Tell {
    let (key, changes, events) = (entry.key, entry.changes.clone(), entry.pool.events.clone());
    Arc::new(move |news: News| {
        if news.is_list_change() {
            changes.fetch_add(1, Ordering::Relaxed);
        }
        // Nobody may be listening.
        events.send(PoolEvent { key, news }).ok();
    })
}

/// What an entry's upstream is started with when it is remote.
fn remote_plan(entry: &Entry) -> RemotePlan {
    let (key, events) = (entry.key, entry.pool.events.clone());
    RemotePlan {
        era: key.era,
        introduction: entry.pool.introductions.get(&key).map(|introduction| introduction.clone()),
        announce: Some(Announce { key, events, changes: entry.changes.clone() }),
        ..probe_plan(&entry.pool, &entry.spec, entry.logs.clone())
    }
}

/// How a remote server is reached that is for nobody in particular, and that nobody hears of.
pub fn probe_plan(pool: &PoolShared, spec: &ServerSpec, logs: Arc<LogRing>) -> RemotePlan {
    let settings = &pool.settings;
    let trusted = match &spec.launch {
        Launch::Http(launch) | Launch::Websocket(launch) => launch.trusted,
        Launch::Builtin { .. } | Launch::Stdio(_) | Launch::Unsupported { .. } => false,
    };
    RemotePlan {
        who: spec.slug.as_str().into(),
        era: Era::Legacy,
        egress: if trusted { settings.trusted_egress.clone() } else { settings.egress.clone() },
        client: settings.client(),
        introduction: None,
        announce: None,
        logs,
        message_cap: settings.line_cap,
        tasks: pool.tasks.clone(),
    }
}

fn until(entry: &Entry) -> Instant {
    Instant::now() + entry.spec.start_timeout.value
}

fn remote(started: Result<http::Started, Refusal>) -> Result<Running, Refusal> {
    let (upstream, initialized) = started?;
    Ok(Running { upstream, initialized, pid: None, started: Instant::now(), is_child: false })
}
