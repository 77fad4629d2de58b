//! The gateway: HTTP, identity, configuration and the command line. The one composition root: it
//! introduces the rooms that do not know each other.

mod app;
mod ask;
mod authn;
mod backlog;
mod cli;
mod config;
mod connection;
mod dialect;
mod directory;
mod doors;
mod edge;
mod exposed;
#[doc(hidden)]
pub mod fuzzing;
mod gateway;
mod headers;
mod health;
mod health_check;
mod host;
mod hub;
mod limits;
mod lists;
mod local;
mod logs;
mod metrics;
mod notices;
mod oauth;
mod open_streams;
mod openapi;
mod parameters;
mod problem;
mod recorder;
mod relay;
mod remote;
mod reply;
mod request_body;
mod rest;
mod routes;
mod run;
mod secrets;
mod serve;
mod session;
mod stdio_door;
mod stream;
mod tasks;
mod tickets;
mod wanted;

pub use cli::main;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
