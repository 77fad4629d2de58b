//! proxy

pub mod breaker;
pub mod builtin;
pub mod child;
mod logs;
pub mod pool;
pub mod server;
pub mod stdio;
pub mod upstream;
