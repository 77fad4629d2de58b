//! What upstreams tell that belongs to no request.

use std::sync::Arc;

use super::PoolKey;

/// Something that an upstream told by itself.
#[derive(Clone, Debug)]
pub struct PoolEvent {
    pub key: PoolKey,
    pub news: News,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum News {
    ToolsChanged,
    ResourcesChanged,
    PromptsChanged,
    /// A resource that somebody subscribed to changed. `params` is the raw JSON object.
    ResourceUpdated {
        uri: Arc<str>,
        params: Arc<str>,
    },
    /// A task of the tasks extension changed. `params` is the raw JSON object.
    Task {
        params: Arc<str>,
    },
}
