//! What upstreams tell that belongs to no request, with the key of the one that told it.

use super::PoolKey;
use crate::news::News;

/// Something that an upstream told by itself.
#[derive(Clone, Debug)]
pub struct PoolEvent {
    pub key: PoolKey,
    pub news: News,
}
