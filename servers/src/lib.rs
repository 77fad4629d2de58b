//! Built-in MCP servers, each a [`protocol::provider::ToolProvider`].

pub mod calculator;
pub mod collab;
pub mod database;
pub mod filesystem;
pub mod shipped;
pub mod sql;

pub use calculator::Calculator;
pub use database::Database;
pub use filesystem::{Filesystem, FilesystemSettings};
