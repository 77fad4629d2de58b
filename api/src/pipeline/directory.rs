//! Tenant views: servers and configs of a tenant, read from rows and cached until the registry changes, here
//! or on another replica.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use entity::{Changes, Db, SealError, Server, ServerConfig, Transport};
use parking_lot::Mutex;
use protocol::mcp::Eras;
use protocol::{Refusal, ServerId, Slug, TenantId};
use proxy::catalog::Catalog;
use proxy::effective::{Effective, Source};
use proxy::pool::Pool;
use proxy::server::{BuiltinLaunch, ChildLimits, EraVerdict, Launch, RemoteLaunch, ServerSpec, StdioLaunch};
use proxy::view::{Member, TenantView};
use tokio::sync::{OnceCell, broadcast, watch};
use tokio_util::task::TaskTracker;

use crate::authn::Authn;
use crate::config::{self};
use crate::pipeline::config_specs::{config_spec, from_millis};
use crate::pipeline::redactions::Redactions;

/// Cached views of tenants.
pub struct Directory {
    pub(crate) db: Db,
    pub(crate) authn: Arc<Authn>,
    pub(crate) pool: Pool,
    pub(crate) catalog: Arc<Catalog>,
    defaults: Defaults,
    views: DashMap<TenantId, Arc<TenantView>>,
    /// Counter of changes: a view that was read before a change is not cached after it.
    generation: AtomicU64,
    /// Number of the newest change that the caches follow. Locked while they do, so that the author of a
    /// change waits for the caches, whoever read its number.
    followed: tokio::sync::Mutex<i64>,
    /// Unwritten times of last use of servers, in microseconds; 0 for none.
    pub(crate) used: DashMap<(TenantId, ServerId), AtomicI64>,
    /// Times of the last successes of servers, as far as they are written.
    pub(crate) succeeded: Mutex<HashMap<(TenantId, ServerId), jiff::Timestamp>>,
    /// Unwritten verdicts on servers' eras.
    found: Mutex<Vec<(ServerId, i32, EraVerdict)>>,
    /// Set for tenants whose stored catalogs were read.
    restored: DashMap<TenantId, Arc<OnceCell<()>>>,
    retiring: TaskTracker,
    changes: broadcast::Sender<(TenantId, Vec<Slug>)>,
    registry: watch::Sender<()>,
    pub(crate) redactions: Arc<Redactions>,
}

/// Most changed tenants that a slow reader may lag behind.
const CHANGES_KEPT: usize = 1024;

struct Defaults {
    timeout: Duration,
    start_timeout: Duration,
    idle_timeout: Duration,
}

impl Directory {
    pub fn new(
        db: Db,
        authn: Arc<Authn>,
        pool: Pool,
        catalog: Arc<Catalog>,
        config: &config::Config,
    ) -> Arc<Self> {
        let directory = Arc::new(Self {
            db,
            authn,
            pool,
            catalog,
            defaults: Defaults {
                timeout: Duration::from_millis(config.calls.default_timeout_ms),
                start_timeout: Duration::from_millis(config.children.start_timeout_ms),
                idle_timeout: Duration::from_millis(config.children.idle_timeout_ms),
            },
            views: DashMap::new(),
            generation: AtomicU64::new(0),
            followed: tokio::sync::Mutex::new(0),
            used: DashMap::new(),
            succeeded: Mutex::default(),
            found: Mutex::default(),
            restored: DashMap::new(),
            retiring: TaskTracker::new(),
            changes: broadcast::channel(CHANGES_KEPT).0,
            registry: watch::Sender::new(()),
            redactions: Arc::default(),
        });
        let following = Arc::downgrade(&directory);
        directory.db.on_change(move || {
            let directory = following.upgrade();
            async move {
                if let Some(directory) = directory {
                    directory.follow().await;
                }
            }
        });
        directory
    }

    /// Returns the future changes: tenants, and their changed servers.
    pub fn changes(&self) -> broadcast::Receiver<(TenantId, Vec<Slug>)> {
        self.changes.subscribe()
    }

    /// Returns a signal of registry changes in any tenant, sent after the caches are cleared.
    pub fn registry(&self) -> watch::Receiver<()> {
        self.registry.subscribe()
    }

    /// Returns the servers of a tenant.
    pub async fn view(&self, tenant: TenantId) -> Result<Arc<TenantView>, Refusal> {
        if let Some(view) = self.views.get(&tenant) {
            return Ok(Arc::clone(&view));
        }
        let generation = self.generation.load(Ordering::Acquire);
        // Boxed, since streams would reserve the space for a rare case.
        let view = Arc::new(Box::pin(self.load(tenant)).await?);
        self.views.insert(tenant, Arc::clone(&view));
        if generation != self.generation.load(Ordering::Acquire) {
            self.views.remove(&tenant);
        }
        Ok(view)
    }

    /// Returns the servers of a tenant that is in use.
    pub(crate) fn cached(&self, tenant: TenantId) -> Option<Arc<TenantView>> {
        self.views.get(&tenant).map(|view| Arc::clone(&view))
    }

    /// Returns the tenants that are in use.
    pub fn tenants(&self) -> Vec<TenantId> {
        self.views.iter().map(|view| *view.key()).collect()
    }

    /// Follows the changes that this or another replica committed since the last time: forgets the callers of
    /// affected tenants, rebuilds those tenants' views, and ends the children of servers that are deleted or
    /// different.
    pub async fn follow(&self) {
        let mut followed = self.followed.lock().await;
        match self.db.changes_since(*followed).await {
            Ok(None) => {}
            Ok(Some(changes)) => {
                self.rebuild(&changes).await;
                *followed = changes.newest;
            }
            Err(error) => tracing::debug!(error = error.detail(), "changes cannot be read"),
        }
    }

    async fn rebuild(&self, changes: &Changes) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.authn.forget(changes);
        self.registry.send_replace(());
        let mut earlier: Vec<Arc<TenantView>> = Vec::new();
        self.views.retain(|tenant, view| {
            let affected = changes.affect(*tenant);
            earlier.extend(affected.then(|| Arc::clone(view)));
            !affected
        });
        for view in earlier {
            let now = match self.view(view.tenant).await {
                Ok(now) => now,
                // The view is read again at the next call, and the children stay until then.
                Err(refusal) => {
                    tracing::warn!(%refusal, "a tenant's servers cannot be read");
                    continue;
                }
            };
            let changed = now.differs(&view);
            let revisions: HashMap<ServerId, i32> =
                view.members().iter().map(|member| (member.spec.id, member.spec.revision)).collect();
            for member in changed.iter().filter_map(|slug| now.find(slug.as_str())) {
                // Another replica may have stored lists before this one knew the revision.
                if revisions.get(&member.spec.id) != Some(&member.spec.revision) {
                    self.restore_again(view.tenant, Some(member.spec.id)).await;
                }
                if member.spec.enabled.value {
                    self.pool.admit(view.tenant, &member.spec);
                }
            }
            if !changed.is_empty() {
                // Sending fails if nobody has subscribed.
                self.changes.send((view.tenant, changed)).ok();
            }
            let kept: HashMap<ServerId, &Member> =
                now.members().iter().map(|member| (member.spec.id, member)).collect();
            for member in view.members() {
                let old = &member.spec;
                let variants = kept.get(&old.id).map(|new| new.variants());
                let is_other_launch = variants.as_ref() != Some(&member.variants());
                let new = kept.get(&old.id).map(|new| &new.spec);
                if new.is_none_or(|new| new.revision != old.revision) || is_other_launch {
                    let present = new.map(|new| new.revision).zip(variants.as_ref());
                    self.catalog.forget(view.tenant, old.id, present);
                }
                if let Some(variants) = variants.filter(|_| is_other_launch) {
                    let (pool, tenant, server) = (self.pool.clone(), view.tenant, old.id);
                    self.retiring.spawn(async move { pool.retire_variants(tenant, server, variants).await });
                }
                if !new.is_some_and(|new| new.revision == old.revision && new.enabled.value) {
                    self.pool.refuse(view.tenant, old);
                }
                if old.enabled.value && !new.is_some_and(|new| runs_on(old, new)) {
                    let (pool, tenant, gone) = (self.pool.clone(), view.tenant, old.id);
                    // Spawned, since calls in flight are finished first.
                    self.retiring.spawn(async move { pool.retire(tenant, gone).await });
                }
            }
        }
    }

    /// Follows other replicas' changes, and writes pending verdicts.
    pub async fn tick(&self) {
        self.follow().await;
        self.note_eras().await;
    }

    /// Writes the found eras of servers; a failed write is repeated later.
    pub async fn note_eras(&self) {
        let mut found = std::mem::take(&mut *self.found.lock());
        found.extend(self.pool.take_found());
        for (at, (server, revision, verdict)) in found.iter().enumerate() {
            let EraVerdict { eras, found_at } = *verdict;
            if let Err(error) = self.db.operator().record_eras(*server, *revision, eras, found_at).await {
                tracing::warn!(error = error.detail(), "the eras of servers cannot be written");
                self.found.lock().extend_from_slice(&found[at..]);
                return;
            }
        }
    }

    async fn load(&self, tenant: TenantId) -> Result<TenantView, Refusal> {
        let rows = self.db.tenant(tenant);
        let refused = |error: entity::DbError| {
            tracing::error!(error = error.detail(), "a tenant's servers cannot be read");
            error.refusal()
        };
        let servers = rows.visible_servers().await.map_err(refused)?;
        let configs = rows.all_configs().await.map_err(refused)?;
        self.redactions.set(tenant, &rows.record_policy().await.map_err(refused)?.settings);
        let by_id: HashMap<ServerId, &Server> = servers.iter().map(|server| (server.id, server)).collect();
        // A config of a server that is not visible applies to nothing.
        let config = |row: &ServerConfig| Some(Arc::new(config_spec(row, by_id.get(&row.server)?)));
        let configs = configs.iter().filter_map(|row| Some((row.server, row.agent, config(row)?))).collect();
        let servers: Vec<Arc<ServerSpec>> =
            servers.iter().map(|server| Arc::new(self.spec(server))).collect();
        let restored = Arc::clone(&self.restored.entry(tenant).or_default());
        let restore = || async { self.restore(tenant, None, &servers).await.map(drop) };
        // Refused like the rows above and read again at the next request: without the stored lists, every
        // server would be started for them.
        restored.get_or_try_init(restore).await.map_err(refused)?;
        Ok(TenantView::new(tenant, servers, configs))
    }

    /// Converts a row for the proxy, with the defaults filled in.
    pub fn spec(&self, server: &Server) -> ServerSpec {
        let millis = |set: Option<i64>, default| Effective::of_server(set.and_then(from_millis), default);
        let settings = &server.settings;
        ServerSpec {
            id: server.id,
            owner: server.tenant,
            slug: server.slug.clone(),
            name: settings.name.clone(),
            version: settings.version.clone(),
            description: settings.description.clone(),
            category: settings.category.clone(),
            launch: launch(server),
            variant: 0,
            revision: server.revision,
            enabled: Effective { value: settings.enabled, source: Source::Server },
            timeout: millis(settings.timeout_ms, self.defaults.timeout),
            start_timeout: millis(settings.start_timeout_ms, self.defaults.start_timeout),
            idle_timeout: millis(settings.idle_timeout_ms, self.defaults.idle_timeout),
            max_concurrency: Effective::of_server(
                settings.max_concurrency.and_then(|max| max.try_into().ok()),
                0,
            ),
            retries: Effective::of_server(retries(server), 0),
            era: Eras::parse(&settings.era),
            found: server.eras_found.map(|found| EraVerdict { eras: found.eras, found_at: found.at }),
        }
    }
}

/// Returns `retry.attempts`, the number of repeated attempts.
fn retries(server: &Server) -> Option<u8> {
    server.settings.retry.as_ref()?.get("attempts")?.as_u64()?.try_into().ok()
}

/// Returns true if a process of the old version serves the new one as well.
fn runs_on(old: &ServerSpec, new: &ServerSpec) -> bool {
    let settings = |spec: &ServerSpec| {
        let (idle, start) = (spec.idle_timeout.value, spec.start_timeout.value);
        (spec.revision, spec.max_concurrency.value, idle, start, spec.retries.value)
    };
    new.enabled.value && settings(old) == settings(new)
}

fn launch(server: &Server) -> Launch {
    match server.transport {
        Transport::Builtin => match server.settings.env.expose() {
            Ok(env) => Launch::Builtin(BuiltinLaunch {
                secrets: env.clone(),
                ..BuiltinLaunch::new(server.provider().unwrap_or(server.slug.as_str()))
            }),
            Err(error) => unopened(server)(error),
        },
        Transport::Stdio => match server.settings.env.expose() {
            Ok(env) => Launch::Stdio(StdioLaunch {
                command: server.settings.command.clone().unwrap_or_default(),
                args: server.settings.args.clone(),
                env: env.clone(),
                cwd: server.settings.cwd.as_ref().map(Into::into),
                limits: ChildLimits::default(),
            }),
            Err(error) => unopened(server)(error),
        },
        Transport::StreamableHttp => remote(server).map_or_else(unopened(server), Launch::Http),
        Transport::Websocket => remote(server).map_or_else(unopened(server), Launch::Websocket),
    }
}

fn remote(server: &Server) -> Result<RemoteLaunch, &SealError> {
    let headers = server.settings.headers.expose()?.clone();
    let trusted = server.managed_by == entity::ManagedBy::Config;
    Ok(RemoteLaunch { url: server.settings.url.clone().unwrap_or_default(), headers, trusted })
}

/// Returns the launch of a server whose secrets cannot be opened: the server is not reached at all.
fn unopened(server: &Server) -> impl Fn(&SealError) -> Launch {
    move |error| {
        tracing::error!(server = %server.id, %error, "a server's secrets cannot be opened");
        let transport = server.transport.as_str();
        Launch::Unsupported { transport: format!("{transport} with secrets sealed under another master key") }
    }
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
