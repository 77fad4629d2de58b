//! The MCP servers that Trunkline ships, each a [`protocol::provider::ToolProvider`].

pub mod calculator;

pub use calculator::Calculator;
