//! Routes and middleware of the listeners, in the order in which a reader would look for them.

use std::sync::Arc;

use axum::Router;
use axum::http::header::RETRY_AFTER;
use axum::middleware;
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::app::App;
use crate::authn::oauth::WELL_KNOWN;
use crate::http::headers::{REQUEST_ID, SESSION_ID};
use crate::http::middleware::{Guard, check_and_log};
use crate::http::session_requests;
use crate::http::{paths, problem, streamable};
use crate::ops::{endpoints, metrics};
use crate::{http, openapi, rest};

/// Returns the routes of the gateway's listener.
pub fn gateway(app: &Arc<App>) -> Router {
    let guard = Arc::new(Guard {
        hosts: app.config.all_hosts(),
        origins: app.config.server.allowed_origins.clone(),
        bound: app.config.bind_address(),
    });
    let (mcp, _) = http::router().split_for_parts();
    let (health, _) = endpoints::router().split_for_parts();
    let (rest, _) = rest::router().split_for_parts();
    // Layered on known routes only: an unknown path is 404 for everybody.
    let rest = rest.route_layer(middleware::from_fn_with_state(Arc::clone(app), http::rest_auth::admit));
    let router = Router::new()
        .merge(mcp)
        .route(
            &format!("{}{{slug}}", paths::SERVER),
            post(streamable::call_mcp).get(session_requests::listen_mcp).delete(session_requests::end_mcp),
        )
        .route(WELL_KNOWN, get(http::oauth_metadata::resource_metadata))
        .route(&format!("{WELL_KNOWN}/{{*path}}"), get(http::oauth_metadata::resource_metadata))
        .merge(http::authorization::routes())
        .merge(rest)
        .merge(health)
        .merge(openapi::routes())
        .layer(middleware::from_fn(problem::finish))
        .layer(CatchPanicLayer::custom(problem::of_panic));
    // The last layer is the outermost: a request meets the layers from last to first.
    let router = if app.config.server.allowed_origins.is_empty() { router } else { router.layer(cors(app)) };
    router.layer(middleware::from_fn_with_state(guard, check_and_log)).with_state(Arc::clone(app))
}

/// Returns the CORS layer: only pages of the allowed origins may read the answers.
fn cors(app: &App) -> CorsLayer {
    let origins = &app.config.server.allowed_origins;
    let origins = origins.iter().filter_map(|origin| origin.trim_end_matches('/').parse().ok());
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods(tower_http::cors::AllowMethods::mirror_request())
        .allow_headers(tower_http::cors::AllowHeaders::mirror_request())
        .expose_headers([REQUEST_ID, RETRY_AFTER, SESSION_ID])
}

/// Returns the routes of the metrics listener.
pub fn metrics(app: &Arc<App>, handle: metrics_exporter_prometheus::PrometheusHandle) -> Router {
    let app = Arc::clone(app);
    let show = move || {
        let (app, handle) = (Arc::clone(&app), handle.clone());
        async move {
            endpoints::scrape(&app).await.publish();
            handle.render() + &metrics::process_lines()
        }
    };
    Router::new().route("/metrics", get(show))
}
