//! The way of a call to an upstream, and what replicas share on it. No HTTP server, no SQL.

pub mod egress;
pub mod state;
