//! The gateway: HTTP, identity, configuration and the command line. The one composition root: it
//! introduces the crates that do not know each other.

mod app;
mod authn;
mod cli;
mod config;
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod mcp;
mod openapi;
mod ops;
mod pipeline;
mod rest;
mod run;
mod session;
mod stdio_server;
mod subscriptions;

pub use cli::main;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
