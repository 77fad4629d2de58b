//! Composition root of the gateway.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashSet;
use entity::record::{Durability, RecordSettings, Recorder as Record};
use entity::{Actor, DatabaseSettings, Db, DbError, ManagedBy, NewCredential, Page};
use protocol::provider::ToolProvider;
use protocol::{Role, TenantId};
use proxy::bridge::{Bridge, Client};
use proxy::catalog::Catalog;
use proxy::egress::{Egress, EgressSettings, Url};
use proxy::pool::{Pool, PoolSettings};
use proxy::state::{FallbackState, MemoryState, RedisSettings, RedisState, StateStore};
use servers::collab::Collab;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::authn::Authn;
use crate::authn::oauth::Resources;
use crate::builtins::{builtins, row};
use crate::collaboration::collab;
use crate::config;
use crate::config::secrets::SecretFiles;
use crate::config::{Config, remote_address, without_password};
use crate::http::listener;
use crate::marketplace;
use crate::mcp::tasks::Tasks;
use crate::ops::health::Health;
use crate::pipeline::Gateway;
use crate::pipeline::catalog_upkeep::CatalogUpkeep;
use crate::pipeline::directory::Directory;
use crate::pipeline::health_checks::HealthChecks;
use crate::pipeline::limits::Limits;
use crate::pipeline::recorder::Recorder;
use crate::pipeline::upstreams::Upstreams;
use crate::session::Sessions;
use crate::session::stream_quota::StreamQuota;
use crate::subscriptions::dispatcher::Dispatcher;
use crate::subscriptions::replica_bus::ReplicaBus;
use crate::subscriptions::replica_interest::ReplicaInterest;

/// The running gateway.
pub struct App {
    pub config: Arc<Config>,
    pub db: Db,
    pub gateway: Gateway,
    pub catalog_upkeep: Arc<CatalogUpkeep>,
    pub health_checks: Arc<HealthChecks>,
    /// OAuth resources: the audiences that tokens of an issuer may have.
    pub resources: Resources,
    /// Outbound HTTP client for remote servers.
    pub egress: Egress,
    pub state: Arc<dyn StateStore>,
    /// The state store, if it is in Redis.
    pub fallback: Option<Arc<FallbackState>>,
    pub health: Health,
    pub collab: Collab,
    /// The servers that run in this process.
    pub builtins: Vec<Arc<dyn ToolProvider>>,
    /// Detached requests: they continue after the client disconnects.
    pub tasks: TaskTracker,
    /// Cancellation of open streams when the gateway stops.
    pub stopping: CancellationToken,
    /// True if loopback callers need no credential.
    pub trusts_loopback: bool,
    pub operator_key: std::path::PathBuf,
}

/// Reason for a failed start: one sentence, and the exit code (sysexits.h).
#[derive(Debug)]
pub struct StartError {
    pub sentence: String,
    pub exit: u8,
}

/// Exit code for a wrong configuration.
pub const EX_USAGE: u8 = 64;
/// Exit code for a missing dependency.
pub const EX_UNAVAILABLE: u8 = 69;

impl StartError {
    pub fn usage(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), exit: EX_USAGE }
    }

    pub fn unavailable(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), exit: EX_UNAVAILABLE }
    }
}

impl App {
    /// Connects the dependencies, migrates the database, and recovers the journal of a killed process.
    pub async fn build(config: Arc<Config>, environment: Vec<(String, String)>) -> Result<App, StartError> {
        let secrets = SecretFiles::new(&config.server.data_dir);
        let db = connect(&config, &secrets).await?;
        let tenant = prepare(&db).await?;
        let (state, fallback) = state_store(&config)?;
        let collab = collab(&config, &db, &state, tenant).map_err(StartError::usage)?;
        let builtins = builtins(&config, &collab).map_err(StartError::usage)?;
        declare(&db, &config, tenant, &builtins).await?;
        first_key(&db, &config, &secrets, tenant).await?;

        let egress = egress_client(&config, Vec::new());
        let pool = Pool::new(pool_settings(&config, environment, egress.clone())?, builtins.clone());
        let catalog = Arc::new(Catalog::new(pool.clone()));
        let bound = config.bind_address();
        let trusts_loopback = bound.is_loopback() && config.auth.loopback_role != config::LoopbackRole::None;
        let authn = Arc::new(Authn::new(
            db.clone(),
            &config.auth,
            secrets.jwt(&config.auth).map_err(StartError::usage)?,
            egress_client(&config, identity_urls(&config)),
            bound.is_loopback(),
        ));
        let directory =
            Directory::new(db.clone(), Arc::clone(&authn), pool.clone(), Arc::clone(&catalog), &config);
        let record = Record::open(&db, record_settings(&config)).await.map_err(|error| {
            StartError::unavailable(format!("the record of calls cannot be opened: {error}"))
        })?;
        let bus = Arc::new(ReplicaBus::new(Arc::clone(&state)));
        let sessions = Arc::new(Sessions::new(
            db.clone(),
            Arc::clone(&state),
            Arc::clone(&bus.replica),
            pool.clone(),
            StreamQuota::new(listener::connections()),
        ));
        let interest = Arc::new(ReplicaInterest::default());
        let dispatcher = Dispatcher::new(
            Arc::clone(&directory),
            Arc::clone(&sessions),
            bus,
            pool.clone(),
            Arc::clone(&interest),
        );
        let list_timeout = Duration::from_millis(config.calls.list_timeout_ms);
        let catalog_upkeep = Arc::new(CatalogUpkeep {
            directory: Arc::clone(&directory),
            catalog: Arc::clone(&catalog),
            pool: pool.clone(),
            bus: Arc::clone(&dispatcher.bus),
            list_timeout,
            check_after: Duration::from_millis(config.children.list_check_ms),
            refreshing: DashSet::new(),
            tasks: TaskTracker::new(),
        });
        let redactions = Arc::clone(&directory.redactions);
        let check_interval = Duration::from_millis(config.health.check_interval_ms);
        let health_checks =
            Arc::new(HealthChecks::new(Arc::clone(&directory), pool.clone(), check_interval, list_timeout));
        let upstreams =
            Upstreams { bridge: Bridge::new(pool.clone()), directory, catalog, pool, interest, list_timeout };
        let gateway = Gateway {
            upstreams,
            sessions,
            dispatcher: Arc::new(dispatcher),
            tasks: Tasks { state: Arc::clone(&state) },
            seal: secrets.seal(&config.auth).map_err(StartError::usage)?,
            plain: Arc::new(Client::plain()),
            authn,
            limits: Limits::new(Arc::clone(&state), &config.limits),
            recorder: Recorder { record, argument_bytes: config.record.argument_bytes, redactions },
            max_batch: config.server.max_batch,
        };
        let operator_key = secrets.operator_key();
        let (resources, health) = (Resources::new(&config), Health::default());
        let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
        Ok(App {
            config,
            tasks,
            stopping,
            db,
            gateway,
            catalog_upkeep,
            health_checks,
            collab,
            builtins,
            resources,
            egress,
            state,
            fallback,
            health,
            trusts_loopback,
            operator_key,
        })
    }

    /// Passes on the number of replicas that share a limit, as last read from the database.
    pub fn count_replicas(&self) {
        if let Some(fallback) = &self.fallback {
            fallback.set_replicas(self.gateway.recorder.record.status().replicas);
        }
    }

    /// Stops the child processes and flushes pending writes.
    pub async fn shutdown(&self, grace: Duration) {
        self.tasks.close();
        let rest = grace.min(Duration::from_secs(1));
        if tokio::time::timeout(rest, self.tasks.wait()).await.is_err() {
            tracing::warn!("some requests were still in flight");
        }
        self.gateway.upstreams.bridge.shutdown().await;
        // The pool forgets its upstreams.
        if let Err(error) = self.gateway.upstreams.directory.note_successes().await {
            tracing::warn!(error = error.detail(), "the times of last success cannot be written");
        }
        self.gateway.upstreams.pool.shutdown(grace).await;
        self.gateway.upstreams.directory.note_eras().await;
        self.gateway.upstreams.directory.touch().await;
        self.gateway.recorder.record.shutdown().await;
    }
}

/// Opens the database, with its master key.
pub async fn connect(config: &Config, secrets: &SecretFiles) -> Result<Db, StartError> {
    let seal = secrets.seal(&config.auth).map_err(StartError::usage)?;
    let url = config.database_url();
    let settings = DatabaseSettings {
        url: url.clone(),
        pool_min: config.database.pool_min,
        pool_max: config.database.pool_max,
        idle_timeout: Duration::from_millis(config.database.idle_timeout_ms),
        query_timeout: Duration::from_millis(config.database.query_timeout_ms),
    };
    Db::connect(&settings, seal).await.map_err(|error| {
        StartError::unavailable(format!(
            "the database at {} (DATABASE_URL) cannot be used: {}",
            without_password(&url),
            error.detail()
        ))
    })
}

fn unprepared(error: DbError) -> StartError {
    StartError::unavailable(format!("the database cannot be prepared: {}", error.detail()))
}

/// Migrates the database; returns the tenant `default`.
async fn prepare(db: &Db) -> Result<TenantId, StartError> {
    db.migrate().await.map_err(unprepared)?;
    Ok(db.ensure_default_tenant().await.map_err(unprepared)?.id)
}

/// Updates the rows of built-in and declared servers, and of the curated entries of the marketplace.
async fn declare(
    db: &Db,
    config: &Config,
    tenant: TenantId,
    builtins: &[Arc<dyn ToolProvider>],
) -> Result<(), StartError> {
    let actor = Actor::gateway(tenant);
    let operator = db.operator();
    let built_in = builtins.iter().map(|provider| row(provider.as_ref())).collect();
    operator.declare_servers(ManagedBy::Builtin, built_in, &actor).await.map_err(unprepared)?;
    let declared = config.servers.iter().filter_map(config::DeclaredServer::server).collect();
    operator.declare_servers(ManagedBy::Config, declared, &actor).await.map_err(|error| match error {
        DbError::SlugTaken { slug } => StartError::usage(format!(
            "the configuration file declares the server `{slug}`, but a server of that slug is registered already; \
             delete it or choose another slug"
        )),
        other => unprepared(other),
    })?;
    let curated: Vec<_> = marketplace::curated().iter().map(marketplace::Curated::version).collect();
    operator.declare_entries(&curated, &actor).await.map_err(unprepared)?;
    Ok(())
}

/// Creates an operator's key at first boot and keeps it in a file, since nobody has a credential yet.
async fn first_key(
    db: &Db,
    config: &Config,
    secrets: &SecretFiles,
    tenant: TenantId,
) -> Result<(), StartError> {
    if !config.auth.jwt_secret.is_empty() || !config.auth.jwks_url.is_empty() {
        return Ok(());
    }
    let failed =
        |error: DbError| StartError::unavailable(format!("the first key cannot be made: {}", error.detail()));
    let rows = db.tenant(tenant);
    if rows.credentials(Page::new(1, 1)).await.map_err(failed)?.total > 0 {
        return Ok(());
    }
    let key = Authn::new_key();
    secrets.write_operator_key(&key.secret).map_err(StartError::usage)?;
    let new = NewCredential {
        agent: None,
        name: "operator (made at first boot)".to_owned(),
        hint: key.hint,
        secret_hash: key.hash,
        scopes: Role::Operator.scopes(),
        expires_at: None,
    };
    rows.create_credential(new, &Actor::gateway(tenant)).await.map_err(failed)?;
    tracing::info!(path = %secrets.operator_key().display(), "an operator key was made");
    Ok(())
}

/// Returns an outbound HTTP client that may reach these private addresses. Identity and servers have one
/// each, so that nobody reaches the identity provider by registering a server.
fn egress_client(config: &Config, trusted: Vec<Url>) -> Egress {
    Egress::new(EgressSettings {
        allow: config.egress.allow.clone(),
        timeout: Duration::from_millis(config.calls.http_timeout_ms),
        trusted,
        ..EgressSettings::default()
    })
}

fn declared_urls(config: &Config) -> Vec<Url> {
    let urls = config.servers.iter().filter_map(|server| server.settings.url.as_deref()?.parse().ok());
    urls.flat_map(|url: Url| [remote_address::as_http(&url), url]).collect()
}

fn identity_urls(config: &Config) -> Vec<Url> {
    [&config.auth.jwks_url, &config.auth.jwt_issuer].into_iter().flat_map(|url| url.parse()).collect()
}

/// Time limit of a Redis command that a call can do without.
const REDIS_TIMEOUT: Duration = Duration::from_millis(500);

type State = (Arc<dyn StateStore>, Option<Arc<FallbackState>>);

fn state_store(config: &Config) -> Result<State, StartError> {
    if config.state.redis_url.is_empty() {
        return Ok((Arc::new(MemoryState::new()), None));
    }
    let ca_file =
        (!config.state.redis_ca_file.as_os_str().is_empty()).then(|| config.state.redis_ca_file.clone());
    let mut settings = RedisSettings { ca_file, ..RedisSettings::new(config.state.redis_url.clone()) };
    let alone = config.limits.without_redis == config::WithoutRedis::Local;
    if alone {
        settings.timeout = REDIS_TIMEOUT;
    }
    let store = RedisState::open(&settings)
        .map_err(|error| StartError::usage(format!("REDIS_URL cannot be used: {error}")))?;
    let store = Arc::new(FallbackState::new(store, alone));
    Ok((Arc::clone(&store) as Arc<dyn StateStore>, Some(store)))
}

fn pool_settings(
    config: &Config,
    environment: Vec<(String, String)>,
    egress: Egress,
) -> Result<PoolSettings, StartError> {
    let program = std::env::current_exe().map_err(|error| {
        StartError::unavailable(format!("this program's own path cannot be found: {error}"))
    })?;
    let children = &config.children;
    let usual = PoolSettings::new(program, environment);
    Ok(PoolSettings {
        start_concurrency: match children.start_concurrency {
            0 => usual.start_concurrency,
            most => most,
        },
        line_cap: children.line_max_bytes,
        max_children: children.max_children,
        stop_grace: Duration::from_millis(children.stop_grace_ms),
        egress,
        trusted_egress: egress_client(config, declared_urls(config)),
        ..usual
    })
}

fn record_settings(config: &Config) -> RecordSettings {
    RecordSettings {
        durability: match config.record.durability {
            config::Durability::Process => Durability::Process,
            config::Durability::Interval => {
                Durability::Interval(Duration::from_millis(config.record.interval_ms))
            }
            config::Durability::Strict => Durability::Strict,
        },
        ..RecordSettings::new(config.server.data_dir.join("journal"))
    }
}

impl Config {
    /// Returns the address to listen on, checked when the configuration was read.
    pub fn bind_address(&self) -> IpAddr {
        config::host(self).unwrap_or(IpAddr::from([127, 0, 0, 1]))
    }
}
