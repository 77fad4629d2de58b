//! Authentication and rate limits of REST, before any handler runs.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::http::connection::ConnectionInfo;
use crate::http::problem::Problem;
use crate::http::response;
use crate::ops::metrics;
use crate::pipeline::limits::Bucket;
use crate::pipeline::refused::Refused;
use crate::rest::acting::Acting;

/// Authenticates and counts a REST request.
pub async fn admit(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let connection = *request.extensions().get::<ConnectionInfo>().expect("the accept loop puts it there");
    let resource = app.resources.of(request.headers(), request.uri());
    let proof = crate::authn::Proof { peer: connection.peer.ip(), headers: request.headers(), resource };
    let admitted: Result<_, Refused> = async {
        let caller = app.gateway.authn.identify(&proof).await?;
        let rate_limit = app.gateway.limits.admit(&caller, Bucket::Rest, 1).await?;
        let caller = app.gateway.authn.named(caller, &proof).await?;
        Ok((caller, rate_limit))
    }
    .await;
    match admitted {
        Ok((caller, rate_limit)) => {
            let acting = Acting { caller, request: connection.request, ip: Some(connection.peer.ip()) };
            request.extensions_mut().insert(acting);
            let mut response = next.run(request).await;
            response::set_rate_limit(&mut response, rate_limit);
            response
        }
        Err(Refused { refusal, rate_limit, .. }) => {
            metrics::refused(refusal.code);
            let mut response = Problem::new(refusal, connection.request).into_response();
            response::set_rate_limit(&mut response, rate_limit.unwrap_or_default());
            response
        }
    }
}
