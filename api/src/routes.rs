//! All routes and all layers, each in one place, in the order in which a reader would look for them.

use std::sync::Arc;

use axum::Router;
use axum::http::HeaderName;
use axum::middleware;
use axum::routing::{get, post};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::app::App;
use crate::edge::{Guard, edge};
use crate::{doors, health, metrics, openapi, problem, rest};

/// The gateway's own listener.
pub fn gateway(app: &Arc<App>) -> Router {
    let guard = Arc::new(Guard {
        hosts: app.config.server.allowed_hosts.clone(),
        origins: app.config.server.allowed_origins.clone(),
        bound: app.config.bind_address(),
    });
    let (rest, _) = rest::router().split_for_parts();
    let rest = rest.layer(middleware::from_fn_with_state(Arc::clone(app), doors::rest::admit));
    Router::new()
        .route("/mcp/rpc", post(doors::rpc::rpc))
        .route("/v1/mcp/execute", post(doors::execute::execute_tool))
        .merge(rest)
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        .merge(openapi::routes())
        .layer(middleware::from_fn(problem::finish))
        .layer(cors(app))
        .layer(middleware::from_fn_with_state(guard, edge))
        .with_state(Arc::clone(app))
}

/// Pages of the allowed origins may read the answers; nobody else's browser may.
fn cors(app: &App) -> CorsLayer {
    let origins = &app.config.server.allowed_origins;
    let origins = origins.iter().filter_map(|origin| origin.trim_end_matches('/').parse().ok());
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods(tower_http::cors::AllowMethods::mirror_request())
        .allow_headers(tower_http::cors::AllowHeaders::mirror_request())
        .expose_headers([HeaderName::from_static("x-request-id"), HeaderName::from_static("retry-after")])
}

/// The figures' listener.
pub fn figures(app: &Arc<App>, handle: metrics_exporter_prometheus::PrometheusHandle) -> Router {
    let app = Arc::clone(app);
    let show = move || {
        let (app, handle) = (Arc::clone(&app), handle.clone());
        async move {
            metrics::scrape(&app).await.publish();
            handle.render()
        }
    };
    Router::new().route("/metrics", get(show))
}
