//! Lifecycle of the gateway process: start, announce, serve, stop.

use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{App, StartError};
use crate::config;
use crate::config::{Config, LogFormat};
use crate::http::{listener, routes};
use crate::ops::metrics;
use crate::subscriptions::replica_interest;

/// Interval of reads of the registry's change counter.
const LOOK: Duration = Duration::from_secs(1);

/// Interval of deletions of expired sessions and executions.
const TIDY: Duration = Duration::from_secs(300);

/// Interval of updates of the number of replicas.
const REPLICAS: Duration = Duration::from_secs(2);

/// Interval of writes of last-use times, upkeep of metrics and expiry of state.
const FOLD: Duration = Duration::from_secs(15);

/// Runs until SIGTERM or SIGINT.
pub fn run(config: Config, environment: Vec<(String, String)>) -> Result<(), StartError> {
    let _alone = claim_data_dir(&config)?;
    let (stop, signals) = (CancellationToken::new(), TaskTracker::new());
    let up = |app: &App, listens: Listens| {
        announce(app, listens);
        signals.spawn(end_on_signal(stop.clone()));
    };
    runtime()?.block_on(live(Arc::new(config), environment, stop.clone(), up))
}

/// Returns the runtime of the process.
pub fn runtime() -> Result<tokio::runtime::Runtime, StartError> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| StartError::unavailable(format!("the runtime cannot start: {error}")))
}

/// The bound addresses.
#[derive(Clone, Copy)]
pub struct Listens {
    pub gateway: SocketAddr,
    pub metrics: Option<SocketAddr>,
}

/// Runs a gateway until `stop` is cancelled; calls `up` when it listens.
pub async fn live(
    config: Arc<Config>,
    environment: Vec<(String, String)>,
    stop: CancellationToken,
    up: impl FnOnce(&App, Listens),
) -> Result<(), StartError> {
    let recorder = metrics::install();
    let connections = listener::connections();
    // Bound first: a taken port is found before anything is written.
    let listener = bind(&config, config.server.port, config::PORT).await?;
    let metrics_listener = match config.server.enable_metrics {
        true => Some(bind(&config, config.server.metrics_port, config::METRICS_PORT).await?),
        false => None,
    };
    let app = Arc::new(App::build(Arc::clone(&config), environment).await?);
    let tasks = TaskTracker::new();
    let metrics_at = metrics_listener.as_ref().map(local).transpose()?;
    let listens = Listens { gateway: local(&listener)?, metrics: metrics_at };
    note(&app, listens);
    up(&app, listens);

    if let Some(listener) = metrics_listener {
        let router = routes::metrics(&app, recorder.clone());
        tasks.spawn(listener::serve(listener, router, 64, stop.clone(), Duration::from_secs(1)));
    }
    tasks.spawn(every(LOOK, stop.clone(), {
        let app = Arc::clone(&app);
        move || {
            let app = Arc::clone(&app);
            async move { app.gateway.upstreams.directory.tick().await }
        }
    }));
    tasks.spawn(every(FOLD, stop.clone(), {
        let app = Arc::clone(&app);
        move || {
            let (app, recorder) = (Arc::clone(&app), recorder.clone());
            async move {
                recorder.run_upkeep();
                app.state.sweep();
                app.gateway.sessions.sweep();
                app.gateway.upstreams.directory.touch().await;
            }
        }
    }));
    tasks.spawn(every(TIDY, stop.clone(), {
        let app = Arc::clone(&app);
        move || {
            let app = Arc::clone(&app);
            async move {
                app.gateway.sessions.tidy().await;
                expire_executions(&app).await;
            }
        }
    }));
    tasks.spawn(every(REPLICAS, stop.clone(), {
        let app = Arc::clone(&app);
        move || {
            app.count_replicas();
            std::future::ready(())
        }
    }));
    let stopped = Arc::new(OnceLock::new());
    tasks.spawn(every(replica_interest::PUBLISH_EVERY, stop.clone(), {
        let app = Arc::clone(&app);
        move || {
            let app = Arc::clone(&app);
            async move { app.gateway.dispatcher.publish_interest().await }
        }
    }));
    tasks.spawn(Arc::clone(&app.catalog_upkeep).run(stop.clone()));
    tasks.spawn(Arc::clone(&app.health_checks).run(stop.clone()));
    tasks.spawn(app.collab.clone().run(stop.clone()));
    tasks.spawn(Arc::clone(&app.gateway.dispatcher).run(stop.clone()));
    tasks.spawn(Arc::clone(&app.gateway.dispatcher).receive(stop.clone()));
    tasks.spawn({
        let (app, stop, stopped) = (Arc::clone(&app), stop.clone(), Arc::clone(&stopped));
        async move {
            stop.cancelled().await;
            stopped.set(Instant::now()).ok();
            // Open streams and server requests would keep their connections for ever.
            app.gateway.sessions.refuse_server_requests();
            app.gateway.upstreams.bridge.cancel_pending();
            app.gateway.dispatcher.ending.cancel();
            app.stopping.cancel();
        }
    });

    let grace = Duration::from_millis(config.server.shutdown_grace_ms);
    listener::serve(listener, routes::gateway(&app), connections, stop.clone(), grace).await;
    stop.cancel();
    tasks.close();
    // One grace period for all: requests in flight have used a part of it.
    let spent = stopped.get().map_or(Duration::ZERO, Instant::elapsed);
    app.shutdown(grace.saturating_sub(spent)).await;
    if tokio::time::timeout(Duration::from_secs(2), tasks.wait()).await.is_err() {
        tracing::warn!("some background work did not end in time");
    }
    tracing::info!("stopped");
    Ok(())
}

/// Deletes the executions that are older than their tenant keeps them.
async fn expire_executions(app: &App) {
    match app.db.operator().expire_executions(jiff::Timestamp::now()).await {
        Ok(expired) => {
            for (tenant, executions) in expired {
                tracing::info!(%tenant, executions, "old executions are deleted");
            }
        }
        Err(error) => tracing::warn!(error = error.detail(), "record policies cannot be read"),
    }
}

/// Repeats a function until the gateway stops.
async fn every<F: Future<Output = ()>>(
    pause: Duration,
    stop: CancellationToken,
    mut work: impl FnMut() -> F,
) {
    let mut ticks = tokio::time::interval(pause);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => work().await,
        }
    }
}

/// Cancels when the process receives SIGTERM or SIGINT.
pub async fn end_on_signal(stop: CancellationToken) {
    let wait = async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = stop.cancelled() => {}
        }
        std::io::Result::Ok(())
    };
    match wait.await {
        Ok(()) => tracing::info!("stopping: no new requests; those in flight are finished"),
        Err(error) => tracing::error!(%error, "signals cannot be waited for"),
    }
    stop.cancel();
}

async fn bind(config: &Config, port: u16, setting: &str) -> Result<TcpListener, StartError> {
    let address = SocketAddr::new(config.bind_address(), port);
    TcpListener::bind(address).await.map_err(|error| {
        let why = match error.kind() {
            std::io::ErrorKind::AddrInUse => "another program listens there".to_owned(),
            _ => error.to_string(),
        };
        StartError::unavailable(format!("cannot listen on {address} (HOST, {setting}): {why}"))
    })
}

fn local(listener: &TcpListener) -> Result<SocketAddr, StartError> {
    listener
        .local_addr()
        .map_err(|error| StartError::unavailable(format!("the listener has no address: {error}")))
}

/// Creates the data directory and locks it: two processes would write one journal.
pub fn claim_data_dir(config: &Config) -> Result<std::fs::File, StartError> {
    let dir = &config.server.data_dir;
    let unusable = |error: std::io::Error| {
        StartError::usage(format!("{} (DATA_DIR) cannot be written: {error}", dir.display()))
    };
    std::fs::create_dir_all(dir).map_err(unusable)?;
    let mut options = std::fs::File::options();
    let lock = options
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(dir.join("lock"))
        .map_err(unusable)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(StartError::unavailable(format!(
            "a gateway runs on {} (DATA_DIR); stop it, or give this one a directory of its own",
            dir.display()
        ))),
        Err(std::fs::TryLockError::Error(error)) => Err(unusable(error)),
    }
}

/// Writes the gateway's address to a file, for programs.
fn note(app: &App, listens: Listens) {
    let metrics = listens.metrics.map(|address| format!("http://{address}"));
    tracing::info!(
        address = format!("http://{}", listens.gateway),
        metrics = metrics.as_deref().unwrap_or("off"),
        version = env!("CARGO_PKG_VERSION"),
        database = crate::config::without_password(&app.config.database_url()),
        state = app.state.name(),
        "listening"
    );
}

/// Prints the addresses and the next steps, for people.
fn announce(app: &App, Listens { gateway, metrics }: Listens) {
    if app.config.log.format == LogFormat::Json {
        return;
    }
    let host = match gateway.ip().is_unspecified() {
        true => format!("http://127.0.0.1:{}", gateway.port()),
        false => format!("http://{gateway}"),
    };
    let key = match app.trusts_loopback {
        true => String::new(),
        false => format!(" -H \"X-MCP-Key: $(cat {})\"", app.operator_key.display()),
    };
    let metrics = metrics.map_or("off".to_owned(), |address| format!("http://{address}/metrics"));
    println!(
        "\nTrunkline {version}\n  MCP         {host}/mcp\n  JSON-RPC    {host}/mcp/rpc\n  Swagger UI  {host}/docs\n  Prometheus  {metrics}\n  \
         Data        {data}\n\nTry it:\n\n  curl -s {host}/mcp/rpc -H 'Content-Type: application/json'{key} \\\n    \
         -d '{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{{\"name\":\"calculator__add\",\"arguments\":{{\"a\":2,\"b\":3}}}}}}'\n",
        version = env!("CARGO_PKG_VERSION"),
        data = app.config.server.data_dir.display(),
    );
}
