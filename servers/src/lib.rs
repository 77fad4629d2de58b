//! Built-in MCP servers, each a [`protocol::provider::ToolProvider`].

pub mod calculator;
pub mod collab;
pub mod database;
pub mod filesystem;
#[cfg(test)]
mod hostile_tests;
pub mod shipped;
pub mod sql;
pub mod web;

pub use calculator::Calculator;
pub use database::Database;
pub use filesystem::{Filesystem, FilesystemSettings};
pub use web::Web;
