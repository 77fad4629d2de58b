//! Upstream side of the gateway: connections, pools, catalogs, routes, permits and shared state, without HTTP
//! server, SQL or configuration files.

pub mod argument_rules;
pub mod backoff;
pub mod breaker;
pub mod bridge;
pub mod catalog;
pub mod child;
pub mod effective;
pub mod egress;
pub mod header_params;
mod logs;
mod masking;
pub mod peer;
pub mod policy;
pub mod pool;
pub mod renames;
pub mod route;
pub mod selected;
pub mod server;
pub mod splice;
pub mod state;
mod telling;
pub mod tls;
pub mod transport;
pub mod upstream;
pub mod view;

pub use peer::message;
pub use transport::{builtin, http, stdio, websocket};
