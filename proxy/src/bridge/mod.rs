//! Between the eras: a client of either era is served by an upstream of either era. Where they speak
//! the same one, messages pass as they are; where they do not, this module says the same thing in the
//! other one's words. It knows no HTTP and no session, only what a client speaks and declared.
//!
//! | What | Where |
//! | --- | --- |
//! | 1 handshake | [`handshake`] |
//! | 2 what every request says of its client, 5 declared capabilities | [`meta`], [`client`] |
//! | 3 results, 18 schemas | [`results`] |
//! | 4 elicitation, sampling, roots, 12 elicitation by URL | [`questions`] for a legacy client, [`parked`] for a modern one |
//! | 6 changes, 8 ping, 13 tasks, 14 batches, 15 sessions | the api room: they belong to no single request |
//! | 7 log messages, 9 progress | [`hearing`] |
//! | 10 cancellation | dropping [`Bridge::deliver`] cancels at the upstream, in either era |
//! | 11 errors | [`errors`] |
//! | 16 headers from parameters | the http upstream |
//! | 17 whose upstream it is | [`client`], [`lanes`] |

pub mod client;
pub mod errors;
pub mod handshake;
mod hearing;
mod lanes;
pub mod meta;
mod parked;
mod patience;
mod questions;
pub mod results;

use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use protocol::mcp::{Era, method};
use protocol::{Code, Refusal, ServerId, TenantId};
use serde_json::value::RawValue;
use tokio_util::task::TaskTracker;

use crate::pool::{Delivered, Pool, PoolKey};
use crate::server::{Launch, ServerSpec};
use crate::upstream::{ClientProfile, Listener, UpstreamAnswer, UpstreamRequest};

pub use client::{Abilities, Client, Level};
pub use lanes::is_lane;

use hearing::Hearing;
use lanes::Lanes;
use meta::Prepared;
use parked::Parked;
use patience::Patience;

/// How long a client may take to answer all questions of one call together.
const QUESTIONS_WITHIN: Duration = Duration::from_secs(600);

/// Beyond this many upstreams, what was noted of those that do not run is forgotten.
const MANY: usize = 4096;

/// All that goes to upstreams for a client goes through here. Cheap to clone.
#[derive(Clone)]
pub struct Bridge {
    pool: Pool,
    shared: Arc<Shared>,
}

struct Shared {
    lanes: Lanes,
    parked: Parked,
    tasks: TaskTracker,
    /// Upstreams that were told to log everything, and at which of their starts.
    talkative: DashMap<PoolKey, u64>,
    /// Name and version of servers, by revision.
    infos: DashMap<(ServerId, i32), Arc<RawValue>>,
}

/// One request of a client.
pub struct Errand<'a> {
    pub client: &'a Arc<Client>,
    pub method: &'a str,
    /// The raw object, with the upstream's own names in it.
    pub params: crate::upstream::Params<'a>,
    /// Whether `params` has what must be looked at: `_meta`, `requestState` or `inputResponses`.
    pub marked: bool,
    /// How long the upstream may take, the client's own time for answers not counted.
    pub timeout: Duration,
    /// Who hears and is asked meanwhile; none where the door has no way to say anything but the answer.
    pub voice: Option<Arc<dyn Listener>>,
    /// Seals what must come back unchanged from this client, for this request, in time.
    pub sealer: &'a dyn Sealer,
    /// HTTP headers that the parameters demand (`Mcp-Param-*`), for an upstream behind HTTP.
    pub headers: &'a [(String, String)],
}

/// Seals a text for one caller, server and request, for a limited time.
pub trait Sealer: Send + Sync {
    fn seal(&self, text: &str) -> String;

    /// # Errors
    /// A refusal if it was sealed for somebody or something else, is too old, or was changed.
    fn open(&self, sealed: &str) -> Result<String, Refusal>;
}

impl Bridge {
    pub fn new(pool: Pool) -> Self {
        let shared = Shared {
            lanes: Lanes::default(),
            parked: Parked::default(),
            tasks: TaskTracker::new(),
            talkative: DashMap::new(),
            infos: DashMap::new(),
        };
        Self { pool, shared: Arc::new(shared) }
    }

    /// The key of the upstream that serves this client, as far as it is known in which eras the server
    /// speaks: for lists and names, and for what belongs to no call.
    pub fn key(&self, tenant: TenantId, spec: &ServerSpec, client: &Client) -> PoolKey {
        let era = self.era(spec, client.era);
        let shared = PoolKey::shared(tenant, spec, era);
        if era == Era::Modern || !client.can.anything() || matches!(spec.launch, Launch::Builtin { .. }) {
            return shared;
        }
        let key = PoolKey { declared: client.declared, owner: client.owner, ..shared };
        self.set_profile(&key, client);
        key
    }

    /// As [`Bridge::key`] for a list of many servers: those that this client alone is served by are not
    /// started only to be listed.
    pub fn list_key(&self, tenant: TenantId, spec: &ServerSpec, client: &Client) -> PoolKey {
        let own = self.key(tenant, spec, client);
        if own.owner == 0 || self.pool.is_running(&own) {
            return own;
        }
        let key = PoolKey { owner: 0, ..own };
        self.set_profile(&key, client);
        key
    }

    /// Finds out in which eras a server speaks, if that is not known.
    pub async fn settle_eras(
        &self,
        tenant: TenantId,
        spec: &Arc<ServerSpec>,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        match self.pool.known_eras(spec) {
            Some(_) => Ok(()),
            None => self.pool.eras(tenant, spec, deadline).await.map(drop),
        }
    }

    fn era(&self, spec: &ServerSpec, wanted: Era) -> Era {
        match spec.launch {
            // What is built in never asks back and says everything in legacy words.
            Launch::Builtin { .. } => Era::Legacy,
            // What could not be found out is spoken to as most are.
            _ => self.pool.known_eras(spec).map_or(Era::Legacy, |eras| eras.nearest(wanted)),
        }
    }

    fn set_profile(&self, key: &PoolKey, client: &Client) {
        if self.pool.has_profile(key) {
            return;
        }
        let Some(capabilities) = &client.capabilities else { return };
        let alone = key.owner != 0;
        self.pool.set_profile(
            key,
            Arc::new(ClientProfile {
                capabilities: if alone { capabilities.clone() } else { client.can.to_capabilities() },
                info: client.info.clone().filter(|_| alone),
                listener: client.home.clone().filter(|_| alone),
            }),
        );
    }

    /// Sends a client's request to a server and gives the answer in the client's era.
    pub async fn deliver(
        &self,
        tenant: TenantId,
        spec: &Arc<ServerSpec>,
        errand: Errand<'_>,
    ) -> Result<Delivered, Refusal> {
        let key = match is_list(errand.method) {
            true => self.list_key(tenant, spec, errand.client),
            false => self.key(tenant, spec, errand.client),
        };
        match (errand.client.era, key.era) {
            (Era::Legacy, Era::Legacy) => self.same(&key, spec, &errand).await,
            (Era::Modern, Era::Modern) => {
                let (sealer, asked) = (errand.sealer, errand.method);
                let delivered = self.same(&key, spec, &errand).await?;
                Ok(delivered.map_result(|result| results::own(asked, results::seal_state(result, sealer))))
            }
            (Era::Legacy, Era::Modern) => {
                let delivered = questions::asked_and_answered(self, &key, spec, &errand).await?;
                Ok(delivered.map_answer(|answer| match answer {
                    UpstreamAnswer::Result(result) => {
                        UpstreamAnswer::Result(results::to_legacy(errand.method, result))
                    }
                    UpstreamAnswer::Error(error) => UpstreamAnswer::Error(errors::to_legacy(error)),
                }))
            }
            (Era::Modern, Era::Legacy) => {
                let delivered = parked::parked_or_answered(self, key, spec, &errand).await?;
                let server = self.said_of_itself(&key);
                Ok(delivered.map_answer(|answer| match answer {
                    UpstreamAnswer::Result(result) => {
                        UpstreamAnswer::Result(results::to_modern(errand.method, result, server.as_deref()))
                    }
                    UpstreamAnswer::Error(error) => errors::to_modern(errand.client, error),
                }))
            }
        }
    }

    /// Tells a legacy upstream how much it is to log: for one client alone as it says, for all as much as
    /// there is, since each client gets only what it wants (row 7). One that does not run is not told.
    pub async fn set_level(&self, tenant: TenantId, spec: &Arc<ServerSpec>, client: &Client, level: Level) {
        let key = self.key(tenant, spec, client);
        if key.era == Era::Legacy
            && self.pool.is_running(&key)
            && !matches!(spec.launch, Launch::Builtin { .. })
        {
            let level = if key.owner == 0 { Level::Debug } else { level };
            self.tell_level(&key, spec, level).await;
        }
    }

    /// The answer does not matter: a server without log messages has none.
    async fn tell_level(&self, key: &PoolKey, spec: &Arc<ServerSpec>, level: Level) {
        let params = format!(r#"{{"level":"{}"}}"#, level.as_str());
        let deadline = Instant::now() + Duration::from_secs(2);
        let request = UpstreamRequest::new(
            method::SET_LEVEL,
            crate::upstream::Params::raw(params.as_bytes()),
            deadline,
        );
        if let Err(refusal) = self.pool.request(key, spec, request).await {
            tracing::debug!(%refusal, "an upstream's log level cannot be set");
        }
    }

    /// One request, with what the client's `_meta` must say to this upstream.
    async fn same(
        &self,
        key: &PoolKey,
        spec: &Arc<ServerSpec>,
        errand: &Errand<'_>,
    ) -> Result<Delivered, Refusal> {
        if errand.client.level.is_some() && errand.client.era == Era::Modern && key.era == Era::Legacy {
            self.hear_everything(key, spec).await;
        }
        let prepared = meta::prepare(errand, key.era)?;
        let params = prepared.params(errand);
        let Some(voice) = &errand.voice else {
            let deadline = Instant::now() + errand.timeout;
            let request = UpstreamRequest {
                headers: errand.headers,
                ..UpstreamRequest::new(errand.method, params, deadline)
            };
            return self.pool.request(key, spec, request).await;
        };
        let patience = Arc::new(Patience::new(errand.timeout));
        let progress = prepared.progress.as_ref().map(|progress| progress.0);
        let hearing: Arc<dyn Listener> = Arc::new(Hearing {
            client: errand.client.clone(),
            voice: voice.clone(),
            progress: prepared.progress.clone(),
            patience: patience.clone(),
        });
        let request = UpstreamRequest {
            method: errand.method,
            params,
            deadline: Instant::now() + errand.timeout + QUESTIONS_WITHIN,
            listener: Some(&hearing),
            progress,
            headers: errand.headers,
        };
        tokio::select! {
            biased;
            delivered = self.pool.request(key, spec, request) => delivered,
            () = patience.run_out() => Err(late(spec, errand.timeout)),
        }
    }

    /// Name and version of the server, as one of its upstreams said at its start.
    fn said_of_itself(&self, key: &PoolKey) -> Option<Arc<RawValue>> {
        let server = (key.server, key.revision);
        if let Some(known) = self.shared.infos.get(&server) {
            return Some(known.clone());
        }
        let running = self.pool.any_running(key.tenant, key.server)?;
        let info: Arc<RawValue> = handshake::server_info(&running.result)?.into();
        if self.shared.infos.len() >= MANY {
            self.shared.infos.clear();
        }
        self.shared.infos.insert(server, info.clone());
        Some(info)
    }

    /// Has a legacy upstream log all there is, once after each of its starts, for a client that wants
    /// some of it (row 7): each client gets only what it asked for.
    async fn hear_everything(&self, key: &PoolKey, spec: &Arc<ServerSpec>) {
        let Some(running) = self.pool.running(key) else { return };
        if self.shared.talkative.len() >= MANY {
            self.shared.talkative.retain(|key, _| self.pool.is_running(key));
        }
        if self.shared.talkative.insert(*key, running.generation) != Some(running.generation) {
            self.tell_level(key, spec, Level::Debug).await;
        }
    }

    /// Calls that wait for answers which cannot come any more are cancelled.
    pub fn give_up_parked(&self) {
        self.shared.parked.clear();
    }

    /// Ends what waits for answers that will not come any more.
    pub async fn shutdown(&self) {
        self.shared.parked.clear();
        self.shared.tasks.close();
        tokio::time::timeout(Duration::from_secs(2), self.shared.tasks.wait()).await.ok();
    }
}

fn late(spec: &ServerSpec, timeout: Duration) -> Refusal {
    let reason = format!("`{}` did not answer within {} ms", spec.slug, timeout.as_millis());
    Refusal::new(Code::TimedOut, reason)
}

/// What is answered alike by all upstreams of a server, unless one serves this client alone already.
fn is_list(asked: &str) -> bool {
    matches!(
        asked,
        method::TOOLS_LIST
            | method::PROMPTS_LIST
            | method::RESOURCES_LIST
            | method::RESOURCE_TEMPLATES_LIST
            | method::COMPLETE
    )
}

/// The methods that may be answered by questions (2026-07-28, basic/patterns/mrtr).
pub fn may_ask(asked: &str) -> bool {
    matches!(asked, method::TOOLS_CALL | method::PROMPTS_GET | method::RESOURCES_READ)
}

impl Prepared {
    fn params<'a>(&'a self, errand: &Errand<'a>) -> crate::upstream::Params<'a> {
        match &self.edited {
            Some(edited) => crate::upstream::Params::raw(edited.as_bytes()),
            None => errand.params,
        }
    }
}
