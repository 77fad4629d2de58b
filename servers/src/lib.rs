//! Built-in MCP servers, each a [`protocol::provider::ToolProvider`].

pub mod calculator;

pub use calculator::Calculator;
