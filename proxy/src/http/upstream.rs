//! One remote server from its handshake to its end, as the pool sees it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use protocol::mcp::{Era, method};
use protocol::{Code, Refusal};

use super::exchange;
use super::failure::Trouble;
use super::fallback;
use super::handshake;
use super::link::Link;
use super::listen::{self, Lists, Subscriptions};
use super::listening::Listening;
use super::plan::RemotePlan;
use super::standing;
use crate::child::Needed;
use crate::duplex::{self, DuplexUpstream};
use crate::server::RemoteLaunch;
use crate::upstream::{Failure, Initialized, Params, Upstream, UpstreamAnswer, UpstreamRequest};

/// How long the end of a session may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// An upstream that has shaken hands, and what that brought.
pub type Started = (Arc<dyn Upstream>, Arc<Initialized>);

/// Shakes hands with a remote server in the era of the plan.
pub async fn start(
    plan: &RemotePlan,
    launch: &RemoteLaunch,
    generation: u64,
    deadline: Instant,
) -> Result<Started, Refusal> {
    let link = Link::new(plan, launch)?;
    // Whoever waits for the start may go away.
    let unfinished = link.closed.clone().drop_guard();
    let shaken = handshake::shake(&link, generation, deadline).await;
    let initialized = match shaken {
        Ok(initialized) => Arc::new(initialized),
        Err(trouble) => {
            if let Some(older) = older(plan, &link, &trouble, generation, deadline).await? {
                return Ok(older);
            }
            let refusal = not_started(&plan.who, trouble.failure.refusal);
            link.close(refusal.clone());
            return Err(refusal);
        }
    };
    unfinished.disarm();
    let subscriptions = match plan.era {
        Era::Legacy => {
            plan.tasks.spawn(standing::listen(link.clone()));
            None
        }
        Era::Modern => {
            let subscriptions = Arc::new(Subscriptions::new(Lists::declared(&initialized.result)));
            plan.tasks.spawn(listen::run(Listening(link.clone()), plan.clone(), subscriptions.clone()));
            Some(subscriptions)
        }
    };
    Ok((Arc::new(HttpUpstream { link, subscriptions }), initialized))
}

/// The same server by the transport before this one, where the handshake failed as it fails there.
async fn older(
    plan: &RemotePlan,
    link: &Link,
    trouble: &Trouble,
    generation: u64,
    deadline: Instant,
) -> Result<Option<Started>, Refusal> {
    let fits = plan.era == Era::Legacy && matches!(trouble.status, Some(400 | 404 | 405));
    if !fits {
        return Ok(None);
    }
    let Some(wire) = fallback::open(plan, &link.line, deadline).await else { return Ok(None) };
    link.close(link.reason());
    let unfinished = wire.closed.clone().drop_guard();
    match duplex::shake(&wire, generation, deadline).await {
        Ok(initialized) => {
            unfinished.disarm();
            Ok(Some((Arc::new(DuplexUpstream::new(wire, &initialized)), Arc::new(initialized))))
        }
        Err(failure) => {
            let refusal = not_started(&plan.who, failure.refusal);
            wire.close(refusal.clone());
            Err(refusal)
        }
    }
}

/// A server that refused or was late is as good as none.
pub fn not_started(who: &str, refusal: Refusal) -> Refusal {
    if refusal.code == Code::TimedOut {
        let reason = format!("`{who}` did not answer the handshake in time");
        return Refusal::new(Code::UpstreamUnavailable, reason);
    }
    let code = if refusal.code == Code::NotConfigured { refusal.code } else { Code::UpstreamUnavailable };
    Refusal { code, ..refusal }
}

struct HttpUpstream {
    link: Arc<Link>,
    /// Modern only.
    subscriptions: Option<Arc<Subscriptions>>,
}

#[async_trait]
impl Upstream for HttpUpstream {
    async fn request(&self, request: UpstreamRequest<'_>) -> Result<UpstreamAnswer, Failure> {
        exchange::run(&self.link, &request).await.map_err(Failure::from)
    }

    fn notify(&self, method: &str, params: &[u8]) {
        self.link.notify(method, params);
    }

    async fn subscribe(&self, uri: &str, deadline: Instant) -> Result<UpstreamAnswer, Failure> {
        if let Some(subscriptions) = &self.subscriptions {
            return subscriptions.subscribe(uri, deadline).await;
        }
        let params = serde_json::json!({ "uri": uri }).to_string();
        let params = Params::raw(params.as_bytes());
        self.request(UpstreamRequest::new(method::SUBSCRIBE, params, deadline)).await
    }

    fn unsubscribe(&self, uri: &str) {
        if let Some(subscriptions) = &self.subscriptions {
            return subscriptions.unsubscribe(uri);
        }
        let (link, params) = (self.link.clone(), serde_json::json!({ "uri": uri }).to_string());
        self.link.plan.tasks.spawn(async move {
            let deadline = Instant::now() + super::link::ASIDE;
            let params = Params::raw(params.as_bytes());
            let request = UpstreamRequest::new(method::UNSUBSCRIBE, params, deadline);
            if let Err(trouble) = exchange::run(&link, &request).await {
                tracing::debug!(server = link.who(), reason = %trouble.failure.refusal, "not unsubscribed");
            }
        });
    }

    fn is_alive(&self) -> bool {
        self.link.is_open()
    }

    async fn closed(&self) -> Refusal {
        self.link.closed.cancelled().await;
        self.link.reason()
    }

    async fn stop(&self) -> Needed {
        let was_open = self.link.is_open();
        self.link.close(Refusal::new(Code::ServerStopped, format!("`{}` was stopped", self.link.who())));
        if was_open {
            self.link.end_session(GOODBYE).await;
        }
        Needed::Nothing
    }
}

impl Drop for HttpUpstream {
    fn drop(&mut self) {
        // Its tasks hold the link and end with it.
        self.link.close(Refusal::new(Code::ServerStopped, format!("`{}` was let go", self.link.who())));
    }
}
