//! The door of REST: who calls and how often, before any handler runs.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::http;
use crate::http::middleware::Arrival;
use crate::http::problem::Problem;
use crate::mcp::context::Refused;
use crate::ops::metrics;
use crate::pipeline::limits::Bucket;
use crate::rest::acting::Acting;

/// A layer around the REST routes.
pub async fn admit(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let arrival = *request.extensions().get::<Arrival>().expect("the accept loop puts it there");
    let resource = app.resources.of(request.headers(), request.uri());
    let proof = crate::authn::Proof { peer: arrival.peer.ip(), headers: request.headers(), resource };
    let admitted: Result<_, Refused> = async {
        let caller = app.gateway.authn.identify(&proof).await?;
        let pace = app.gateway.limits.admit(&caller, Bucket::Rest, 1).await?;
        let caller = app.gateway.authn.named(caller, &proof).await?;
        Ok((caller, pace))
    }
    .await;
    match admitted {
        Ok((caller, pace)) => {
            let acting = Acting { caller, request: arrival.request, ip: Some(arrival.peer.ip()) };
            request.extensions_mut().insert(acting);
            let mut response = next.run(request).await;
            http::set_pace(&mut response, pace);
            response
        }
        Err(Refused { refusal, pace, .. }) => {
            metrics::refused(refusal.code);
            let mut response = Problem::new(refusal, arrival.request).into_response();
            http::set_pace(&mut response, pace.unwrap_or_default());
            response
        }
    }
}
