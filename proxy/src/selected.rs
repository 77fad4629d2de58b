//! Selection of a server's upstreams for one client, which every access to an upstream requires.

use std::sync::Arc;

use crate::pool::PoolKey;
use crate::server::ServerSpec;

/// A server that may be used, with the keys of the upstreams that serve one client. The methods of
/// [`crate::bridge::Bridge`] make it from a policy or a permit; [`Selected::for_gateway`] needs neither.
#[derive(Clone, Debug)]
pub struct Selected {
    pub(crate) spec: Arc<ServerSpec>,
    /// Key of the upstream of calls.
    pub(crate) key: PoolKey,
    /// Key of the upstream of lists, handshakes and names: the shared one, unless one of the client's own
    /// runs already.
    pub(crate) list_key: PoolKey,
    /// Key of the first upstream of this client alone, which a call starts.
    pub(crate) own: Option<PoolKey>,
    /// False for upkeep, which does not keep an idle upstream running.
    pub(crate) is_use: bool,
}

impl Selected {
    /// Selects an upstream for work of the gateway itself, without a policy: a caller's right, if any, was
    /// proved otherwise (by a scope of REST).
    pub fn for_gateway(spec: Arc<ServerSpec>, key: PoolKey) -> Self {
        Self { spec, key, list_key: key, own: None, is_use: false }
    }

    /// Selects the client's own upstream for lists too.
    pub(crate) fn for_calls(&self) -> Option<Self> {
        self.own.map(|own| Self { list_key: own, ..self.clone() })
    }

    /// Selects the upstream of lists for all that follows.
    pub fn for_lists(self) -> Self {
        Self { key: self.list_key, ..self }
    }

    pub fn spec(&self) -> &Arc<ServerSpec> {
        &self.spec
    }

    /// Returns the key of the upstream of lists.
    pub fn list_key(&self) -> PoolKey {
        self.list_key
    }

    /// Returns the key of the upstream of calls.
    pub fn key(&self) -> PoolKey {
        self.key
    }
}
