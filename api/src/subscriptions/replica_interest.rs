//! Subscribed resources of replicas: those of this one are published; those of others are subscribed at
//! upstreams of this replica as well. So a change is noticed whichever replica's upstream made it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use futures_util::future::join_all;
use protocol::{ServerId, TenantId};
use proxy::pool::{Pool, PoolKey, Subscribed};
use proxy::selected::Selected;

use crate::subscriptions::replica_bus::Resource;

/// Interval of publications to other replicas.
pub const PUBLISH_EVERY: Duration = Duration::from_secs(20);

/// Time for which another replica's resources are remembered.
const BELIEVED: Duration = Duration::from_secs(60);

/// Time limit of a subscription for another replica.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Most subscriptions that are made in one go.
const AT_ONCE: usize = 100;

/// Most resources that are watched for other replicas.
const MOST: usize = 10_000;

#[derive(Default)]
pub struct ReplicaInterest {
    /// Resources of other replicas, and the expiry of each.
    there: DashMap<(TenantId, ServerId), HashMap<String, Instant>>,
    /// Subscriptions for other replicas; none for a failed one, until no replica wants the resource.
    held: DashMap<(PoolKey, String), Option<Subscribed>>,
}

impl ReplicaInterest {
    /// Returns the resources that streams of this replica are subscribed to: those of the pool without the
    /// subscriptions for other replicas.
    pub fn here(&self, pool: &Pool) -> Vec<Resource> {
        let own = |(key, uri, count): (PoolKey, Arc<str>, usize)| {
            let place = (key, uri.to_string());
            let held = usize::from(self.held.get(&place).is_some_and(|held| held.is_some()));
            (count > held).then_some(Resource { tenant: key.tenant, server: key.server, uri: place.1 })
        };
        let own: HashSet<Resource> = pool.subscribed().into_iter().filter_map(own).collect();
        own.into_iter().collect()
    }

    /// Notes the resources of another replica.
    pub fn note(&self, resources: Vec<Resource>) {
        let until = Instant::now() + BELIEVED;
        for Resource { tenant, server, uri } in resources {
            let mut uris = self.there.entry((tenant, server)).or_default();
            if uris.len() < MOST || uris.contains_key(&uri) {
                uris.insert(uri, until);
            }
        }
    }

    /// Forgets resources that no replica wants any more.
    pub fn tidy(&self) {
        let now = Instant::now();
        self.there.retain(|_, uris| {
            uris.retain(|_, until| *until > now);
            !uris.is_empty()
        });
        self.held.retain(|(key, uri), _| {
            let wanted = self.there.get(&(key.tenant, key.server));
            wanted.is_some_and(|uris| uris.contains_key(uri))
        });
    }

    pub fn is_empty(&self) -> bool {
        self.there.is_empty()
    }

    /// Subscribes an upstream to the resources of other replicas.
    pub async fn watch(&self, pool: &Pool, selected: &Selected) {
        let key = selected.key();
        let Some(uris) = self.there.get(&(key.tenant, key.server)).map(|uris| uris.clone()) else { return };
        let places = uris.into_keys().map(|uri| (key, uri));
        let new: Vec<_> = places.filter(|place| !self.held.contains_key(place)).take(AT_ONCE).collect();
        if self.held.len() >= MOST {
            return;
        }
        let until = Instant::now() + SUBSCRIBE_TIMEOUT;
        join_all(new.into_iter().map(|place| async move {
            let uri = place.1.clone();
            match pool.subscribe(selected, &uri, until).await {
                Ok(subscribed) => drop(self.held.insert(place, subscribed.ok())),
                // The next call repeats the attempt, or the next message of the other replica.
                Err(refusal) => tracing::debug!(%refusal, "a resource is not watched for another replica"),
            }
        }))
        .await;
    }
}
