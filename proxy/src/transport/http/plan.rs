//! The part of a start that is the same for every start of one remote server.

use std::sync::Arc;

use protocol::mcp::Era;
use tokio_util::task::TaskTracker;

use crate::egress::Egress;
use crate::logs::LogRing;
use crate::peer::PeerPlan;
use crate::peer::gateway_client::ClientInfo;

/// The most bytes of a message while it is found out what a server is.
const PROBE_CAP: usize = 1 << 20;

#[derive(Clone)]
pub struct RemotePlan {
    pub peer: PeerPlan,
    pub egress: Egress,
    /// The most bytes of one message.
    pub message_cap: usize,
}

impl RemotePlan {
    /// Returns a plan for finding out what a server is, of which nobody is to hear.
    pub fn for_probe(server: &str, egress: Egress, client_name: &str, client_version: &str) -> RemotePlan {
        let peer = PeerPlan {
            server: server.into(),
            era: Era::Legacy,
            gateway: ClientInfo { name: client_name.to_owned(), version: client_version.to_owned() },
            client: None,
            serves_one_client: false,
            publish: Arc::new(|_| {}),
            logs: Arc::new(LogRing::new(8, 4096)),
            tasks: TaskTracker::new(),
        };
        RemotePlan { peer, egress, message_cap: PROBE_CAP }
    }

    /// Returns the same for asking a server whether it speaks an era.
    pub fn asking(&self, era: Era) -> RemotePlan {
        let peer = PeerPlan { era, client: None, publish: Arc::new(|_| {}), ..self.peer.clone() };
        RemotePlan { peer, ..self.clone() }
    }
}
