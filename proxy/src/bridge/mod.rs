//! Bridge between the eras: serves a client of either era by an upstream of either era. Messages within one era
//! pass unchanged; this module translates the others, without knowledge of HTTP and sessions.
//!
//! | Row | Module |
//! | --- | --- |
//! | 1 handshake | [`handshake`] |
//! | 2 `_meta` of requests, 5 declared capabilities | [`meta`], [`client`] |
//! | 3 results, 18 schemas | [`results`] |
//! | 4 elicitation, sampling, roots, 12 elicitation by URL | [`input_rounds`] for a legacy client, [`pending_input`] for a modern one |
//! | 6 changes, 8 ping, 13 tasks, 14 batches, 15 sessions | crate `api`: they belong to no single request |
//! | 7 log messages, 9 progress | [`call_listener`] |
//! | 10 cancellation | dropping [`Bridge::deliver`] cancels at the upstream, in either era |
//! | 11 errors | [`errors`] |
//! | 16 headers from parameters | the http upstream |
//! | 17 owner of an upstream | [`client`], [`exclusive_slots`] |

mod call_listener;
pub mod client;
pub mod errors;
mod exclusive_slots;
pub mod handshake;
mod input_rounds;
pub mod meta;
mod pausable_deadline;
mod pending_input;
pub mod results;
mod select;

use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use protocol::mcp::{Era, method};
use protocol::{Caller, Code, Refusal, ServerId};
use serde_json::value::RawValue;
use tokio_util::task::TaskTracker;

use crate::pool::{Delivered, Pool, PoolKey};
use crate::selected::Selected;
use crate::server::{Launch, ServerSpec};
use crate::upstream::{Listener, UpstreamAnswer, UpstreamRequest};

pub use client::{Abilities, Client, Level};
pub use exclusive_slots::is_slot_of;

use call_listener::CallListener;
use exclusive_slots::ExclusiveSlots;
use meta::Prepared;
use pausable_deadline::PausableDeadline;
use pending_input::PendingInput;

/// Time for a client to answer all input requests of one call together.
const QUESTIONS_WITHIN: Duration = Duration::from_secs(600);

/// The number of upstreams above which notes on those that do not run are dropped.
const MANY: usize = 4096;

/// Delivery of all client requests to upstreams. Cheap to clone.
#[derive(Clone)]
pub struct Bridge {
    pool: Pool,
    shared: Arc<Shared>,
}

struct Shared {
    slots: ExclusiveSlots,
    pending: PendingInput,
    tasks: TaskTracker,
    /// Upstreams set to log everything, with the number of their start.
    talkative: DashMap<PoolKey, u64>,
    /// Name and version of servers, by revision.
    infos: DashMap<(ServerId, i32), Arc<RawValue>>,
}

/// One request of a client.
pub struct UpstreamCall<'a> {
    pub client: &'a Arc<Client>,
    pub method: &'a str,
    /// The raw object, with the upstream's own names.
    pub params: crate::upstream::Params<'a>,
    /// True if `params` has `_meta`, `requestState` or `inputResponses`.
    pub has_meta: bool,
    /// Time for the upstream, the client's time for answers excluded.
    pub timeout: Duration,
    /// Receiver of notifications and requests; `None` if the client's transport carries only the answer.
    pub client_channel: Option<Arc<dyn Listener>>,
    /// Seals `requestState` for this client, request and time.
    pub sealer: &'a dyn Sealer,
    /// HTTP headers of parameters (`Mcp-Param-*`), for an upstream over HTTP.
    pub headers: &'a [(String, String)],
    /// The sender, for a built-in server.
    pub caller: Option<&'a Caller>,
    /// As in [`UpstreamRequest`].
    pub retries: Option<u8>,
}

/// Seals a text for one caller, server and request, for a limited time.
pub trait Sealer: Send + Sync {
    fn seal(&self, text: &str) -> String;

    /// # Errors
    /// A refusal if the text is sealed for another caller or request, expired, or changed.
    fn open(&self, sealed: &str) -> Result<String, Refusal>;
}

impl Bridge {
    pub fn new(pool: Pool) -> Self {
        let shared = Shared {
            slots: ExclusiveSlots::default(),
            pending: PendingInput::default(),
            tasks: TaskTracker::new(),
            talkative: DashMap::new(),
            infos: DashMap::new(),
        };
        Self { pool, shared: Arc::new(shared) }
    }

    /// Sends a client's request to a server and returns the answer in the client's era.
    pub async fn deliver(&self, selected: &Selected, call: UpstreamCall<'_>) -> Result<Delivered, Refusal> {
        let spec = &selected.spec;
        let key = if is_list(call.method) { selected.list_key } else { selected.key };
        match (call.client.era, key.era) {
            (Era::Legacy, Era::Legacy) => self.same(&key, spec, &call).await,
            (Era::Modern, Era::Modern) => {
                let (sealer, asked) = (call.sealer, call.method);
                let delivered = self.same(&key, spec, &call).await?;
                Ok(delivered.map_result(|result| results::own(asked, results::seal_state(result, sealer))))
            }
            (Era::Legacy, Era::Modern) => {
                let delivered = input_rounds::answered_with_input(self, &key, spec, &call).await?;
                Ok(delivered.map_answer(|answer| match answer {
                    UpstreamAnswer::Result(result) => {
                        UpstreamAnswer::Result(results::to_legacy(call.method, result))
                    }
                    UpstreamAnswer::Error(error) => UpstreamAnswer::Error(errors::to_legacy(error)),
                }))
            }
            (Era::Modern, Era::Legacy) => {
                let delivered = pending_input::answered_or_pending(self, key, spec, &call).await?;
                let server = self.server_info_of(&key);
                Ok(delivered.map_answer(|answer| match answer {
                    UpstreamAnswer::Result(result) => {
                        UpstreamAnswer::Result(results::to_modern(call.method, result, server.as_deref()))
                    }
                    UpstreamAnswer::Error(error) => errors::to_modern(call.client, error),
                }))
            }
        }
    }

    /// Sets the log level of a running legacy upstream: the client's level if it has the upstream alone, else
    /// the lowest, since each client gets only the levels it wants (row 7).
    pub async fn set_level(&self, selected: &Selected, level: Level) {
        let Selected { key, spec, .. } = selected;
        if key.era == Era::Legacy
            && self.pool.is_running(key)
            && !matches!(spec.launch, Launch::Builtin { .. })
        {
            let level = if key.owner == 0 { Level::Debug } else { level };
            self.tell_level(key, spec, level).await;
        }
    }

    /// Sends `logging/setLevel`, without regard to errors.
    async fn tell_level(&self, key: &PoolKey, spec: &Arc<ServerSpec>, level: Level) {
        let params = format!(r#"{{"level":"{}"}}"#, level.as_str());
        let deadline = Instant::now() + Duration::from_secs(2);
        let request = UpstreamRequest::new(
            method::SET_LEVEL,
            crate::upstream::Params::raw(params.as_bytes()),
            deadline,
        );
        if let Err(refusal) = self.pool.send(key, spec, request).await {
            tracing::debug!(%refusal, "an upstream's log level cannot be set");
        }
    }

    /// Sends one request, with the client's `_meta` for an upstream of that era.
    async fn same(
        &self,
        key: &PoolKey,
        spec: &Arc<ServerSpec>,
        call: &UpstreamCall<'_>,
    ) -> Result<Delivered, Refusal> {
        if call.client.level.is_some() && call.client.era == Era::Modern && key.era == Era::Legacy {
            self.log_everything(key, spec).await;
        }
        let prepared = meta::prepare(call, key.era)?;
        let params = prepared.params(call);
        let Some(client_channel) = &call.client_channel else {
            let deadline = Instant::now() + call.timeout;
            let request = UpstreamRequest {
                headers: call.headers,
                caller: call.caller,
                retries: call.retries,
                ..UpstreamRequest::new(call.method, params, deadline)
            };
            return self.pool.send(key, spec, request).await;
        };
        let pausable = Arc::new(PausableDeadline::new(call.timeout));
        let progress = prepared.progress.as_ref().map(|progress| progress.0);
        let listener: Arc<dyn Listener> = Arc::new(CallListener {
            client: call.client.clone(),
            client_channel: client_channel.clone(),
            progress: prepared.progress.clone(),
            pausable: pausable.clone(),
        });
        // Built-in servers send no requests and read the deadline.
        let questions = match spec.launch {
            Launch::Builtin(_) => Duration::ZERO,
            _ => QUESTIONS_WITHIN,
        };
        let request = UpstreamRequest {
            method: call.method,
            params,
            deadline: Instant::now() + call.timeout + questions,
            listener: Some(&listener),
            progress,
            headers: call.headers,
            caller: call.caller,
            retries: call.retries,
            is_use: true,
        };
        tokio::select! {
            biased;
            delivered = self.pool.send(key, spec, request) => delivered,
            () = pausable.run_out() => Err(late(spec, call.timeout)),
        }
    }

    /// Returns the name and version of the server from the handshake of any of its upstreams.
    fn server_info_of(&self, key: &PoolKey) -> Option<Arc<RawValue>> {
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

    /// Sets a legacy upstream to its lowest log level, once after each start, if a client wants logs (row 7):
    /// each client gets only the levels it wants.
    async fn log_everything(&self, key: &PoolKey, spec: &Arc<ServerSpec>) {
        let Some(running) = self.pool.running(key) else { return };
        if self.shared.talkative.len() >= MANY {
            self.shared.talkative.retain(|key, _| self.pool.is_running(key));
        }
        if self.shared.talkative.insert(*key, running.generation) != Some(running.generation) {
            self.tell_level(key, spec, Level::Debug).await;
        }
    }

    /// Cancels calls that wait for input.
    pub fn cancel_pending(&self) {
        self.shared.pending.clear();
    }

    /// Cancels calls that wait for input, within 2 s.
    pub async fn shutdown(&self) {
        self.shared.pending.clear();
        self.shared.tasks.close();
        tokio::time::timeout(Duration::from_secs(2), self.shared.tasks.wait()).await.ok();
    }
}

fn late(spec: &ServerSpec, timeout: Duration) -> Refusal {
    let reason = format!("`{}` did not answer within {} ms", spec.slug, timeout.as_millis());
    Refusal::new(Code::TimedOut, reason)
}

/// Returns true for methods that all upstreams of a server answer alike.
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

/// Returns true for methods with `input_required` results (2026-07-28, basic/patterns/mrtr).
pub fn may_ask(asked: &str) -> bool {
    matches!(asked, method::TOOLS_CALL | method::PROMPTS_GET | method::RESOURCES_READ)
}

impl Prepared {
    fn params<'a>(&'a self, call: &UpstreamCall<'a>) -> crate::upstream::Params<'a> {
        match &self.edited {
            Some(edited) => crate::upstream::Params::raw(edited.as_bytes()),
            None => call.params,
        }
    }
}
