//! Transport of MCP over the standard streams of a child process, one JSON message per line. The pool does
//! restarts and queueing.

mod connection;
mod discover;
// Public only for the fuzz targets, as are the lines.
#[doc(hidden)]
pub mod envelope;
#[doc(hidden)]
pub mod lines;
mod outbox;
mod reader;
mod split;
mod stderr;
mod upstream;
mod writing;

pub use connection::{StdioLimits, StdioPlan, stopped};
pub use discover::Discovered;
pub use upstream::{NotStarted, StartedChild, StartingChild, start};
