//! Events of upstreams, with the key of the upstream.

use tokio::sync::broadcast;

use super::{Pool, PoolKey};
use crate::peer::events::UpstreamEvent;

#[derive(Clone, Debug)]
pub struct PoolEvent {
    pub key: PoolKey,
    pub event: UpstreamEvent,
    /// Every replica has this event itself, so that it needs not be passed on.
    pub in_each_replica: bool,
}

impl Pool {
    /// Returns a receiver of future events. A slow reader loses the oldest events and gets an error.
    pub fn events(&self) -> broadcast::Receiver<PoolEvent> {
        self.shared.events.subscribe()
    }

    /// Publishes an event that the gateway found itself.
    pub(crate) fn publish(&self, key: PoolKey, event: UpstreamEvent) {
        // Events need no receiver.
        self.shared.events.send(PoolEvent { key, event, in_each_replica: false }).ok();
    }

    /// Returns a receiver of the keys of upstreams that start. A slow reader loses the oldest and gets an
    /// error.
    pub fn starts(&self) -> broadcast::Receiver<PoolKey> {
        self.shared.started.subscribe()
    }
}
