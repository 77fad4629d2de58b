//! HTTP listeners: endpoints turn requests into those of the pipeline and answers into responses. They call
//! `Gateway::handle` and nothing deeper.

pub mod authorization;
pub mod body;
mod command;
pub mod connection;
pub mod detached;
pub mod execute;
pub mod headers;
pub mod host;
pub mod listener;
pub mod middleware;
pub mod oauth_metadata;
pub mod paths;
pub mod problem;
pub mod request;
pub mod response;
pub mod rest_auth;
pub mod routes;
pub mod rpc;
pub mod session_requests;
pub mod sse;
pub mod stream_credential;
pub mod streamable;
pub mod tools;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

/// Returns the routes that call the pipeline, with their part of the OpenAPI document.
pub fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default()
        .routes(routes!(streamable::call_mcp, session_requests::listen_mcp, session_requests::end_mcp))
        .routes(routes!(rpc::call_rpc))
        .routes(routes!(execute::execute_tool))
        .routes(routes!(command::execute_command))
        .routes(routes!(tools::call_tool))
}
