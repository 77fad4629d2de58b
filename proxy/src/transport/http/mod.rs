//! Transport of MCP by Streamable HTTP of either era to a remote server. Restarts and waiting turns are the
//! pool's.

pub mod sse;

pub(super) mod client;
mod connection;
mod eras;
mod exchange;
pub(super) mod failure;
mod get_stream;
pub(super) mod headers;
mod listen;
mod plan;
mod upstream;

pub use crate::peer::upstream::Started;
pub use client::{Events, HttpClient, Reply, StreamPosition};
pub use eras::eras;
pub use failure::Trouble;
pub use headers::{modern as modern_headers, own as own_headers};
pub use plan::RemotePlan;
pub use upstream::start;

pub(super) use connection::ASIDE;
pub(super) use upstream::{not_started, shake_or_close};
