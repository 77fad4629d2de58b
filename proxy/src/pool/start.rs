//! Starts what a server's specification says.

use std::sync::Arc;
use std::time::Instant;

use protocol::{Code, Refusal};

use super::entry::{Entry, Running};
use super::shared::PoolShared;
use crate::builtin::BuiltinUpstream;
use crate::child::ChildPlan;
use crate::http::{self, Announce, RemotePlan};
use crate::server::{Launch, StdioLaunch};
use crate::stdio::{ClientName, StdioPlan, StdioUpstream, WireLimits};
use crate::websocket;

pub async fn start(entry: &Entry, generation: u64) -> Result<Running, Refusal> {
    match &entry.spec.launch {
        Launch::Builtin { provider } => start_builtin(&entry.pool, provider, generation),
        Launch::Stdio(launch) => start_child(entry, launch, generation).await,
        Launch::Http(launch) => {
            remote(http::start(&remote_plan(entry), launch, generation, until(entry)).await)
        }
        Launch::Websocket(launch) => {
            remote(websocket::start(&remote_plan(entry), launch, generation, until(entry)).await)
        }
        Launch::Unsupported { transport } => {
            let reason = format!("the transport `{transport}` is not supported by this gateway");
            Err(Refusal::new(Code::NotConfigured, reason))
        }
    }
}

fn start_builtin(pool: &PoolShared, name: &str, generation: u64) -> Result<Running, Refusal> {
    let provider = pool.builtins.iter().find(|provider| provider.info().name == name).ok_or_else(|| {
        Refusal::new(Code::NotConfigured, format!("this gateway has no built-in server `{name}`"))
    })?;
    let upstream = BuiltinUpstream::new(provider.clone(), generation);
    let initialized = upstream.initialized().clone();
    Ok(Running {
        upstream: Arc::new(upstream),
        initialized,
        pid: None,
        started: Instant::now(),
        is_child: false,
    })
}

async fn start_child(entry: &Entry, launch: &StdioLaunch, generation: u64) -> Result<Running, Refusal> {
    let _starting = entry.pool.make_room().await?;
    let settings = &entry.pool.settings;
    let plan = StdioPlan {
        who: entry.spec.slug.as_str().into(),
        child: ChildPlan {
            supervisor: settings.supervisor.clone(),
            environment: settings.environment.iter().cloned().collect(),
            limits: settings.limits,
            grace: settings.stop_grace,
        },
        limits: WireLimits {
            line_cap: settings.line_cap,
            write_cap: settings.write_cap,
            write_style: settings.write_style,
        },
        client: ClientName { name: settings.client_name.clone(), version: settings.client_version.clone() },
        changes: entry.changes.clone(),
        logs: entry.logs.clone(),
    };
    let started = Instant::now();
    let deadline = started + entry.spec.start_timeout;
    let upstream = StdioUpstream::start(&plan, launch, generation, deadline, &entry.pool.tasks).await?;
    tracing::info!(server = %entry.spec.slug, pid = upstream.pid(), "a server started");
    let (initialized, pid) = (upstream.initialized().clone(), upstream.pid());
    Ok(Running { upstream: Arc::new(upstream), initialized, pid, started: Instant::now(), is_child: true })
}

/// What an entry's upstream is started with when it is remote.
fn remote_plan(entry: &Entry) -> RemotePlan {
    let settings = &entry.pool.settings;
    let (key, events) = (entry.key, entry.pool.events.clone());
    RemotePlan {
        who: entry.spec.slug.as_str().into(),
        era: key.era,
        egress: settings.egress.clone(),
        client: ClientName { name: settings.client_name.clone(), version: settings.client_version.clone() },
        introduction: entry.pool.introductions.get(&key).map(|introduction| introduction.clone()),
        announce: Some(Announce { key, events, changes: entry.changes.clone() }),
        logs: entry.logs.clone(),
        message_cap: settings.line_cap,
        tasks: entry.pool.tasks.clone(),
    }
}

fn until(entry: &Entry) -> Instant {
    Instant::now() + entry.spec.start_timeout
}

fn remote(started: Result<http::Started, Refusal>) -> Result<Running, Refusal> {
    let (upstream, initialized) = started?;
    Ok(Running { upstream, initialized, pid: None, started: Instant::now(), is_child: false })
}
