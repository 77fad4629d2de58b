//! Routing of the notifications and requests of a server: by progress token, else to the only request in
//! flight, else to the client that the upstream serves. No function here waits.

use std::sync::Arc;

use bytes::Bytes;
use protocol::Code;
use protocol::mcp::{Era, method};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::events::{Unusable, UpstreamEvent};
use super::listen::{Acknowledged, honoured};
use super::message::excerpt;
use super::server_requests::{ServerRequests, Waiting};
use super::violations::ViolationLog;
use super::{Connection, PeerPlan};
use crate::upstream::{Listener, UpstreamAnswer};

/// The stream of a server message.
#[derive(Clone, Copy)]
pub enum Stream<'a> {
    /// The stream of one request, possibly without a listener. When the request is `over`, server requests on
    /// its stream are void.
    OfRequest { listener: Option<&'a Arc<dyn Listener>>, over: &'a CancellationToken },
    /// The stream of the `subscriptions/listen` with this id.
    OfListen(u64),
    /// The only stream, or one for all messages outside requests.
    Shared,
}

pub struct ServerMessageRouter {
    pub violations: ViolationLog,
    requests: Arc<ServerRequests>,
    acknowledged: watch::Sender<Option<Acknowledged>>,
}

impl ServerMessageRouter {
    pub fn new(plan: &PeerPlan) -> Self {
        Self {
            violations: ViolationLog::new(plan.logs.clone()),
            requests: Arc::default(),
            acknowledged: watch::Sender::new(None),
        }
    }

    /// Returns the last acknowledgement of a `subscriptions/listen`, and those to come.
    pub fn acknowledgements(&self) -> watch::Receiver<Option<Acknowledged>> {
        self.acknowledged.subscribe()
    }

    /// Routes a notification of the server.
    pub fn notification<C: Connection>(
        &self,
        connection: &C,
        stream: Stream<'_>,
        notified: &str,
        params: Option<&str>,
    ) {
        let plan = connection.plan();
        match UpstreamEvent::read(notified, params) {
            Ok(Some(event)) => return (plan.publish)(event),
            Ok(None) => {}
            Err(Unusable(why)) => {
                return self.violations.note(|| format!("`{notified}` is dropped: {why}"));
            }
        }
        let listener = match notified {
            method::PROGRESS => match stream {
                Stream::OfRequest { listener: Some(listener), .. } => Some(listener.clone()),
                _ => progress_token(params).and_then(|token| connection.listener_of_progress(token)),
            },
            method::CANCELLED => return self.cancelled(connection, params),
            method::ACKNOWLEDGED => return self.acknowledge(stream, params),
            // No client subscribes to tasks.
            method::TASKS => None,
            _ if plan.era == Era::Modern && subscription(params).is_some() => None,
            _ => listener(connection, stream),
        };
        match listener {
            Some(listener) => listener.on_notification(notified, params),
            None => tracing::trace!(server = %plan.server, notified, "a notification without a listener"),
        }
    }

    /// Routes a request of the server. Its answer is sent later.
    pub fn request<C: Connection>(
        &self,
        connection: &Arc<C>,
        stream: Stream<'_>,
        id: &str,
        asked: &str,
        params: Option<&str>,
    ) {
        let violation = |what: &str| {
            self.violations.note(|| format!("it asked for `{}`{what}", excerpt(asked.as_bytes())));
        };
        if asked == method::PING {
            return connection.answer_now(id, &UpstreamAnswer::Result(Bytes::from_static(b"{}")));
        }
        // Modern servers send no requests: they answer with `input_required`.
        let listener =
            (connection.plan().era == Era::Legacy).then(|| listener(&**connection, stream)).flatten();
        let Some(listener) = listener else {
            violation(", which was not declared");
            return connection.answer_now(
                id,
                &UpstreamAnswer::error(Code::MethodNotFound.rpc(), "the gateway does not offer this"),
            );
        };
        match self.requests.put(&*listener, id, asked, params) {
            Ok(waiting) => {
                let over = match stream {
                    Stream::OfRequest { over, .. } => over.clone(),
                    Stream::OfListen(_) | Stream::Shared => connection.state().closed.clone(),
                };
                let answering =
                    answer_later(connection.clone(), self.requests.clone(), id.into(), waiting, over);
                connection.plan().tasks.spawn(answering);
            }
            Err(reason) => {
                violation(&format!(": {reason}"));
                connection.answer_now(id, &UpstreamAnswer::error(Code::Internal.rpc(), reason));
            }
        }
    }

    /// Withdraws a server request, or ends a `subscriptions/listen`.
    fn cancelled<C: Connection>(&self, connection: &C, params: Option<&str>) {
        #[derive(Deserialize)]
        struct Cancelled<'a> {
            #[serde(borrow, rename = "requestId")]
            id: &'a RawValue,
        }
        let Some(Cancelled { id }) = params.and_then(|params| serde_json::from_str(params).ok()) else {
            return;
        };
        match (connection.plan().era, id.get().parse()) {
            (Era::Legacy, _) => self.requests.withdraw(id.get()),
            (Era::Modern, Ok(id)) => connection.cancel_listen(id),
            (Era::Modern, Err(_)) => {}
        }
    }

    fn acknowledge(&self, stream: Stream<'_>, params: Option<&str>) {
        let id = match stream {
            Stream::OfListen(id) => Some(id),
            Stream::OfRequest { .. } | Stream::Shared => subscription(params),
        };
        if let Some(id) = id {
            self.acknowledged.send_replace(Some((id, honoured(params))));
        }
    }
}

/// Returns the listener for a message that names no request.
fn listener<C: Connection>(connection: &C, stream: Stream<'_>) -> Option<Arc<dyn Listener>> {
    let plan = connection.plan();
    let owner = plan.client.as_ref().and_then(|client| client.listener.clone());
    let found = match stream {
        Stream::OfRequest { listener, .. } => listener.cloned(),
        Stream::OfListen(_) | Stream::Shared => connection.listener_of_only_request(plan.serves_one_client),
    };
    found.or(owner)
}

async fn answer_later<C: Connection>(
    connection: Arc<C>,
    requests: Arc<ServerRequests>,
    id: Box<str>,
    waiting: Waiting,
    over: CancellationToken,
) {
    let answer = tokio::select! {
        // The listener sees the withdrawal of the request.
        () = waiting.withdrawn.cancelled() => None,
        () = over.cancelled() => None,
        () = connection.state().closed.cancelled() => None,
        answer = waiting.answer => answer.ok(),
    };
    requests.remove(&id);
    if let Some(answer) = answer {
        connection.answer(&id, &answer).await;
    }
}

fn progress_token(params: Option<&str>) -> Option<u64> {
    #[derive(Deserialize)]
    struct Progress {
        #[serde(rename = "progressToken")]
        token: u64,
    }
    serde_json::from_str::<Progress>(params?).ok().map(|progress| progress.token)
}

/// Returns the id of the `subscriptions/listen` that a notification belongs to.
fn subscription(params: Option<&str>) -> Option<u64> {
    #[derive(Deserialize)]
    struct Params<'a> {
        #[serde(borrow, rename = "_meta")]
        meta: Meta<'a>,
    }
    #[derive(Deserialize)]
    struct Meta<'a> {
        #[serde(borrow, rename = "io.modelcontextprotocol/subscriptionId")]
        subscription: &'a RawValue,
    }
    let params: Params<'_> = serde_json::from_str(params?).ok()?;
    params.meta.subscription.get().parse().ok()
}

#[cfg(test)]
mod tests {
    use protocol::mcp::meta;

    use super::*;

    #[test]
    fn the_subscription_of_a_notification() {
        let key = meta::SUBSCRIPTION_ID;
        assert_eq!(subscription(Some(&format!(r#"{{"a":1,"_meta":{{"b":2,"{key}":7}}}}"#))), Some(7));
        assert_eq!(subscription(Some(&format!(r#"{{"_meta":{{"{key}":"7"}}}}"#))), None);
        assert_eq!(subscription(Some("{}")).or(subscription(None)), None);
    }
}
