//! Delivery of a change to one stream, as the notifications that its client subscribed to.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use protocol::mcp::{meta, method};
use protocol::{AgentId, Members, TenantId, names};
use proxy::view::Member;
use serde_json::value::RawValue;

use crate::mcp::endpoint::Endpoint;
use crate::session::stream::{Stream, Topic};
use crate::session::{Session, stream};
use crate::subscriptions::filter::SubscriptionFilter;
use crate::subscriptions::replica_bus::What;

/// An open `subscriptions/listen`.
pub struct Subscription {
    pub tenant: TenantId,
    pub agent: Option<AgentId>,
    /// The owner of dedicated upstreams, whose changes it receives beside those of shared ones.
    pub owner: u64,
    pub endpoint: Endpoint,
    pub filter: SubscriptionFilter,
    /// The request's id, as it was written.
    pub id: Box<RawValue>,
    pub stream: Arc<Stream>,
}

/// Returns the list notifications of a change.
fn lists(what: &What) -> &'static [&'static str] {
    match what {
        What::Lists { .. } => &[method::TOOLS_CHANGED, method::RESOURCES_CHANGED, method::PROMPTS_CHANGED],
        What::Tools => &[method::TOOLS_CHANGED],
        What::Resources => &[method::RESOURCES_CHANGED],
        What::Prompts => &[method::PROMPTS_CHANGED],
        What::Resource { .. } => &[],
    }
}

/// Returns a resource's URI as this endpoint exposes it.
fn exposed(endpoint: &Endpoint, member: Option<&Member>, uri: &str) -> String {
    match (endpoint, member) {
        (Endpoint::All | Endpoint::Plain, Some(member)) => names::exposed_resource(&member.spec.slug, uri),
        _ => uri.to_owned(),
    }
}

pub fn notify(session: &Session, what: &What, member: Option<&Member>) {
    let stream = &session.state.get_stream;
    for list in lists(what) {
        stream.try_send_latest(Topic::List(list), stream::notification(list, None));
    }
    if let What::Resource { uri, params } = what {
        let uri = exposed(&session.endpoint, member, uri);
        if session.facts.subscriptions.contains(&uri)
            && let Ok(mut params) = Members::read(params)
        {
            params.set_text("uri", &uri);
            about(&mut params, None);
            let told = stream::notification(method::RESOURCE_UPDATED, Some(&params.write()));
            stream.try_send_latest(Topic::Resource(uri.into()), told);
        }
    }
}

/// Tells a session that was not known here before that each list may have changed meanwhile.
pub fn notify_missed(session: &Session) {
    if session.state.missed.swap(false, Ordering::Relaxed) {
        notify(session, &What::Lists { servers: Vec::new() }, None);
    }
}

/// Tells a session that a resource may have changed while nobody listened to its server.
pub fn notify_maybe_updated(session: &Session, uri: &str) {
    let params = serde_json::json!({ "uri": uri }).to_string();
    let told = stream::notification(method::RESOURCE_UPDATED, Some(&params));
    session.state.get_stream.try_send_latest(Topic::Resource(uri.into()), told);
}

/// Replaces the upstream's `_meta` about the gateway's subscription by that of the client's.
fn about(params: &mut Members<'_>, listen: Option<&RawValue>) {
    let mut is_empty = false;
    params.edit("_meta", |about| {
        about.retain(|name| !name.starts_with(meta::RESERVED));
        if let Some(id) = listen {
            about.set(meta::SUBSCRIPTION_ID, id.to_owned());
        }
        is_empty = about.is_empty();
    });
    if is_empty {
        params.retain(|name| name != "_meta");
    }
}

impl Subscription {
    pub fn notify(&self, what: &What, member: Option<&Member>) {
        for list in lists(what) {
            let wanted = match *list {
                method::TOOLS_CHANGED => self.filter.tools_list_changed,
                method::PROMPTS_CHANGED => self.filter.prompts_list_changed,
                _ => self.filter.resources_list_changed,
            };
            if wanted {
                self.send(Topic::List(list), list, Members::default());
            }
        }
        if let What::Resource { uri, params } = what {
            let uri = exposed(&self.endpoint, member, uri);
            if self.filter.resource_subscriptions.contains(&uri)
                && let Ok(mut params) = Members::read(params)
            {
                params.set_text("uri", &uri);
                self.send(Topic::Resource(uri.into()), method::RESOURCE_UPDATED, params);
            }
        }
    }

    /// Every message says to which listen it belongs.
    fn send(&self, topic: Topic, told: &str, mut params: Members<'_>) {
        about(&mut params, Some(&self.id));
        self.stream.try_send_latest(topic, stream::notification(told, Some(&params.write())));
    }
}
