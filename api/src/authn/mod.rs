//! Authentication of callers. A presented credential is always checked, and a bad one is refused, never
//! ignored: API key, then bearer token, then the trust in the connection itself. Nothing a proxy may forward
//! (`X-Forwarded-For` and its kin) is read.

mod again;
mod audience;
mod discovery;
mod header;
mod jwks;
mod keys;
pub mod oauth;
mod presented;
mod tokens;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum::http::HeaderMap;
use dashmap::DashMap;
use entity::{Changes, DEFAULT_TENANT, Db, DbError};
use ipnet::IpNet;
use jiff::Timestamp;
use protocol::{AgentId, Caller, CallerKind, Code, Refusal, Role, Scope, Scopes, TenantId};
use proxy::egress::Egress;
use tokio::sync::Semaphore;

use crate::authn::oauth::ResourceUri;
use crate::config;

pub use again::Owner;
pub use keys::NewKey;
pub use tokens::{IssuedToken, Secrets, TokenClaims};

/// Evidence of a caller: its address and its headers.
#[derive(Clone, Copy)]
pub struct Proof<'a> {
    /// Address of the TCP peer.
    pub peer: IpAddr,
    pub headers: &'a HeaderMap,
    /// The called endpoint, which a token's audience must name.
    pub resource: ResourceUri<'a>,
}

/// The caller of a credential, and the credential's expiry.
struct Identified {
    caller: Arc<Caller>,
    expires_at: Option<Timestamp>,
}

/// Authenticator, with caches that are valid until the registry changes.
pub struct Authn {
    db: Db,
    keys: keys::Keys,
    tokens: tokens::Tokens,
    trust: Trust,
    agents: DashMap<(TenantId, Box<str>), (AgentId, String)>,
    /// The caller of a trusted connection, without its agent.
    local: ArcSwapOption<Caller>,
    /// Permits of concurrent checks of open streams, which all become due when the registry changes.
    checks: Semaphore,
}

/// Most concurrent checks, few enough to leave the database to new requests.
const CHECKS_AT_ONCE: usize = 8;

/// Connections that need no credential, and their scopes.
struct Trust {
    /// True if the listener is bound to a loopback address.
    loopback: bool,
    networks: Vec<IpNet>,
    scopes: Option<Scopes>,
}

/// Most cached agents; others are looked up each time.
const AGENTS_REMEMBERED: usize = 100_000;

/// The agent of a trusted connection that names none.
const LOCAL_AGENT: &str = "local";

impl Authn {
    pub fn new(
        db: Db,
        auth: &config::Auth,
        secrets: tokens::Secrets,
        egress: Egress,
        loopback_only: bool,
    ) -> Self {
        let scopes = match auth.loopback_role {
            config::LoopbackRole::Operator => Some(Role::Operator.scopes()),
            config::LoopbackRole::TenantAdmin => Some(Role::TenantAdmin.scopes()),
            config::LoopbackRole::Agent => Some(Role::Agent.scopes()),
            config::LoopbackRole::None => None,
        };
        Self {
            keys: keys::Keys::new(db.clone()),
            tokens: tokens::Tokens::new(auth, secrets, egress),
            trust: Trust { loopback: loopback_only, networks: auth.trusted_networks.clone(), scopes },
            agents: DashMap::new(),
            local: ArcSwapOption::empty(),
            checks: Semaphore::new(CHECKS_AT_ONCE),
            db,
        }
    }

    /// Returns the caller, or the reason to refuse.
    pub async fn identify(&self, proof: &Proof<'_>) -> Result<Arc<Caller>, Refusal> {
        let presented = presented::read(proof.headers)?;
        let Identified { caller, .. } = self.by_credential(proof, &presented).await?;
        let caller = match presented.tenant {
            Some(tenant) => Box::pin(self.for_tenant(caller, tenant)).await?,
            None => caller,
        };
        match presented.agent {
            // A credential without its own agent is counted first; see `named`.
            Some(_) if caller.agent.is_none() && caller.kind != CallerKind::Loopback => Ok(caller),
            Some(agent) => self.as_agent(caller, agent).await,
            None if caller.kind == CallerKind::Loopback => self.as_agent(caller, LOCAL_AGENT).await,
            None => Ok(caller),
        }
    }

    /// Returns the caller as the agent of `X-Agent-Id`. Comes after the rate limit, since it may create one.
    pub async fn named(&self, caller: Arc<Caller>, proof: &Proof<'_>) -> Result<Arc<Caller>, Refusal> {
        if caller.agent.is_some() {
            return Ok(caller);
        }
        match presented::read(proof.headers)?.agent {
            Some(agent) => self.as_agent(caller, agent).await,
            None => Ok(caller),
        }
    }

    /// Returns the caller as the agent that a body names, by the rules of `X-Agent-Id`.
    pub async fn speaking_as(
        &self,
        caller: Arc<Caller>,
        agent: Option<&str>,
    ) -> Result<Arc<Caller>, Refusal> {
        match agent {
            None => Ok(caller),
            Some(agent)
                if caller.agent_slug.as_deref() == Some(LOCAL_AGENT)
                    && caller.kind == CallerKind::Loopback =>
            {
                let nameless = Caller { agent: None, agent_slug: None, ..Caller::clone(&caller) };
                self.as_agent(Arc::new(nameless), agent).await
            }
            Some(agent) => self.as_agent(caller, agent).await,
        }
    }

    /// Issues a token of this gateway. The caller must be allowed to grant the token's scopes.
    pub fn issue(&self, claims: TokenClaims) -> Result<IssuedToken, Refusal> {
        self.tokens.issue(claims)
    }

    /// Makes a new API key; only its hash is kept.
    pub fn new_key() -> NewKey {
        keys::generate()
    }

    /// Forgets the callers of the tenants that changes affect.
    pub fn forget(&self, changes: &Changes) {
        self.keys.forget(changes);
        self.tokens.forget(changes);
        self.agents.retain(|(tenant, _), _| !changes.affect(*tenant));
        if self.local.load().as_ref().is_some_and(|caller| changes.affect(caller.tenant)) {
            self.local.store(None);
        }
    }

    /// Writes the times of last use of keys to the database.
    pub async fn touch(&self) -> Result<(), DbError> {
        self.keys.touch().await
    }

    /// Finds the caller of the presented credential, before it names a tenant or an agent.
    async fn by_credential(
        &self,
        proof: &Proof<'_>,
        presented: &presented::Presented<'_>,
    ) -> Result<Identified, Refusal> {
        match (presented.key, presented.token) {
            (Some(key), None) => self.keys.find(key).await,
            // Boxed, since streams would reserve the space for a rare case.
            (None, Some(token)) => Box::pin(self.by_token(token, proof.resource)).await,
            (Some(key), Some(token)) => {
                let key = self.keys.find(key).await?;
                let token = Box::pin(self.by_token(token, proof.resource)).await?;
                let ends = [key.expires_at, token.expires_at];
                let expires_at = ends.into_iter().flatten().min();
                Ok(Identified { caller: both(&key.caller, &token.caller)?, expires_at })
            }
            (None, None) => {
                let caller = self.by_connection(proof.peer).await?;
                Ok(Identified { caller, expires_at: None })
            }
        }
    }

    async fn by_token(&self, token: &str, resource: ResourceUri<'_>) -> Result<Identified, Refusal> {
        if let Some(known) = self.tokens.known(token, resource) {
            return Ok(known);
        }
        let claims = self.tokens.verify(token, resource).await?;
        let operator = self.db.operator();
        let tenant = match &claims.tenant {
            Some(tenant) => match tenant.parse::<TenantId>() {
                Ok(id) => operator.find_tenant(id).await,
                Err(_) => operator.find_tenant_by_slug(tenant).await,
            }
            .map_err(|error| unless_missing(error, "the token names a tenant that does not exist"))?,
            None => operator.only_tenant().await.map_err(|error| error.refusal())?.ok_or_else(|| {
                Refusal::new(Code::InvalidCredential, "the token names no tenant, and there is more than one")
                    .hint("put the tenant's slug or id into the claim `tenant`")
            })?,
        };
        let (agent, agent_slug) = self.agent(tenant.id, &claims.agent).await?;
        let caller = Arc::new(Caller {
            tenant: tenant.id,
            tenant_slug: tenant.slug,
            agent: Some(agent),
            agent_slug: Some(agent_slug),
            own_agent: true,
            credential: None,
            kind: CallerKind::Jwt,
            scopes: claims.scopes,
        });
        self.tokens.remember(token, claims.expires_at, claims.audience, &caller);
        Ok(Identified { caller, expires_at: Some(claims.expires_at) })
    }

    async fn by_connection(&self, peer: IpAddr) -> Result<Arc<Caller>, Refusal> {
        let peer = peer.to_canonical();
        let trusted = (self.trust.loopback && peer.is_loopback())
            || self.trust.networks.iter().any(|network| network.contains(&peer));
        let scopes = self.trust.scopes.filter(|_| trusted).ok_or_else(|| {
            Refusal::new(
                Code::Unauthenticated,
                "no credential was presented, and this connection is not trusted",
            )
            .hint("send an API key as X-MCP-Key, or a token as Authorization: Bearer")
        })?;
        if let Some(caller) = self.local.load_full() {
            return Ok(caller);
        }
        let tenant = Box::pin(self.db.operator().find_tenant_by_slug(DEFAULT_TENANT)).await;
        let tenant = tenant.map_err(|error| unless_missing(error, "there is no tenant `default`"))?;
        let caller = Arc::new(Caller {
            tenant: tenant.id,
            tenant_slug: tenant.slug,
            agent: None,
            agent_slug: None,
            own_agent: false,
            credential: None,
            kind: CallerKind::Loopback,
            scopes,
        });
        self.local.store(Some(Arc::clone(&caller)));
        Ok(caller)
    }

    /// Lets an operator act for the tenant that `X-Tenant-Id` names.
    async fn for_tenant(&self, caller: Arc<Caller>, tenant: &str) -> Result<Arc<Caller>, Refusal> {
        if tenant == caller.tenant_slug || tenant.parse().is_ok_and(|id: TenantId| id == caller.tenant) {
            return Ok(caller);
        }
        if !caller.scopes.contains(Scope::TenantsAdmin) {
            return Err(Refusal::new(
                Code::TenantMismatch,
                "X-Tenant-Id names another tenant than the caller's own",
            )
            .rule("scope tenants:admin")
            .hint("only an operator acts for other tenants; leave the header out"));
        }
        let operator = self.db.operator();
        let tenant = match tenant.parse::<TenantId>() {
            Ok(id) => operator.find_tenant(id).await,
            Err(_) => operator.find_tenant_by_slug(tenant).await,
        }
        .map_err(|error| match error {
            DbError::NotFound => Refusal::new(Code::NotFound, "X-Tenant-Id names no tenant"),
            other => other.refusal(),
        })?;
        let acting = Caller {
            tenant: tenant.id,
            tenant_slug: tenant.slug,
            agent: None,
            agent_slug: None,
            own_agent: false,
            ..Caller::clone(&caller)
        };
        Ok(Arc::new(acting))
    }

    /// Applies `X-Agent-Id` to callers without an agent; a caller with one may name only that.
    async fn as_agent(&self, caller: Arc<Caller>, agent: &str) -> Result<Arc<Caller>, Refusal> {
        if let Some(own) = caller.agent {
            let same = caller.agent_slug.as_deref() == Some(agent)
                || agent.parse().is_ok_and(|id: AgentId| id == own);
            return if same {
                Ok(caller)
            } else {
                Err(mismatch("X-Agent-Id names another agent than the credential's own"))
            };
        }
        let (id, slug) = self.agent(caller.tenant, agent).await?;
        Ok(Arc::new(Caller { agent: Some(id), agent_slug: Some(slug), ..Caller::clone(&caller) }))
    }

    /// Finds an agent by id, or by slug and creates it at its first use.
    async fn agent(&self, tenant: TenantId, name: &str) -> Result<(AgentId, String), Refusal> {
        let key = (tenant, Box::from(name));
        if let Some(known) = self.agents.get(&key) {
            return Ok(known.clone());
        }
        let rows = self.db.tenant(tenant);
        let agent = match name.parse::<AgentId>() {
            Ok(id) => Box::pin(rows.find_agent(id)).await.map_err(|error| match error {
                DbError::NotFound => mismatch("there is no agent of this id"),
                other => other.refusal(),
            }),
            Err(_) if !entity::is_agent_slug(name) => {
                Err(Refusal::new(Code::BadRequest, "an agent's name is 1 to 64 of A-Z a-z 0-9 _ . : @ -"))
            }
            Err(_) => Box::pin(rows.ensure_agent(name)).await.map_err(|error| error.refusal()),
        }?;
        if self.agents.len() >= AGENTS_REMEMBERED {
            self.agents.clear();
        }
        self.agents.insert(key, (agent.id, agent.slug.clone()));
        Ok((agent.id, agent.slug))
    }
}

/// Combines two credentials of one tenant: both must allow a scope.
fn both(key: &Arc<Caller>, token: &Arc<Caller>) -> Result<Arc<Caller>, Refusal> {
    if key.tenant != token.tenant {
        return Err(Refusal::new(
            Code::InvalidCredential,
            "the API key and the token name different tenants",
        )
        .hint("send one of them"));
    }
    if let (Some(one), Some(other)) = (key.agent, token.agent)
        && one != other
    {
        return Err(Refusal::new(Code::InvalidCredential, "the API key and the token name different agents")
            .hint("send one of them"));
    }
    let scopes = key.scopes.iter().filter(|scope| token.scopes.contains(*scope)).collect();
    Ok(Arc::new(Caller {
        agent: key.agent.or(token.agent),
        agent_slug: key.agent_slug.clone().or_else(|| token.agent_slug.clone()),
        own_agent: true,
        scopes,
        ..Caller::clone(key)
    }))
}

fn mismatch(reason: &'static str) -> Refusal {
    Refusal::new(Code::AgentMismatch, reason)
        .rule("header X-Agent-Id")
        .hint("leave the header out, or use the agent's own key")
}

fn unless_missing(error: DbError, reason: &'static str) -> Refusal {
    match error {
        DbError::NotFound => Refusal::new(Code::InvalidCredential, reason),
        other => other.refusal(),
    }
}

/// Longest time for which a verified token or key is cached.
const BELIEVED: Duration = Duration::from_secs(60);
