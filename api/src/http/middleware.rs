//! Middleware of every request: its id, the guard against pages that call local services, the access log and
//! the metrics. Knows no route.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use protocol::{Code, Refusal};

use crate::http;
use crate::http::connection::ConnectionInfo;
use crate::http::headers::{REQUEST_ID, SEC_FETCH_MODE, SEC_FETCH_SITE};
use crate::http::host::{Host, named};
use crate::http::problem::Problem;
use crate::http::{paths, request};
use crate::ops::metrics;
use crate::pipeline::refused::Refused;

/// Allowed hosts and origins. Browsers send both; a page of another origin that was led here by a changed DNS
/// answer names its own host (DNS rebinding).
#[derive(Debug)]
pub struct Guard {
    pub hosts: Vec<String>,
    pub origins: Vec<String>,
    /// The address of the listener.
    pub bound: IpAddr,
}

/// Checks, logs and counts a request.
pub async fn check_and_log(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let connection = *request.extensions().get::<ConnectionInfo>().expect("the accept loop puts it there");
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = known_method(request.method());
    let uri = request.uri().clone();
    let mut response = match guard.check(request.headers(), request.uri()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            metrics::refused(refusal.code);
            match uri.path().starts_with(paths::MCP) {
                true => {
                    let id = request::unread_id(request.extensions()).await;
                    http::rpc::refusal_response(&connection.request, Refused::from(refusal).under(id))
                }
                false => Problem::new(refusal, connection.request).into_response(),
            }
        }
    };
    let id = connection.request.to_string();
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let took = started.elapsed();
    let status = response.status().as_u16();
    metrics::http(method, route.as_ref().map_or("other", MatchedPath::as_str), status, took);
    tracing::info!(
        target: "access",
        message = "request",
        requestId = id,
        method,
        path = uri.path(),
        statusCode = status,
        duration = took.as_micros() as f64 / 1000.0,
        ip = %connection.peer.ip(),
    );
    response
}

impl Guard {
    fn check(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), Refusal> {
        let named = named(headers, uri)?;
        let host = named.text;
        if !self.allows_host(named) {
            return Err(Refusal::new(
                Code::HostNotAllowed,
                "this gateway does not answer under the host name that was used",
            )
            .rule("allowed hosts: loopback names, the bound address, ALLOWED_HOSTS")
            .hint("the operator adds the name to ALLOWED_HOSTS"));
        }
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let Some(origin) = origins.next() else { return without_origin(headers) };
        let allowed =
            origins.next().is_none() && origin.to_str().is_ok_and(|origin| self.allows_origin(origin, host));
        if allowed {
            return Ok(());
        }
        Err(Refusal::new(Code::OriginNotAllowed, "pages of this origin may not call the gateway")
            .rule("allowed origins: the same host, ALLOWED_ORIGINS")
            .hint("the operator adds the origin to ALLOWED_ORIGINS"))
    }

    fn allows_host(&self, host: Host<'_>) -> bool {
        let is = |allowed: &String| {
            allowed.eq_ignore_ascii_case(host.text) || allowed.eq_ignore_ascii_case(host.name)
        };
        if self.hosts.iter().any(is) {
            return true;
        }
        match host.name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            // An address cannot be rebound; a public listener may be called by each of its addresses.
            Ok(address) => address.is_loopback() || address == self.bound || self.bound.is_unspecified(),
            Err(_) => host.name.eq_ignore_ascii_case("localhost"),
        }
    }

    fn allows_origin(&self, origin: &str, host: &str) -> bool {
        let same = ["http://", "https://"].iter().any(|scheme| {
            origin.strip_prefix(scheme).is_some_and(|authority| authority.eq_ignore_ascii_case(host))
        });
        same || self.origins.iter().any(|allowed| allowed.trim_end_matches('/').eq_ignore_ascii_case(origin))
    }
}

/// Refuses subresources of other sites' pages: browsers send no `Origin` for images, but `Sec-Fetch-Site`.
fn without_origin(headers: &HeaderMap) -> Result<(), Refusal> {
    let says = |name, value: &str| headers.get(name).is_some_and(|header| header == value);
    if says(SEC_FETCH_SITE, "cross-site") && !says(SEC_FETCH_MODE, "navigate") {
        return Err(Refusal::new(
            Code::OriginNotAllowed,
            "pages of other sites may not load from the gateway",
        )
        .rule("header Sec-Fetch-Site"));
    }
    Ok(())
}

/// Returns the method as a metric label: an unknown one is `other`.
fn known_method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PATCH" => "PATCH",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        Guard {
            hosts: vec!["gw.example".into()],
            origins: vec!["https://app.example".into()],
            bound: "127.0.0.1".parse().unwrap(),
        }
    }

    #[test]
    fn hosts() {
        for host in
            ["localhost", "LOCALHOST:8100", "127.0.0.1:1", "[::1]:8100", "gw.example", "gw.example:443"]
        {
            assert!(guard().allows_host(Host::parse(host).unwrap()), "{host}");
        }
        for host in ["evil.example", "10.0.0.1", "localhost.evil.example", "127.0.0.1.evil.example:80"] {
            assert!(!guard().allows_host(Host::parse(host).unwrap()), "{host}");
        }
    }

    #[test]
    fn origins() {
        assert!(guard().allows_origin("http://localhost:8100", "localhost:8100"));
        assert!(guard().allows_origin("https://app.example", "localhost:8100"));
        for origin in
            ["null", "http://localhost:3000", "https://evil.example", "http://app.example", "localhost:8100"]
        {
            assert!(!guard().allows_origin(origin, "localhost:8100"), "{origin}");
        }
    }
}
