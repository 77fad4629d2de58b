//! An upstream that is a child process and speaks MCP over its standard input and output, one JSON
//! message a line. It knows the wire and the handshake; restarts and waiting turns are the pool's.

mod call;
mod declared;
mod ears;
// Open for the fuzz targets only, as are the lines.
#[doc(hidden)]
pub mod envelope;
mod handshake;
#[doc(hidden)]
pub mod lines;
mod link;
mod listeners;
mod oddities;
mod outbox;
mod pending;
mod probe;
mod questions;
mod reader;
mod split;
mod standing;
mod stderr;
mod subscriptions;
mod upstream;
mod wire;
mod writing;

pub use link::StdioPlan;
pub use probe::{Probe, ProbeChild};
pub use upstream::{NotStarted, StdioUpstream};
pub use wire::{WireLimits, WriteStyle};
