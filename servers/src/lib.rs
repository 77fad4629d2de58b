//! Built-in MCP servers, each a [`protocol::provider::ToolProvider`].

pub mod calculator;
pub mod collab;
pub mod filesystem;
pub mod shipped;

pub use calculator::Calculator;
pub use filesystem::{Filesystem, FilesystemSettings};
