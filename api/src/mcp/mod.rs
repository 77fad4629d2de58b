//! MCP towards clients: requests, negotiation, and the methods that the gateway answers itself.

pub mod builtin_names;
pub mod call;
pub mod command;
pub mod context;
pub mod endpoint;
pub mod execute;
pub mod headers;
pub mod inbound;
pub mod lifecycle;
pub mod lists;
pub mod methods;
pub mod negotiation;
pub mod notifications;
pub mod param_headers;
pub mod params;
pub mod request;
pub mod resource_uris;
pub mod response;
pub mod sealed_tokens;
mod server_list;
pub mod services;
pub mod tasks;
