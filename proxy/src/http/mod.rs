//! An upstream that is a remote MCP server behind HTTP: Streamable HTTP of either era, or the older HTTP
//! with SSE. It knows the transport and the handshake; restarts and waiting turns are the pool's.

pub mod sse;

mod audience;
mod eras;
mod exchange;
mod failure;
mod handshake;
mod headers;
mod line;
mod link;
mod listen;
mod message;
mod plan;
mod standing;
mod upstream;

pub use eras::eras;
pub use headers::own as own_headers;
pub use plan::{Announce, RemotePlan};
pub use upstream::start;
