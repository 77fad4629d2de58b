//! Composition root of the gateway: HTTP, identity, configuration and the command line.

mod app;
mod authn;
mod builtins;
mod cli;
mod collaboration;
mod commands;
mod config;
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod marketplace;
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
