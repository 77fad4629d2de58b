//! Built-in upstream: a tool provider in this process that answers MCP requests as a server would. Knows
//! the protocol's methods; the providers implement the tools.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use framework::answers::{Answers, Problem, no_method, resource_problem};
use parking_lot::Mutex;
use protocol::mcp::{Era, LEGACY_LATEST, MODERN, meta, method};
use protocol::provider::{Cancellation, Changed, Progress, RequestContext, ToolProvider, Watch};
use protocol::{Code, Refusal, TenantId};
use serde_json::json;

use crate::child::Needed;
use crate::peer::events::{Publish, UpstreamEvent};
use crate::pool::PoolKey;
use crate::server::BuiltinLaunch;
use crate::upstream::{Failure, Initialized, Upstream, UpstreamAnswer, UpstreamRequest};

pub struct BuiltinUpstream {
    answers: Answers,
    tenant: TenantId,
    launch: BuiltinLaunch,
    initialized: Arc<Initialized>,
    publish: Publish,
    /// Watches of the resources that are subscribed to.
    watches: Mutex<HashMap<String, Watch>>,
    _list_watch: Option<Watch>,
}

impl BuiltinUpstream {
    /// Creates the upstream, which serves both eras; its handshake is of the key's era.
    pub fn new(
        provider: Arc<dyn ToolProvider>,
        key: PoolKey,
        launch: BuiltinLaunch,
        generation: u64,
        publish: Publish,
    ) -> Self {
        let list_changed = Arc::clone(&publish);
        let _list_watch = provider
            .watch_resource_list(key.tenant, Arc::new(move || list_changed(UpstreamEvent::ResourcesChanged)));
        let answers = Answers::new(provider);
        let (result, protocol_version) = match key.era {
            Era::Legacy => (answers.initialize().clone(), LEGACY_LATEST.to_owned()),
            Era::Modern => (answers.discover().clone(), MODERN.to_owned()),
        };
        let initialized = Arc::new(Initialized { era: key.era, result, protocol_version, generation });
        Self {
            answers,
            tenant: key.tenant,
            launch,
            initialized,
            publish,
            watches: Mutex::default(),
            _list_watch,
        }
    }

    pub fn initialized(&self) -> &Arc<Initialized> {
        &self.initialized
    }
}

impl BuiltinUpstream {
    /// Checks what the server needs; without it there is no answer to `ping`.
    async fn health(&self) -> Result<(), Failure> {
        self.answers.provider().health().await.map_err(|error| Failure {
            refusal: Refusal::new(Code::UpstreamUnavailable, error.to_string()),
            sent: true,
        })
    }
}

#[async_trait]
impl Upstream for BuiltinUpstream {
    async fn request(&self, request: UpstreamRequest<'_>) -> Result<UpstreamAnswer, Failure> {
        let over = Over(Cancellation::default());
        let context = RequestContext {
            tenant: self.tenant,
            caller: request.caller,
            deadline: request.deadline,
            cancellation: over.0.clone(),
            progress: &|progress| notify_progress(&request, progress),
            settings: &self.launch.settings,
            secrets: &self.launch.secrets,
        };
        let params = request.params.contiguous();
        let answer = self.answers.answer(&context, request.method, &params);
        let answer = async {
            if request.method == method::PING {
                self.health().await?;
            }
            Ok(answer.await)
        };
        match tokio::time::timeout_at(request.deadline.into(), answer).await {
            Ok(Ok(Ok(result))) => Ok(UpstreamAnswer::Result(result)),
            Ok(Ok(Err(Problem(code, message)))) => Ok(UpstreamAnswer::error(code, &message)),
            Ok(Err(failure)) => Err(failure),
            Err(_) => {
                let refusal = Refusal::new(Code::TimedOut, "the built-in server did not answer in time");
                Err(Failure { refusal, sent: true })
            }
        }
    }

    /// Ignores all notifications.
    fn notify(&self, _method: &str, _params: &[u8]) {}

    async fn subscribe(&self, uri: &str, deadline: Instant) -> Result<UpstreamAnswer, Failure> {
        if !self.answers.provider().has_updates() {
            let Problem(code, message) = no_method(method::SUBSCRIBE);
            return Ok(UpstreamAnswer::error(code, &message));
        }
        let event = UpstreamEvent::ResourceUpdated {
            uri: uri.into(),
            params: json!({ "uri": uri }).to_string().into(),
        };
        let publish = Arc::clone(&self.publish);
        let changed: Changed = Arc::new(move || publish(event.clone()));
        let over = Over(Cancellation::default());
        let context = RequestContext {
            tenant: self.tenant,
            caller: None,
            deadline,
            cancellation: over.0.clone(),
            progress: &|_| {},
            settings: &self.launch.settings,
            secrets: &self.launch.secrets,
        };
        Ok(match self.answers.provider().watch_resource(&context, uri, changed).await {
            Ok(watch) => {
                self.watches.lock().insert(uri.to_owned(), watch);
                UpstreamAnswer::Result(Bytes::from_static(b"{}"))
            }
            Err(error) => {
                let Problem(code, message) = resource_problem(error, uri);
                UpstreamAnswer::error(code, &message)
            }
        })
    }

    fn unsubscribe(&self, uri: &str) {
        self.watches.lock().remove(uri);
    }

    fn is_alive(&self) -> bool {
        true
    }

    async fn closed(&self) -> Refusal {
        std::future::pending().await
    }

    async fn stop(&self) -> Needed {
        Needed::Nothing
    }
}

/// Guard that marks a request as over when its future is dropped.
struct Over(Cancellation);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

fn notify_progress(request: &UpstreamRequest<'_>, progress: Progress<'_>) {
    let (Some(listener), Some(token)) = (request.listener, request.progress) else { return };
    let mut params = json!(progress);
    params[meta::PROGRESS_TOKEN] = token.into();
    listener.on_notification(method::PROGRESS, Some(&params.to_string()));
}
