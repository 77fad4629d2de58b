//! Sessions as they are stored: in SQL, and in the shared state in front of it.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use protocol::{AgentId, TenantId};
use proxy::state::StateKey;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Lifetime of a session without a request.
pub const IDLE: Duration = Duration::from_secs(24 * 3600);

pub type SessionHash = [u8; 32];

/// Stored facts of a session.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    pub version: String,
    pub capabilities: Option<Box<RawValue>>,
    pub info: Option<Box<RawValue>>,
    #[serde(default)]
    pub level: Option<String>,
    /// URIs of resources, as the client named them.
    #[serde(default)]
    pub subscriptions: Vec<String>,
}

/// A session as it is stored.
#[derive(Serialize, Deserialize)]
pub struct Stored {
    pub principal: String,
    pub agent: Option<AgentId>,
    pub endpoint: String,
    /// Seconds since the epoch.
    #[serde(default)]
    pub opened: i64,
    pub facts: Facts,
}

pub fn key(tenant: TenantId, hash: &SessionHash) -> StateKey {
    StateKey::tenant(tenant, &format!("session:{}", URL_SAFE_NO_PAD.encode(hash)))
}

pub fn text(stored: &Stored) -> String {
    serde_json::to_string(stored).expect("a session is plain data")
}

pub fn expiry() -> Timestamp {
    Timestamp::now() + IDLE
}
