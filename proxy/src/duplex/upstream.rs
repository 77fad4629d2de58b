//! An upstream behind such a line, from its handshake to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use protocol::mcp::{Era, method};
use protocol::{Code, Refusal};
use serde_json::json;

use super::listening::Listening;
use super::wire::Wire;
use crate::child::Needed;
use crate::http::handshake::{about_us, hello, read_discovery, read_hello};
use crate::http::listen::{self, Lists, Subscriptions};
use crate::upstream::{Failure, Initialized, Params, Upstream, UpstreamAnswer, UpstreamRequest};

/// How long a message that nobody waits for may take.
const ASIDE: Duration = Duration::from_secs(10);

/// The first words of the era of the plan.
pub async fn shake(wire: &Arc<Wire>, generation: u64, deadline: Instant) -> Result<Initialized, Failure> {
    match wire.plan.era {
        Era::Legacy => {
            let params = hello(&wire.plan);
            let request = UpstreamRequest::new(method::INITIALIZE, Params::raw(params.as_bytes()), deadline);
            let answer = wire.request(&request).await?;
            let initialized = read_hello(wire.who(), answer, generation)?;
            wire.notify(method::INITIALIZED, b"");
            Ok(initialized)
        }
        Era::Modern => {
            let params = json!({ "_meta": about_us(&wire.plan) }).to_string();
            let request = UpstreamRequest::new(method::DISCOVER, Params::raw(params.as_bytes()), deadline);
            Ok(read_discovery(wire.who(), wire.request(&request).await?, generation)?)
        }
    }
}

pub struct DuplexUpstream {
    wire: Arc<Wire>,
    /// Modern only.
    subscriptions: Option<Arc<Subscriptions>>,
}

impl DuplexUpstream {
    /// After the handshake.
    pub fn new(wire: Arc<Wire>, initialized: &Initialized) -> Self {
        let subscriptions = (initialized.era == Era::Modern).then(|| {
            let subscriptions = Arc::new(Subscriptions::new(Lists::declared(&initialized.result)));
            let listening = listen::run(Listening(wire.clone()), wire.plan.clone(), subscriptions.clone());
            wire.plan.tasks.spawn(listening);
            subscriptions
        });
        Self { wire, subscriptions }
    }
}

#[async_trait]
impl Upstream for DuplexUpstream {
    async fn request(&self, request: UpstreamRequest<'_>) -> Result<UpstreamAnswer, Failure> {
        self.wire.request(&request).await
    }

    fn notify(&self, method: &str, params: &[u8]) {
        self.wire.notify(method, params);
    }

    async fn subscribe(&self, uri: &str, deadline: Instant) -> Result<UpstreamAnswer, Failure> {
        if let Some(subscriptions) = &self.subscriptions {
            return subscriptions.subscribe(uri, deadline).await;
        }
        let params = json!({ "uri": uri }).to_string();
        let params = Params::raw(params.as_bytes());
        self.wire.request(&UpstreamRequest::new(method::SUBSCRIBE, params, deadline)).await
    }

    fn unsubscribe(&self, uri: &str) {
        if let Some(subscriptions) = &self.subscriptions {
            return subscriptions.unsubscribe(uri);
        }
        let (wire, params) = (self.wire.clone(), json!({ "uri": uri }).to_string());
        self.wire.plan.tasks.spawn(async move {
            let params = Params::raw(params.as_bytes());
            let request = UpstreamRequest::new(method::UNSUBSCRIBE, params, Instant::now() + ASIDE);
            if let Err(failure) = wire.request(&request).await {
                tracing::debug!(server = wire.who(), reason = %failure.refusal, "not unsubscribed");
            }
        });
    }

    fn is_alive(&self) -> bool {
        self.wire.is_open()
    }

    async fn closed(&self) -> Refusal {
        self.wire.closed.cancelled().await;
        self.wire.reason()
    }

    async fn stop(&self) -> Needed {
        self.wire.close(Refusal::new(Code::ServerStopped, format!("`{}` was stopped", self.wire.who())));
        Needed::Nothing
    }
}

impl Drop for DuplexUpstream {
    fn drop(&mut self) {
        // Its tasks hold the wire and end with it.
        self.wire.close(Refusal::new(Code::ServerStopped, format!("`{}` was let go", self.wire.who())));
    }
}
