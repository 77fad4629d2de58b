//! Transports of MCP: each opens connections for the peer and carries their messages.

pub mod builtin;
pub mod http;
mod sse_legacy;
pub mod stdio;
pub mod websocket;
