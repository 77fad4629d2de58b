//! Resources with subscriptions: of this replica, published to the others, and of other replicas, for which the
//! upstreams of this replica are subscribed to as well. So a change is heard whichever replica's upstream
//! made it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use futures_util::future::join_all;
use protocol::{ServerId, TenantId};
use proxy::pool::{Pool, PoolKey, Subscribed};
use proxy::selected::Selected;

use crate::subscriptions::replica_bus::Resource;

/// How often other replicas are told again.
pub const TELL: Duration = Duration::from_secs(20);

/// How long what another replica said is believed.
const BELIEVED: Duration = Duration::from_secs(60);

/// How long an upstream may take for a subscription that nobody here asked for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Most subscriptions that are made in one go.
const AT_ONCE: usize = 100;

/// Most resources that are watched for other replicas.
const MOST: usize = 10_000;

#[derive(Default)]
pub struct ReplicaInterest {
    /// Of other replicas, and until when.
    there: DashMap<(TenantId, ServerId), HashMap<String, Instant>>,
    /// What is subscribed to for them; none where that failed, until nobody wants it any more.
    held: DashMap<(PoolKey, String), Option<Subscribed>>,
}

impl ReplicaInterest {
    /// Returns the resources that streams of this replica are subscribed to, which other replicas are told:
    /// those of the pool without what is held for others.
    pub fn here(&self, pool: &Pool) -> Vec<Resource> {
        let own = |(key, uri, count): (PoolKey, Arc<str>, usize)| {
            let place = (key, uri.to_string());
            let held = usize::from(self.held.get(&place).is_some_and(|held| held.is_some()));
            (count > held).then(|| Resource { tenant: key.tenant, server: key.server, uri: place.1 })
        };
        let own: HashSet<Resource> = pool.subscribed().into_iter().filter_map(own).collect();
        own.into_iter().collect()
    }

    /// What another replica said.
    pub fn hear(&self, resources: Vec<Resource>) {
        let until = Instant::now() + BELIEVED;
        for Resource { tenant, server, uri } in resources {
            let mut uris = self.there.entry((tenant, server)).or_default();
            if uris.len() < MOST || uris.contains_key(&uri) {
                uris.insert(uri, until);
            }
        }
    }

    /// Forgets what nobody wants any more.
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

    /// Sees to it that an upstream tells of what other replicas want to hear of.
    pub async fn watch(&self, pool: &Pool, selected: &Selected) {
        let key = selected.key();
        let Some(uris) = self.there.get(&(key.tenant, key.server)).map(|uris| uris.clone()) else { return };
        let places = uris.into_keys().map(|uri| (key, uri));
        let new: Vec<_> = places.filter(|place| !self.held.contains_key(place)).take(AT_ONCE).collect();
        if self.held.len() >= MOST {
            return;
        }
        let until = Instant::now() + PATIENCE;
        join_all(new.into_iter().map(|place| async move {
            let uri = place.1.clone();
            match pool.subscribe(selected, &uri, until).await {
                Ok(subscribed) => drop(self.held.insert(place, subscribed.ok())),
                // It is tried again with the next call, or when the other replica says so again.
                Err(refusal) => tracing::debug!(%refusal, "a resource is not watched for another replica"),
            }
        }))
        .await;
    }
}
