//! Sessions of the legacy era, known by the SHA-256 of their id. The id itself is never here, and what
//! a session's facts mean is not known here.

use std::fmt;

use jiff::Timestamp;

/// A session that has not expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// The principal that the session is bound to.
    pub principal: String,
    /// The slug of the server whose endpoint it was begun at; empty for the whole catalog.
    pub endpoint: String,
    /// The negotiated facts, as they were written.
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

/// Without the hash, by which a session is found.
impl fmt::Debug for NewSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewSession")
            .field("principal", &self.principal)
            .field("endpoint", &self.endpoint)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}
