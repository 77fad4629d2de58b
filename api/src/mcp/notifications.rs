//! Notifications of clients, and their responses to server requests.

use protocol::mcp::method;
use protocol::{Code, Refusal};
use proxy::upstream::UpstreamAnswer;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::mcp::context::Context;
use crate::mcp::endpoint::Endpoint;
use crate::mcp::request::{Notification, Response};
use crate::mcp::response;
use crate::mcp::response::Reply;
use crate::pipeline::upstreams::Upstreams;
use crate::subscriptions::replica_bus::{Answer, Message, ReplicaBus, session_text};

/// Handles a notification, which has no answer.
pub async fn take(
    upstreams: &Upstreams,
    bus: &ReplicaBus,
    context: Context<'_>,
    notification: Notification<'_>,
) -> Option<Reply> {
    match notification.method.as_ref() {
        method::INITIALIZED => {}
        method::CANCELLED => cancel(bus, context, notification.params).await,
        other if other.starts_with(method::NOTIFICATIONS) => {
            pass(upstreams, context, other, notification.params).await;
        }
        // Some servers would execute a request without an id, and no permit is checked for it.
        other => tracing::debug!(method = other.chars().take(100).collect::<String>(), "not a notification"),
    }
    None
}

/// Cancels a legacy client's request. A modern client closes the request's stream instead.
async fn cancel(bus: &ReplicaBus, context: Context<'_>, params: Option<&RawValue>) {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Cancelled<'a> {
        #[serde(borrow)]
        request_id: &'a RawValue,
    }
    let Some(session) = &context.protocol.session else { return };
    let Some(Ok(cancelled)) = params.map(|params| serde_json::from_str::<Cancelled<'_>>(params.get())) else {
        return;
    };
    let id = cancelled.request_id.get();
    if !session.state.cancel(id) {
        let session = session_text(&session.hash);
        bus.publish(Message::Cancelled { session, id: id.to_owned() }).await;
    }
}

/// Passes a notification to the upstreams of this client alone, or to the server of the endpoint.
async fn pass(upstreams: &Upstreams, context: Context<'_>, method: &str, params: Option<&RawValue>) {
    if *context.protocol.endpoint == Endpoint::Plain {
        return;
    }
    let Ok(view) = upstreams.directory.view(context.caller.tenant).await else { return };
    let client = &context.protocol.client;
    for member in view.members() {
        let meant = context.protocol.endpoint.slug() == Some(&member.spec.slug);
        let policy = member.policy(context.caller.agent);
        let Some(selected) = upstreams.bridge.select_running(view.tenant, &policy, client) else { continue };
        let alone = selected.key().owner != 0;
        // A shared upstream gets no notification of the specification from one of its clients.
        let meant = meant && !matches!(method, method::ROOTS_CHANGED | method::PROGRESS);
        if meant || alone {
            upstreams.pool.notify(&selected, method, params.map_or("", RawValue::get).as_bytes());
        }
    }
}

/// Delivers the client's response to a server request, perhaps of another replica.
pub async fn answered(bus: &ReplicaBus, context: Context<'_>, response: Response<'_>) -> Option<Reply> {
    let Some(session) = &context.protocol.session else {
        let refusal = Refusal::new(Code::InvalidRequest, "this is a response; nothing here waits for one");
        return Some(Reply::to(context, Some(response.id), response::Answer::Refused(refusal)));
    };
    // The ids of the gateway's requests are strings; no replica waits for another one.
    let Ok(id) = serde_json::from_str::<String>(response.id.get()) else { return None };
    let answer = match response.outcome {
        Ok(result) => UpstreamAnswer::Result(result.to_owned().into()),
        Err(error) => UpstreamAnswer::Error(error.to_owned().into()),
    };
    if !session.state.answer(&id, answer) {
        let answer = match response.outcome {
            Ok(result) => Answer::Result(result.to_owned()),
            Err(error) => Answer::Error(error.to_owned()),
        };
        let own = session.state.is_own_id(&id);
        let session = session_text(&session.hash);
        let published = bus.publish(Message::Answered { session, id, answer }).await;
        if !published && !own {
            let reason = "another replica sent this request, and replicas cannot reach each other now";
            let refusal = Refusal::new(Code::StateUnavailable, reason)
                .hint("send the answer again shortly, or to the replica that sent it");
            return Some(Reply::to(context, Some(response.id), response::Answer::Refused(refusal)));
        }
    }
    None
}
