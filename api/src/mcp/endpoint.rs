//! Endpoints of MCP: plain JSON-RPC, the whole catalog, or one server.

use protocol::Slug;

/// The endpoint that received a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Endpoint {
    /// Plain JSON-RPC: the whole catalog, no session, nothing but the answer.
    Plain,
    /// The caller's whole catalog.
    All,
    /// One server under its own names.
    One(Slug),
}

impl Endpoint {
    /// Returns the text to which sessions of this endpoint are bound.
    pub fn key(&self) -> &str {
        match self {
            Endpoint::Plain | Endpoint::All => "",
            Endpoint::One(slug) => slug.as_str(),
        }
    }

    pub fn slug(&self) -> Option<&Slug> {
        match self {
            Endpoint::One(slug) => Some(slug),
            Endpoint::Plain | Endpoint::All => None,
        }
    }
}
