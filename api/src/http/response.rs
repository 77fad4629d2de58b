//! Response headers: rate limits, `Retry-After` and challenges.

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use protocol::Refusal;

use crate::authn::oauth;
use crate::authn::oauth::ResourceUri;
use crate::http::headers;
use crate::http::headers::{RATELIMIT, RATELIMIT_POLICY};
use crate::pipeline::refused::{QuotaState, RateLimitState};

/// Sets the state of the rate limit, on every answer (draft-ietf-httpapi-ratelimit-headers).
pub fn set_rate_limit(response: &mut Response, rate_limit: RateLimitState) {
    let Some(QuotaState { whose, max, window, remaining, reset_after }) = rate_limit.0 else { return };
    let mut set = |name: HeaderName, text: String| {
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().insert(name, value);
        }
    };
    let seconds = |time: std::time::Duration| time.as_millis().div_ceil(1000);
    set(RATELIMIT_POLICY, format!("\"{whose}\";q={max};w={}", seconds(window)));
    set(RATELIMIT, format!("\"{whose}\";r={remaining};t={}", seconds(reset_after)));
}

/// Sets the headers of a refusal.
pub fn set_refusal_headers(response: &mut Response, refusal: &Refusal) {
    if let Some(wait) = refusal.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, headers::retry_after(wait));
    }
    if refusal.code.http() == 401 {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, oauth::challenge(refusal));
    }
}

/// Sets the challenge for a better credential on an answer of an MCP endpoint (RFC 6750, RFC 9728).
pub fn challenge(response: &mut Response, refusal: &Refusal, resource: &ResourceUri<'_>) {
    let challenge = resource.challenge(refusal).and_then(|text| HeaderValue::from_str(&text).ok());
    if let Some(challenge) = challenge {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
}
