//! Handlers of `resources/subscribe`, `resources/unsubscribe` and `subscriptions/listen`.

use std::sync::Arc;
use std::time::Instant;

use protocol::mcp::{Era, meta};
use protocol::{AgentId, Caller, Code, Refusal, TenantId};
use proxy::bridge::Client;
use proxy::catalog::ListKind;
use proxy::peer::listen::DeclaredLists;
use proxy::pool::Subscribed;
use proxy::route::{Name, Verb, find_member};
use proxy::upstream::Initialized;
use serde_json::value::RawValue;

use crate::collaboration::may_list;
use crate::mcp::context::Context;
use crate::mcp::endpoint::Endpoint;
use crate::mcp::response::Answer;
use crate::pipeline::upstreams::Upstreams;
use crate::session::{Facts, Session, Sessions};
use crate::subscriptions::dispatcher::Dispatcher;
use crate::subscriptions::filter::{MAX_SUBSCRIPTIONS, SubscriptionFilter};
use crate::subscriptions::replica_bus::{Message, session_text};

/// A client that subscribes, and its endpoint.
struct Subscriber<'a> {
    tenant: TenantId,
    agent: Option<AgentId>,
    endpoint: &'a Endpoint,
    client: &'a Client,
    /// `None` for a subscription that the session's caller made earlier.
    caller: Option<&'a Caller>,
}

impl Subscriber<'_> {
    /// Subscribes at the upstream that has the resource, if this caller may use it.
    async fn subscribe(
        &self,
        upstreams: &Upstreams,
        dispatcher: &Dispatcher,
        uri: &str,
    ) -> Result<Result<Subscribed, Answer>, Refusal> {
        let view = upstreams.directory.view(self.tenant).await?;
        let name = match self.endpoint {
            Endpoint::One(slug) => Name::Direct { server: slug.as_str(), name: uri },
            Endpoint::All | Endpoint::Plain => Name::Exposed(uri),
        };
        let (member, own) = find_member(&view, Verb::ReadResource, name)?;
        let policy = member.policy(self.agent);
        if let Some(caller) = self.caller {
            may_list(caller, ListKind::Resources, &policy.spec)?;
        }
        policy.item(ListKind::Resources, &own)?;
        let deadline = Instant::now() + policy.spec.start_timeout.value;
        let selected = upstreams.bridge.select(view.tenant, &policy, self.client, deadline).await?;
        // A modern client's requests are not bound to an upstream of its own.
        let selected = if self.client.era == Era::Modern { selected.for_lists() } else { selected };
        let subscribed = upstreams.pool.subscribe(&selected, &own, deadline).await?;
        if subscribed.is_ok() {
            dispatcher.publish_interest().await;
        }
        Ok(subscribed.map_err(Answer::Error))
    }
}

/// Restores the subscriptions that a session made on another replica, or before a restart.
pub async fn restore(upstreams: &Upstreams, dispatcher: &Dispatcher, session: &Session) {
    let subscriber = Subscriber {
        tenant: session.tenant,
        agent: session.agent,
        endpoint: &session.endpoint,
        client: &session.client,
        caller: None,
    };
    for uri in &session.facts.subscriptions {
        if session.state.is_subscribed(uri) {
            continue;
        }
        match subscriber.subscribe(upstreams, dispatcher, uri).await {
            Ok(Ok(subscribed)) => {
                session.state.subscribe(uri, subscribed);
                crate::subscriptions::delivery::notify_maybe_updated(session, uri);
            }
            Ok(Err(_)) => tracing::debug!(uri, "a subscription was not taken again"),
            Err(refusal) => tracing::debug!(%refusal, uri, "a subscription was not made again"),
        }
    }
}

fn subscriber<'a>(context: Context<'a>) -> Subscriber<'a> {
    Subscriber {
        tenant: context.caller.tenant,
        agent: context.caller.agent,
        endpoint: context.protocol.endpoint,
        client: &context.protocol.client,
        caller: Some(context.caller),
    }
}

pub async fn change(
    upstreams: &Upstreams,
    sessions: &Sessions,
    dispatcher: &Dispatcher,
    context: Context<'_>,
    uri: &str,
    begin: bool,
) -> Result<Answer, Refusal> {
    let session = context.session()?;
    if begin && !session.state.is_subscribed(uri) {
        match subscriber(context).subscribe(upstreams, dispatcher, uri).await? {
            Ok(subscribed) => session.state.subscribe(uri, subscribed),
            Err(answer) => return Ok(answer),
        }
    }
    let change = |facts: &mut Facts| {
        facts.subscriptions.retain(|one| one != uri);
        if begin && facts.subscriptions.len() >= MAX_SUBSCRIPTIONS {
            let reason = format!("this session has {MAX_SUBSCRIPTIONS} subscriptions already");
            return Err(Refusal::new(Code::InvalidParams, reason));
        }
        if begin {
            facts.subscriptions.push(uri.to_owned());
        }
        Ok(())
    };
    let changed = sessions.change(context.caller, context.protocol.endpoint, session, change).await;
    if !begin || changed.is_err() {
        session.state.unsubscribe(uri);
    }
    changed?;
    dispatcher.bus.publish(Message::Renewed { session: session_text(&session.hash) }).await;
    Ok(Answer::Result("{}".into()))
}

/// Holds a `subscriptions/listen` open, and acknowledges the part of the filter that it serves.
pub async fn listen(
    upstreams: &Upstreams,
    sessions: &Sessions,
    dispatcher: &Arc<Dispatcher>,
    context: Context<'_>,
    wanted: &SubscriptionFilter,
    id: &RawValue,
) -> Result<Answer, Refusal> {
    let client = &context.protocol.client;
    let Some(stream) = context.protocol.stream.filter(|_| client.era == Era::Modern) else {
        return Err(Refusal::new(Code::MethodNotFound, "subscriptions/listen needs an endpoint that can stream")
            .hint("use /mcp or /mcp/s/{slug}, accept text/event-stream, and say in params._meta that it is 2026-07-28"));
    };
    let _permit = sessions.stream_quota.open(context.caller)?;
    let mut honoured = match context.protocol.endpoint {
        Endpoint::One(slug) => {
            let initialized = Box::pin(upstreams.initialized(context, client, slug.as_str())).await?;
            declared(&initialized, wanted)
        }
        Endpoint::All | Endpoint::Plain => {
            // A change is only noticed of a view that was loaded before.
            upstreams.directory.view(context.caller.tenant).await?;
            wanted.clone()
        }
    };
    honoured.task_ids.clear();
    honoured.resource_subscriptions.clear();
    let mut subscriptions = Vec::new();
    for uri in &wanted.resource_subscriptions {
        match Box::pin(subscriber(context).subscribe(upstreams, dispatcher, uri)).await {
            Ok(Ok(subscribed)) => {
                subscriptions.push(subscribed);
                honoured.resource_subscriptions.push(uri.clone());
            }
            Ok(Err(_)) => {}
            Err(refusal) => tracing::debug!(%refusal, uri, "a resource cannot be subscribed to"),
        }
    }
    let (caller, endpoint) = (context.caller, context.protocol.endpoint);
    let _listening = dispatcher.listen(caller, client.owner, endpoint, honoured, id, stream);
    dispatcher.ending.cancelled().await;
    drop(subscriptions);
    Ok(Answer::Result(
        format!(r#"{{"resultType":"complete","_meta":{{"{}":{}}}}}"#, meta::SUBSCRIPTION_ID, id.get()).into(),
    ))
}

/// Returns the part of the filter that the server itself supports.
fn declared(initialized: &Initialized, wanted: &SubscriptionFilter) -> SubscriptionFilter {
    let declared = DeclaredLists::read(&initialized.result);
    SubscriptionFilter {
        tools_list_changed: wanted.tools_list_changed && declared.tools,
        prompts_list_changed: wanted.prompts_list_changed && declared.prompts,
        resources_list_changed: wanted.resources_list_changed && declared.resources,
        ..SubscriptionFilter::default()
    }
}
