//! What is the same for every start of one remote server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use protocol::mcp::{Era, method};
use serde::Deserialize;
use tokio::sync::broadcast;
use tokio_util::task::TaskTracker;

use crate::egress::Egress;
use crate::logs::LogRing;
use crate::own::ClientName;
use crate::pool::{News, PoolEvent, PoolKey};
use crate::upstream::Introduction;

/// The most bytes of a message while it is found out what a server is.
const PROBE_CAP: usize = 1 << 20;

#[derive(Clone)]
pub struct RemotePlan {
    /// The server's slug.
    pub who: Arc<str>,
    /// The era in which it is spoken to.
    pub era: Era,
    pub egress: Egress,
    /// Who we say we are, when we speak for ourselves.
    pub client: ClientName,
    /// Whom it is for, when it is for one client.
    pub introduction: Option<Arc<Introduction>>,
    /// None for an upstream that nobody is to hear of.
    pub announce: Option<Announce>,
    pub logs: Arc<LogRing>,
    /// The most bytes of one message.
    pub message_cap: usize,
    pub tasks: TaskTracker,
}

impl RemotePlan {
    /// A plan for finding out what a server is, of which nobody is to hear.
    pub fn for_probe(who: &str, egress: Egress, client_name: &str, client_version: &str) -> RemotePlan {
        RemotePlan {
            who: who.into(),
            era: Era::Legacy,
            egress,
            client: ClientName { name: client_name.to_owned(), version: client_version.to_owned() },
            introduction: None,
            announce: None,
            logs: Arc::new(LogRing::new(8, 4096)),
            message_cap: PROBE_CAP,
            tasks: TaskTracker::new(),
        }
    }
}

/// Where goes what an upstream tells by itself.
#[derive(Clone)]
pub struct Announce {
    pub key: PoolKey,
    pub events: broadcast::Sender<PoolEvent>,
    /// Grows when a list may have changed.
    pub changes: Arc<AtomicU64>,
}

impl Announce {
    /// Tells the pool what belongs to no request; false for any other notification.
    pub fn take(&self, told: &str, params: Option<&str>) -> bool {
        let news = match told {
            method::TOOLS_CHANGED => News::ToolsChanged,
            method::RESOURCES_CHANGED => News::ResourcesChanged,
            method::PROMPTS_CHANGED => News::PromptsChanged,
            method::RESOURCE_UPDATED => {
                let params = params.unwrap_or("{}");
                let Some(uri) = uri_of(params) else { return true };
                News::ResourceUpdated { uri: uri.into(), params: params.into() }
            }
            method::TASKS => News::Task { params: params.unwrap_or("{}").into() },
            _ => return false,
        };
        if matches!(news, News::ToolsChanged | News::ResourcesChanged | News::PromptsChanged) {
            self.missed();
        }
        // An error means that nobody listens.
        drop(self.events.send(PoolEvent { key: self.key, news }));
        true
    }

    /// What was listed before may be stale.
    pub fn missed(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }
}

fn uri_of(params: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Shape {
        uri: String,
    }
    serde_json::from_str::<Shape>(params).ok().map(|shape| shape.uri)
}
