//! Stored catalogs of MCP servers, in parts, and the lists of last discoveries. The meaning of a part is decided
//! elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use protocol::ServerId;
use protocol::mcp::Era;

/// One list, or the handshake, that a server answered one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogPart {
    pub server: ServerId,
    pub revision: i32,
    pub era: Era,
    /// Client capabilities that the handshake named, as bits.
    pub declared: u64,
    /// Name of the part.
    pub part: String,
    /// JSON, as the server wrote it.
    pub body: Arc<str>,
    pub listed_at: Timestamp,
}

/// One list of a tenant's last discovery of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveredList {
    /// Name of the list.
    pub list: String,
    /// Digest of each item, by the item's name.
    pub items: BTreeMap<String, String>,
    pub listed_at: Timestamp,
}
