//! proxy

pub mod breaker;
pub mod child;
pub mod pool;
pub mod server;
pub mod upstream;
