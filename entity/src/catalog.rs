//! Stored catalogs of MCP servers, in parts. The meaning of a part is decided elsewhere.

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
