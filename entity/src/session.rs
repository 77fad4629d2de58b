//! Legacy MCP sessions, identified by the SHA-256 of their id. The id itself is never stored, and the
//! meaning of a session's facts is decided elsewhere.

use std::fmt;

use jiff::Timestamp;

/// A session that has not expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// Principal that the session is bound to.
    pub principal: String,
    /// Slug of the server at whose endpoint the session began; empty for the whole catalog.
    pub endpoint: String,
    /// Negotiated facts, as written by the caller.
    pub facts: String,
    pub created_at: Timestamp,
    pub seen_at: Timestamp,
    pub expires_at: Timestamp,
}

#[derive(Clone)]
pub struct NewSession {
    /// SHA-256 of the id.
    pub id_hash: [u8; 32],
    pub principal: String,
    pub endpoint: String,
    pub facts: String,
    pub expires_at: Timestamp,
}

/// Leaves out the hash, which identifies a session.
impl fmt::Debug for NewSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewSession")
            .field("principal", &self.principal)
            .field("endpoint", &self.endpoint)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}
