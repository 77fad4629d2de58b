//! Dispatch of change notifications to `subscriptions/listen` streams and legacy GET streams. Changes come
//! from upstreams, from the registry and from other replicas.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use futures_util::StreamExt;
use protocol::mcp::{meta, method};
use protocol::{AgentId, Caller, ServerId, TenantId};
use proxy::bridge::is_slot_of;
use proxy::pool::{Pool, PoolKey, UpstreamEvent};
use proxy::upstream::UpstreamAnswer;
use proxy::view::Member;
use serde_json::value::RawValue;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::authn::Owner;
use crate::mcp::endpoint::Endpoint;
use crate::pipeline::directory::Directory;
use crate::session::stream::Stream;
use crate::session::{Sessions, stream};
use crate::subscriptions::delivery::{Subscription, notify};
use crate::subscriptions::filter::SubscriptionFilter;
use crate::subscriptions::replica_bus;
use crate::subscriptions::replica_bus::{Answer, Change, Message, ReplicaBus, What};
use crate::subscriptions::replica_interest::ReplicaInterest;

/// Time for which changes are gathered.
const MOMENT: Duration = Duration::from_millis(50);

/// Most distinct changes of one such time; more are dropped.
const MOST_GATHERED: usize = 10_000;

/// Pause after a lost connection.
const AGAIN: Duration = Duration::from_secs(1);

pub struct Dispatcher {
    directory: Arc<Directory>,
    sessions: Arc<Sessions>,
    pub bus: Arc<ReplicaBus>,
    pool: Pool,
    subscriptions: DashMap<u64, Subscription>,
    next: AtomicU64,
    pub ending: CancellationToken,
    pub interest: Arc<ReplicaInterest>,
    tasks: TaskTracker,
}

/// Ends a subscription when dropped.
pub struct SubscriptionGuard {
    dispatcher: Arc<Dispatcher>,
    number: u64,
}

impl Drop for SubscriptionGuard {
    fn drop(&mut self) {
        self.dispatcher.subscriptions.remove(&self.number);
    }
}

impl Dispatcher {
    pub fn new(
        directory: Arc<Directory>,
        sessions: Arc<Sessions>,
        bus: Arc<ReplicaBus>,
        pool: Pool,
        interest: Arc<ReplicaInterest>,
    ) -> Dispatcher {
        Dispatcher {
            directory,
            sessions,
            bus,
            pool,
            subscriptions: DashMap::new(),
            next: AtomicU64::new(1),
            ending: CancellationToken::new(),
            interest,
            tasks: TaskTracker::new(),
        }
    }

    /// Registers a subscription: the acknowledgement is its first message.
    pub fn listen(
        self: &Arc<Self>,
        caller: &Caller,
        owner: u64,
        endpoint: &Endpoint,
        filter: SubscriptionFilter,
        id: &RawValue,
        stream: &Arc<Stream>,
    ) -> SubscriptionGuard {
        let (tenant, agent) = (caller.tenant, caller.agent);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let honoured = serde_json::to_string(&filter).expect("plain data");
        let params =
            format!(r#"{{"notifications":{honoured},"_meta":{{"{}":{}}}}}"#, meta::SUBSCRIPTION_ID, id.get());
        stream.mark_long_lived(Owner { tenant, agent });
        stream.charge_to(&self.sessions.backlogs.of(tenant));
        stream.send(stream::notification(method::ACKNOWLEDGED, Some(&params)));
        let (endpoint, id, stream) = (endpoint.clone(), id.to_owned(), Arc::clone(stream));
        self.subscriptions
            .insert(number, Subscription { tenant, agent, owner, endpoint, filter, id, stream });
        SubscriptionGuard { dispatcher: Arc::clone(self), number }
    }

    /// Dispatches changes until the gateway stops. Repeated changes of an upstream within a moment are sent
    /// once, so that a busy upstream does not delay the others.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut events = self.pool.events();
        let mut registry = self.directory.changes();
        let mut gathered: HashMap<(PoolKey, String), (Change, bool)> = HashMap::new();
        let mut ticks = tokio::time::interval(MOMENT);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                event = events.recv() => match event {
                    Ok(event) if gathered.len() < MOST_GATHERED => {
                        let change = change(event.key, event.event);
                        let name = change.what.name().to_owned();
                        gathered.insert((event.key, name), (change, event.in_each_replica));
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(lost)) => {
                        tracing::debug!(lost, "changes came faster than they could be gathered");
                        self.pass_everything().await;
                    }
                    Err(RecvError::Closed) => break,
                },
                changed = registry.recv() => match changed {
                    Ok((tenant, servers)) => {
                        // Each replica sees the registry's changes itself.
                        let what = What::Lists { servers };
                        self.pass(&Change { tenant, server: None, owner: 0, what }).await;
                    }
                    Err(RecvError::Lagged(_)) => self.pass_everything().await,
                    Err(RecvError::Closed) => break,
                },
                _ = ticks.tick(), if !gathered.is_empty() => {
                    for (_, (change, in_each_replica)) in gathered.drain() {
                        self.pass(&change).await;
                        if !in_each_replica {
                            self.bus.publish(Message::Changed(change)).await;
                        }
                    }
                }
            }
        }
        self.ending.cancel();
    }

    /// Announces a change of all lists to every subscriber, after changes were lost.
    async fn pass_everything(&self) {
        let mut tenants: HashSet<TenantId> =
            self.subscriptions.iter().map(|subscription| subscription.tenant).collect();
        tenants.extend(self.sessions.tenants());
        for tenant in tenants {
            let Ok(view) = self.directory.view(tenant).await else { continue };
            let servers = view.members().iter().map(|member| member.spec.slug.clone()).collect();
            self.pass(&Change { tenant, server: None, owner: 0, what: What::Lists { servers } }).await;
        }
    }

    /// Handles messages of other replicas until the gateway stops.
    pub async fn receive(self: Arc<Self>, stop: CancellationToken) {
        let receiving = async {
            loop {
                match self.bus.subscribe().await {
                    Ok(mut messages) => {
                        while let Some(message) = messages.next().await {
                            self.take(message).await;
                        }
                    }
                    Err(error) => tracing::warn!(%error, "other replicas cannot be received from yet"),
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = receiving => {}
        }
    }

    async fn take(self: &Arc<Self>, message: Message) {
        let known = |session: &str| {
            let hash = replica_bus::session_hash(session)?;
            self.sessions.known(&hash)
        };
        match message {
            Message::Changed(change) => self.pass(&change).await,
            Message::Wanted { wanted } => {
                self.interest.note(wanted);
                // Spawned, so that other replicas' answers and cancellations do not wait.
                let dispatcher = Arc::clone(self);
                self.tasks.spawn(async move { dispatcher.watch_for_others().await });
            }
            Message::Listed { tenant, server } => {
                // Spawned, so that other messages do not wait for the database.
                let dispatcher = Arc::clone(self);
                self.tasks.spawn(async move { dispatcher.restore(tenant, server).await });
            }
            Message::Answered { session, id, answer } => {
                if let Some(session) = known(&session) {
                    let answer = match answer {
                        Answer::Result(result) => UpstreamAnswer::Result(result.into()),
                        Answer::Error(error) => UpstreamAnswer::Error(error.into()),
                    };
                    session.state.answer(&id, answer);
                }
            }
            Message::Cancelled { session, id } => {
                if let Some(session) = known(&session) {
                    session.state.cancel(&id);
                }
            }
            Message::Renewed { session } => {
                if let Some(session) = known(&session) {
                    self.sessions.renew(&session).await;
                }
            }
            Message::Read { session } => {
                if let Some(session) = known(&session) {
                    session.state.release_reader();
                }
            }
            Message::Missed => {
                let dispatcher = Arc::clone(self);
                self.tasks.spawn(async move {
                    dispatcher.sessions.renew_read().await;
                    for tenant in dispatcher.directory.tenants() {
                        // All lists are announced below.
                        dispatcher.directory.restore_again(tenant, None).await;
                    }
                    dispatcher.pass_everything().await;
                });
            }
            Message::Closed { session } => {
                if let Some(hash) = replica_bus::session_hash(&session) {
                    self.sessions.forget(&hash);
                }
            }
        }
    }

    /// Reads the lists that another replica stored, and tells of those that were shown here.
    async fn restore(&self, tenant: TenantId, server: ServerId) {
        for (server, kind) in self.directory.restore_again(tenant, Some(server)).await {
            self.pass(&Change { tenant, server: Some(server), owner: 0, what: kind.into() }).await;
        }
    }

    /// Publishes the resources to which this replica's streams are subscribed.
    pub async fn publish_interest(&self) {
        self.interest.tidy();
        let wanted = self.interest.here(&self.pool);
        if !wanted.is_empty() {
            self.bus.publish(Message::Wanted { wanted }).await;
        }
    }

    /// Subscribes running upstreams for other replicas. An upstream that starts later is subscribed by the
    /// call that starts it.
    async fn watch_for_others(&self) {
        for selected in self.pool.select_running() {
            self.interest.watch(&self.pool, &selected).await;
        }
    }

    /// Sends a change to its subscribers in this replica.
    async fn pass(&self, change: &Change) {
        if self.subscriptions.is_empty() && self.sessions.is_empty() {
            return;
        }
        let view = match self.directory.view(change.tenant).await {
            Ok(view) => view,
            Err(refusal) => return tracing::warn!(%refusal, "a change cannot be passed on"),
        };
        let member = change.server.and_then(|server| view.members().iter().find(|one| one.spec.id == server));
        if change.server.is_some() && member.is_none() {
            return;
        }
        for subscription in &self.subscriptions {
            let mine = change.owner == 0 || is_slot_of(change.owner, subscription.owner);
            if mine
                && subscription.tenant == change.tenant
                && concerns(change, &subscription.endpoint)
                && reaches(&subscription.endpoint, member, subscription.agent)
            {
                subscription.notify(&change.what, member);
            }
        }
        for session in self.sessions.with_reader(change.tenant) {
            let mine = change.owner == 0 || change.owner == session.client.owner;
            if mine
                && concerns(change, &session.endpoint)
                && reaches(&session.endpoint, member, session.agent)
            {
                notify(&session, &change.what, member);
            }
        }
    }
}

fn change(key: PoolKey, event: UpstreamEvent) -> Change {
    let what = match event {
        UpstreamEvent::ToolsChanged => What::Tools,
        UpstreamEvent::ResourcesChanged => What::Resources,
        UpstreamEvent::PromptsChanged => What::Prompts,
        UpstreamEvent::ResourceUpdated { uri, params } => {
            What::Resource { uri: uri.to_string(), params: params.to_string() }
        }
    };
    Change { tenant: key.tenant, server: Some(key.server), owner: key.owner, what }
}

/// Returns true if a change of the registry concerns servers of this endpoint.
fn concerns(change: &Change, endpoint: &Endpoint) -> bool {
    match (&change.what, endpoint) {
        (What::Lists { servers }, Endpoint::One(slug)) => servers.contains(slug),
        _ => true,
    }
}

/// Returns true if a change at this server is visible at this endpoint, to this agent.
fn reaches(endpoint: &Endpoint, member: Option<&Member>, agent: Option<AgentId>) -> bool {
    let Some(member) = member else { return true };
    endpoint.slug().is_none_or(|slug| *slug == member.spec.slug) && member.policy(agent).server().is_ok()
}
