//! Upstream over a connection, from its handshake to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::FutureExt;
use protocol::mcp::{Era, method};
use protocol::{Code, Refusal};
use serde_json::json;

use super::Connection;
use super::listen::{self, DeclaredLists, Subscriptions};
use crate::child::Needed;
use crate::upstream::{Failure, Initialized, Params, Upstream, UpstreamAnswer, UpstreamRequest};

/// Time for an unsubscription, which no caller waits for.
const ASIDE: Duration = Duration::from_secs(10);

pub struct PeerUpstream<C: Connection> {
    connection: Arc<C>,
    /// Subscriptions of the modern era.
    subscriptions: Option<Arc<Subscriptions>>,
}

/// An upstream after its handshake, with the result.
pub type Started = (Arc<dyn Upstream>, Arc<Initialized>);

impl<C: Connection> PeerUpstream<C> {
    /// Takes a connection after its handshake, and listens to a modern server.
    pub fn new(connection: Arc<C>, initialized: &Initialized) -> Self {
        let subscriptions = (initialized.era == Era::Modern).then(|| {
            let subscriptions = Arc::new(Subscriptions::new(DeclaredLists::read(&initialized.result)));
            connection.plan().tasks.spawn(listen::run(connection.clone(), subscriptions.clone()));
            subscriptions
        });
        Self { connection, subscriptions }
    }

    /// Waits for the first `subscriptions/listen`, up to `at_most`, whether the server acknowledges it or
    /// not.
    pub async fn listening(&self, at_most: Duration) {
        if let Some(subscriptions) = &self.subscriptions {
            subscriptions.first_try(at_most).await;
        }
    }

    pub fn started(self, initialized: Initialized) -> Started {
        (Arc::new(self), Arc::new(initialized))
    }

    fn gone(&self, how: &str) -> Refusal {
        Refusal::new(Code::ServerStopped, format!("`{}` {how}", self.connection.server()))
    }
}

#[async_trait]
impl<C: Connection> Upstream for PeerUpstream<C> {
    async fn request(&self, request: UpstreamRequest<'_>) -> Result<UpstreamAnswer, Failure> {
        self.connection.request(request).await.map_err(C::Error::into)
    }

    fn notify(&self, method: &str, params: &[u8]) {
        self.connection.notify(method, params);
    }

    async fn subscribe(&self, uri: &str, deadline: Instant) -> Result<UpstreamAnswer, Failure> {
        if let Some(subscriptions) = &self.subscriptions {
            return subscriptions.subscribe(self.connection.server(), uri, deadline).await;
        }
        let params = json!({ "uri": uri }).to_string();
        let params = Params::raw(params.as_bytes());
        self.request(UpstreamRequest::new(method::SUBSCRIBE, params, deadline)).await
    }

    fn unsubscribe(&self, uri: &str) {
        if let Some(subscriptions) = &self.subscriptions {
            return subscriptions.unsubscribe(uri);
        }
        let (connection, params) = (self.connection.clone(), json!({ "uri": uri }).to_string());
        let unsubscribing = async move {
            let params = Params::raw(params.as_bytes());
            let request = UpstreamRequest::new(method::UNSUBSCRIBE, params, Instant::now() + ASIDE);
            if let Err(error) = connection.request(request).await {
                let reason = error.into().refusal;
                tracing::debug!(server = connection.server(), %reason, "not unsubscribed");
            }
        };
        let mut unsubscribing = Box::pin(unsubscribing);
        // The first poll keeps the order of messages, where the transport has one.
        if unsubscribing.as_mut().now_or_never().is_none() {
            self.connection.plan().tasks.spawn(unsubscribing);
        }
    }

    fn is_alive(&self) -> bool {
        self.connection.state().is_open()
    }

    async fn closed(&self) -> Refusal {
        self.connection.state().closed.cancelled().await;
        self.connection.state().reason()
    }

    async fn stop(&self) -> Needed {
        self.connection.stop(self.gone("was stopped")).await
    }
}

impl<C: Connection> Drop for PeerUpstream<C> {
    fn drop(&mut self) {
        // The connection's tasks hold it and end with it.
        self.connection.close(self.gone("was released"));
    }
}
