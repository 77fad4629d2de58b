//! Sessions of the legacy era (`Mcp-Session-Id`): random, bound to tenant, caller and endpoint, kept in SQL
//! with the shared state in front, so that any replica serves them. Another caller's session is not found.
//! The id itself is never stored, only its SHA-256.

pub mod backlog;
pub mod state;
mod stored;
pub mod stream;
pub mod stream_quota;
mod upkeep;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use dashmap::DashMap;
use entity::{Db, NewSession};
use jiff::Timestamp;
use parking_lot::Mutex;
use protocol::mcp::Era;
use protocol::{AgentId, Caller, Code, Refusal, TenantId};
use proxy::bridge::client::hash;
use proxy::bridge::{Client, Level};
use proxy::pool::Pool;
use proxy::state::{StateError, StateStore};
use sha2::{Digest, Sha256};

use state::{ClientChannel, SessionState};

pub use stored::{Facts, SessionHash};

use crate::mcp::endpoint::Endpoint;
use crate::session::backlog::Backlogs;
use crate::session::stored::{IDLE, Stored, expiry, key, text};
use crate::session::stream_quota::StreamQuota;

/// Lifetime of a copy in the shared state after its row was last written or read. It bounds the time for
/// which a copy that no replica could delete is wrong.
const COPIED: Duration = Duration::from_secs(600);

/// Number of new sessions after which idle ones are counted.
const COUNTED_EVERY: usize = 100;

/// Most busy sessions of one caller in one replica.
const MOST_SESSIONS: usize = 4_000;

/// Most bytes of a client's capabilities and clientInfo.
const MAX_CLIENT_BYTES: usize = 16 << 10;

/// Least time between two renewals of a session's row.
const TOUCH: Duration = Duration::from_secs(60);

/// A session as a request finds it.
pub struct Session {
    pub hash: SessionHash,
    pub tenant: TenantId,
    pub agent: Option<AgentId>,
    principal: String,
    pub endpoint: Endpoint,
    opened: i64,
    pub client: Arc<Client>,
    pub facts: Facts,
    pub state: Arc<SessionState>,
    used: Mutex<Used>,
}

/// Times of a session's last use and of its row's last renewal.
struct Used {
    here: Instant,
    row: Instant,
}

pub struct Sessions {
    db: Db,
    state: Arc<dyn StateStore>,
    /// Sessions in this replica, with the stored text of each.
    known: DashMap<SessionHash, (Bytes, Arc<Session>)>,
    replica: Arc<str>,
    pool: Pool,
    /// Backlogs of unread messages.
    pub backlogs: Backlogs,
    pub stream_quota: Arc<StreamQuota>,
    opened: AtomicUsize,
    /// Time when sessions were last forgotten because there were too many.
    forgotten: Mutex<Option<Instant>>,
}

impl Sessions {
    pub fn new(
        db: Db,
        state: Arc<dyn StateStore>,
        replica: Arc<str>,
        pool: Pool,
        stream_quota: Arc<StreamQuota>,
    ) -> Self {
        let (known, backlogs, opened) = (DashMap::new(), Backlogs::default(), AtomicUsize::new(0));
        Self { db, state, known, replica, pool, backlogs, stream_quota, opened, forgotten: Mutex::default() }
    }

    /// Refuses another session of a caller with too many, or one with too large capabilities.
    fn may_open(&self, caller: &Caller, facts: &Facts) -> Result<(), Refusal> {
        let bytes = [&facts.capabilities, &facts.info].into_iter().flatten().map(|raw| raw.get().len());
        let bytes: usize = bytes.sum();
        if bytes > MAX_CLIENT_BYTES {
            let reason = format!(
                "capabilities and clientInfo have {bytes} bytes; at most {MAX_CLIENT_BYTES} are kept"
            );
            return Err(Refusal::new(Code::InvalidParams, reason));
        }
        let own = caller.principal();
        let open =
            self.known.iter().filter(|known| known.1.tenant == caller.tenant && known.1.principal == own);
        if open.count() >= MOST_SESSIONS {
            return Err(Refusal::new(
                Code::RateLimited,
                format!("this caller has {MOST_SESSIONS} sessions open"),
            )
            .rule("open sessions per caller and replica")
            .hint("end the ones that are not needed: DELETE with their Mcp-Session-Id"));
        }
        Ok(())
    }

    /// Begins a session, whose id is given to the client and not stored.
    pub async fn open(
        &self,
        caller: &Caller,
        endpoint: &Endpoint,
        facts: Facts,
    ) -> Result<(String, Arc<Session>), Refusal> {
        self.may_open(caller, &facts)?;
        let mut random = [0u8; 32];
        getrandom::fill(&mut random).expect("the system gives random bytes");
        let id = URL_SAFE_NO_PAD.encode(random);
        let hash = hash_of(&id);
        let stored = Stored {
            principal: caller.principal(),
            agent: caller.agent,
            endpoint: endpoint.key().to_owned(),
            opened: Timestamp::now().as_second(),
            facts,
        };
        let new = NewSession {
            id_hash: hash,
            principal: caller.principal(),
            endpoint: endpoint.key().to_owned(),
            facts: text(&stored),
            expires_at: expiry(),
        };
        self.db.tenant(caller.tenant).create_session(new).await.map_err(|error| {
            tracing::error!(error = error.detail(), "a session cannot be stored");
            error.refusal()
        })?;
        let session = self.keep(hash, caller.tenant, &stored).await;
        if self.opened.fetch_add(1, Ordering::Relaxed).is_multiple_of(COUNTED_EVERY) {
            self.sweep();
        }
        Ok((id, session))
    }

    /// Finds the caller's session at this endpoint.
    pub async fn find(&self, caller: &Caller, endpoint: &str, id: &str) -> Result<Arc<Session>, Refusal> {
        let hash = hash_of(id);
        let raw = match self.known(&hash) {
            // Without a shared state, no other replica can have changed the session.
            Some(session) if !self.state.is_shared() => return self.used(caller, endpoint, session).await,
            known => match (self.newest(caller.tenant, &hash).await, known) {
                (Ok(raw), _) => raw,
                (Err(refusal), Some(session)) if refusal.code != Code::SessionNotFound => {
                    // Neither the shared state nor the database answers.
                    tracing::debug!(reason = &*refusal.reason, "a session is found in memory only");
                    return self.used(caller, endpoint, session).await;
                }
                (Err(refusal), known) => {
                    // The session ended while this replica missed the notification.
                    known.is_some().then(|| self.forget(&hash));
                    return Err(refusal);
                }
            },
        };
        let known = self.known.get(&hash).filter(|known| known.0 == raw).map(|known| Arc::clone(&known.1));
        if let Some(session) = known {
            return self.used(caller, endpoint, session).await;
        }
        let stored: Stored = serde_json::from_slice(&raw).map_err(|error| {
            tracing::error!(%error, "a stored session cannot be read");
            gone()
        })?;
        if stored.principal != caller.principal() || stored.endpoint != endpoint {
            return Err(gone());
        }
        Ok(self.remember(hash, caller.tenant, raw, &stored))
    }

    /// Returns a known session, if it is this caller's at this endpoint, and notes its use.
    async fn used(
        &self,
        caller: &Caller,
        endpoint: &str,
        session: Arc<Session>,
    ) -> Result<Arc<Session>, Refusal> {
        let own = session.tenant == caller.tenant
            && session.principal == caller.principal()
            && session.endpoint.key() == endpoint;
        if !own {
            return Err(gone());
        }
        session.used.lock().here = Instant::now();
        self.prolong(&session, TOUCH).await;
        Ok(session)
    }

    /// Returns the stored session: the shared state is a cache of the database.
    async fn newest(&self, tenant: TenantId, hash: &SessionHash) -> Result<Bytes, Refusal> {
        if self.state.is_shared()
            && let Ok(Some(raw)) = self.state.get(&key(tenant, hash)).await
        {
            return Ok(raw);
        }
        self.stored(tenant, hash).await
    }

    /// Changes the stored facts of a session.
    pub async fn change(
        &self,
        caller: &Caller,
        endpoint: &Endpoint,
        session: &Session,
        change: impl FnOnce(&mut Facts) -> Result<(), Refusal>,
    ) -> Result<Arc<Session>, Refusal> {
        // Serialized: concurrent changes would lose each other.
        let _turn = session.state.changing.lock().await;
        let newest = self.known(&session.hash);
        let mut facts = newest.as_deref().unwrap_or(session).facts.clone();
        change(&mut facts)?;
        let stored = Stored {
            principal: caller.principal(),
            agent: caller.agent,
            endpoint: endpoint.key().to_owned(),
            opened: session.opened,
            facts,
        };
        let rows = self.db.tenant(caller.tenant);
        rows.update_session(&session.hash, &text(&stored), expiry()).await.map_err(|error| {
            tracing::warn!(error = error.detail(), "a session cannot be changed");
            gone()
        })?;
        Ok(self.keep(session.hash, caller.tenant, &stored).await)
    }

    /// Ends a session, here and for all replicas.
    pub async fn close(&self, session: &Session) -> Result<(), Refusal> {
        self.forget(&session.hash);
        let deleted = self.db.tenant(session.tenant).delete_session(&session.hash).await;
        let forgotten = match self.state.is_shared() {
            true => self.state.delete(&key(session.tenant, &session.hash)).await.map(drop),
            false => Ok(()),
        };
        deleted.map_err(|error| error.refusal())?;
        forgotten.map_err(Refusal::from)
    }

    /// Removes a session that ended, here or on another replica.
    pub fn forget(&self, hash: &SessionHash) {
        if let Some((_, (_, session))) = self.known.remove(hash) {
            session.state.end();
            // Upstreams of this session alone are not needed any more.
            self.pool.dismiss(session.client.owner);
        }
    }

    /// Returns the sessions of a tenant whose GET stream is read here.
    pub fn with_reader(&self, tenant: TenantId) -> Vec<Arc<Session>> {
        let read = |session: &Session| session.tenant == tenant && session.state.is_read();
        self.known.iter().filter(|known| read(&known.1)).map(|known| Arc::clone(&known.1)).collect()
    }

    /// Refuses all server requests, since no client can answer after shutdown.
    pub fn refuse_server_requests(&self) {
        let all: Vec<Arc<Session>> = self.known.iter().map(|known| Arc::clone(&known.1)).collect();
        all.iter().for_each(|session| session.state.refuse_server_requests());
    }

    /// Returns the tenants with a session whose GET stream is read here.
    pub fn tenants(&self) -> Vec<TenantId> {
        self.known.iter().filter(|known| known.1.state.is_read()).map(|known| known.1.tenant).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Reads a session again after a change by another replica.
    pub async fn renew(&self, session: &Session) {
        let raw = self.newest(session.tenant, &session.hash).await;
        if let Some(stored) = raw.as_ref().ok().and_then(|raw| serde_json::from_slice::<Stored>(raw).ok())
            && let Ok(raw) = raw
        {
            self.remember(session.hash, session.tenant, raw, &stored);
        }
    }

    /// Reads again the sessions with readers here, since notifications of other replicas may be lost.
    pub async fn renew_read(&self) {
        let read: Vec<Arc<Session>> = self
            .known
            .iter()
            .filter(|known| known.1.state.is_read() || known.1.state.get_stream.has_reader())
            .map(|known| Arc::clone(&known.1))
            .collect();
        for session in read {
            let stored = self.stored(session.tenant, &session.hash).await;
            match stored.map(|raw| (serde_json::from_slice::<Stored>(&raw), raw)) {
                Ok((Ok(stored), raw)) => drop(self.remember(session.hash, session.tenant, raw, &stored)),
                Err(refusal) if refusal.code == Code::SessionNotFound => self.forget(&session.hash),
                Ok((Err(_), _)) | Err(_) => {}
            }
        }
    }

    /// Returns a session that is in memory here.
    pub fn known(&self, hash: &SessionHash) -> Option<Arc<Session>> {
        self.known.get(hash).map(|known| Arc::clone(&known.1))
    }

    async fn keep(&self, hash: SessionHash, tenant: TenantId, stored: &Stored) -> Arc<Session> {
        let raw = Bytes::from(text(stored));
        if let Err(error) = self.share(tenant, &hash, &raw).await {
            tracing::debug!(%error, "a session is in the database only");
        }
        self.remember(hash, tenant, raw, stored)
    }

    /// Puts a stored session into the shared state, for all replicas.
    async fn share(&self, tenant: TenantId, hash: &SessionHash, raw: &Bytes) -> Result<(), StateError> {
        match self.state.is_shared() {
            true => self.state.put_copy(&key(tenant, hash), raw.clone(), COPIED).await,
            false => Ok(()),
        }
    }

    async fn stored(&self, tenant: TenantId, hash: &SessionHash) -> Result<Bytes, Refusal> {
        let found = self.db.tenant(tenant).find_session(hash).await.map_err(|error| error.refusal())?;
        let row = found.ok_or_else(gone)?;
        let raw = Bytes::from(row.facts);
        if let Err(error) = self.share(tenant, hash, &raw).await {
            tracing::debug!(%error, "a session is in the database only");
        }
        Ok(raw)
    }

    fn remember(&self, hash: SessionHash, tenant: TenantId, raw: Bytes, stored: &Stored) -> Arc<Session> {
        let state = match self.known.get(&hash) {
            Some(known) => Arc::clone(&known.1.state),
            None => {
                let (backlog, missed) = (self.backlogs.of(tenant), self.may_have_missed(stored));
                SessionState::new(Arc::clone(&self.replica), backlog, missed, &stored.facts.version)
            }
        };
        let facts = &stored.facts;
        let mut client = Client::new(Era::Legacy, facts.version.clone(), facts.capabilities.clone());
        client.info = facts.info.clone();
        client.level = facts.level.as_deref().and_then(Level::parse);
        client.owner = self::hash(&hash);
        client.home = Some(Arc::new(ClientChannel {
            state: Arc::downgrade(&state),
            stream: Arc::clone(&state.get_stream),
        }));
        let session = Arc::new(Session {
            hash,
            tenant,
            agent: stored.agent,
            opened: stored.opened,
            principal: stored.principal.clone(),
            endpoint: match stored.endpoint.parse() {
                Ok(slug) => Endpoint::One(slug),
                Err(_) => Endpoint::All,
            },
            client: Arc::new(client),
            facts: facts.clone(),
            state,
            used: Mutex::new(Used { here: Instant::now(), row: Instant::now() }),
        });
        let raw = if self.state.is_shared() { raw } else { Bytes::new() };
        self.known.insert(hash, (raw, Arc::clone(&session)));
        session
    }
}

fn gone() -> Refusal {
    Refusal::new(Code::SessionNotFound, "there is no such session for this caller at this endpoint")
        .hint("send initialize without an Mcp-Session-Id to begin a new one")
}

fn hash_of(id: &str) -> SessionHash {
    Sha256::digest(id.as_bytes()).into()
}
