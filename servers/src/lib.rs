//! Built-in MCP servers, each a [`protocol::provider::ToolProvider`].

pub mod calculator;
pub mod collab;
#[cfg(test)]
mod hostile_tests;
pub mod web;

pub use calculator::Calculator;
pub use web::Web;
