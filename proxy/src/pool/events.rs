//! Events of upstreams, with the key of the upstream.

use super::PoolKey;
use crate::peer::events::UpstreamEvent;

#[derive(Clone, Debug)]
pub struct PoolEvent {
    pub key: PoolKey,
    pub event: UpstreamEvent,
}
