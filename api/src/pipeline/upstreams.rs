//! Upstreams of tenants: names resolved to servers, servers selected for a caller, and their catalog.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use protocol::{Code, Refusal, TenantId};
use proxy::bridge::{Bridge, Client};
use proxy::catalog::{Catalog, ListKind, Listing};
use proxy::policy::Policy;
use proxy::pool::Pool;
use proxy::route::{Name, Route, find_server};
use proxy::selected::Selected;
use proxy::server::ServerSpec;
use proxy::upstream::Initialized;

use crate::mcp::context::Context;
use crate::mcp::request::Call;
use crate::mcp::tasks::Tasks;
use crate::pipeline::directory::Directory;
use crate::subscriptions::replica_interest::ReplicaInterest;

pub struct Upstreams {
    pub directory: Arc<Directory>,
    pub catalog: Arc<Catalog>,
    pub bridge: Bridge,
    pub pool: Pool,
    /// Resources that streams of other replicas are subscribed to.
    pub interest: Arc<ReplicaInterest>,
    /// Time for one server to answer a list of all servers.
    pub list_timeout: Duration,
}

/// A list, with the time since its request if it is not up to date, and the reason if the server runs.
pub struct Listed {
    pub listing: Arc<Listing>,
    pub age: Option<SignedDuration>,
    pub failure: Option<Refusal>,
}

impl Upstreams {
    /// Finds the server of a call, and the config rows that apply to its caller.
    ///
    /// # Errors
    /// A refusal where no server that the caller can see has the name.
    pub async fn resolve(
        &self,
        tasks: &Tasks,
        context: Context<'_>,
        call: &Call<'_>,
    ) -> Result<Route, Refusal> {
        let (caller, client) = (context.caller, &context.protocol.client);
        let view = self.directory.view(caller.tenant).await?;
        let server;
        let name = match call.name() {
            Ok(name) => name,
            Err(task) => {
                server = tasks.server(context, task).await?;
                Name::Direct { server: server.as_str(), name: "" }
            }
        };
        let key = |spec: &ServerSpec| self.bridge.list_key(view.tenant, spec, client);
        let route = self.catalog.resolve(&view, caller.agent, call.verb, name, key)?;
        self.directory.note_use(view.tenant, route.policy.spec.id);
        Ok(route)
    }

    /// Returns a list of a server: the known one, else the server's answer, else the last one.
    pub async fn list(
        &self,
        tenant: TenantId,
        policy: &Policy,
        client: &Client,
        kind: ListKind,
        deadline: Instant,
    ) -> Result<Listed, Refusal> {
        let known = self.bridge.select_known(tenant, policy, client)?;
        if let Some(listed) = self.known_list(&known, kind) {
            return Ok(listed);
        }
        let answer = in_time(deadline, policy, async {
            let selected = self.bridge.select(tenant, policy, client, deadline).await?;
            let listing = self.catalog.list(&selected, kind, deadline).await?;
            Ok(Listed { age: self.catalog.age(&selected, &listing), listing, failure: None })
        });
        let refusal = match answer.await {
            Ok(listed) => return Ok(listed),
            Err(refusal) => refusal,
        };
        match self.catalog.last(&known.list_key(), kind) {
            Some(listing) => {
                let age = self.catalog.age(&known, &listing);
                Ok(Listed { age, listing, failure: Some(refusal) })
            }
            None => Err(refusal),
        }
    }

    /// Returns a list as far as it is known without a request.
    pub fn known_list(&self, known: &Selected, kind: ListKind) -> Option<Listed> {
        let listing = self.catalog.known(&known.list_key(), kind)?;
        let age = self.catalog.age(known, &listing);
        if let Some(age) = age {
            self.catalog.want(known, age);
        }
        Some(Listed { listing, age, failure: None })
    }

    /// Returns the handshake of an endpoint's server: the last one of a server that does not run, which is
    /// started if it has none.
    pub async fn initialized(
        &self,
        context: Context<'_>,
        client: &Client,
        slug: &str,
    ) -> Result<Arc<Initialized>, Refusal> {
        let view = self.directory.view(context.caller.tenant).await?;
        let policy = find_server(&view, slug)?.policy(context.caller.agent);
        let known = self.bridge.select_known(view.tenant, &policy, client)?;
        if let Some(handshake) = self.catalog.known_handshake(&known) {
            return Ok(handshake);
        }
        let deadline = Instant::now() + policy.spec.start_timeout.value;
        let selected = self.bridge.select(view.tenant, &policy, client, deadline).await?;
        self.pool.initialized(&selected, deadline).await
    }
}

/// Bounds the wait for a server, which may have to be started first.
async fn in_time(
    deadline: Instant,
    policy: &Policy,
    listing: impl Future<Output = Result<Listed, Refusal>>,
) -> Result<Listed, Refusal> {
    let limit = deadline.saturating_duration_since(Instant::now());
    tokio::time::timeout_at(deadline.into(), listing).await.unwrap_or_else(|_| {
        let reason = format!("server `{}` did not answer within {} ms", policy.spec.slug, limit.as_millis());
        Err(Refusal::new(Code::TimedOut, reason).hint("it may still be starting; list again in a moment"))
    })
}
