//! An upstream that is a child process and speaks MCP over its standard input and output, one JSON
//! message a line. It knows the wire and the handshake; restarts and waiting turns are the pool's.

mod call;
mod envelope;
mod handshake;
mod lines;
mod oddities;
mod outbox;
mod pending;
mod reader;
mod stderr;
mod upstream;
mod wire;

pub use handshake::ClientName;
pub use upstream::{StdioPlan, StdioUpstream};
pub use wire::{WireLimits, WriteStyle};
