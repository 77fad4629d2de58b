//! Resources that somebody is subscribed to: here, which other replicas are told, and there, for which the
//! upstreams of this replica are subscribed to as well. So a change is heard whichever replica's upstream
//! made it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use futures_util::future::join_all;
use parking_lot::Mutex;
use protocol::{ServerId, TenantId};
use proxy::pool::{Pool, PoolKey};
use proxy::selected::Selected;
use proxy::upstream::UpstreamAnswer;

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
    /// Counted, of this replica's own streams.
    here: Mutex<HashMap<Resource, usize>>,
    /// Of other replicas, and until when.
    there: DashMap<(TenantId, ServerId), HashMap<String, Instant>>,
    /// What is subscribed to for them; none where that failed, until nobody wants it any more.
    held: DashMap<(PoolKey, String), Option<Subscribed>>,
}

/// A counted subscription at an upstream, taken back when dropped.
pub struct Subscribed {
    pub pool: Pool,
    pub key: PoolKey,
    pub uri: String,
    /// Where it is counted as one of this replica's own.
    pub interest: Option<Arc<ReplicaInterest>>,
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        self.pool.unsubscribe(&self.key, &self.uri);
        if let Some(interest) = &self.interest {
            interest.forget(&self.resource());
        }
    }
}

impl Subscribed {
    pub fn resource(&self) -> Resource {
        Resource { tenant: self.key.tenant, server: self.key.server, uri: self.uri.clone() }
    }
}

impl ReplicaInterest {
    pub fn note(&self, resource: Resource) {
        *self.here.lock().entry(resource).or_default() += 1;
    }

    fn forget(&self, resource: &Resource) {
        let mut here = self.here.lock();
        if let Some(count) = here.get_mut(resource) {
            *count -= 1;
            if *count == 0 {
                here.remove(resource);
            }
        }
    }

    /// What other replicas are to be told.
    pub fn here(&self) -> Vec<Resource> {
        self.here.lock().keys().cloned().collect()
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
                Ok(UpstreamAnswer::Result(_)) => {
                    let held = Subscribed { pool: pool.clone(), key, uri, interest: None };
                    self.held.insert(place, Some(held));
                }
                Ok(UpstreamAnswer::Error(_)) => drop(self.held.insert(place, None)),
                // It is tried again with the next call, or when the other replica says so again.
                Err(refusal) => tracing::debug!(%refusal, "a resource is not watched for another replica"),
            }
        }))
        .await;
    }
}
