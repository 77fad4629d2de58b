//! An upstream that is a remote MCP server behind HTTP: Streamable HTTP of either era, or the older HTTP
//! with SSE. It knows the transport and the handshake; restarts and waiting turns are the pool's.

pub mod sse;

pub(crate) mod audience;
mod eras;
mod exchange;
pub(crate) mod failure;
mod fallback;
pub(crate) mod handshake;
pub(crate) mod headers;
mod line;
mod link;
pub(crate) mod listen;
mod listening;
pub(crate) mod plan;
mod standing;
mod upstream;

pub use eras::eras;
pub use headers::{modern as modern_headers, own as own_headers};
pub use plan::{Announce, RemotePlan};
pub use upstream::{Started, start};

pub(crate) use upstream::not_started;
