//! Upstreams and the way to them: processes, pools, catalogs, routes, permits, shared state. It knows no
//! HTTP server, no SQL and no configuration file.

mod backoff;
pub mod breaker;
pub mod bridge;
pub mod builtin;
pub mod catalog;
pub mod child;
mod duplex;
pub mod egress;
pub mod header_params;
pub mod http;
mod logs;
mod masking;
pub mod message;
pub mod news;
pub mod own;
pub mod policy;
pub mod pool;
pub mod route;
pub mod server;
pub mod splice;
pub mod state;
pub mod stdio;
mod telling;
mod tls;
pub mod upstream;
pub mod view;
pub mod websocket;
