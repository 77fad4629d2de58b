//! Problem details of REST: `application/problem+json` (RFC 9457). The code and its status come from the
//! refusal. Knows no route.

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use entity::DbError;
use protocol::{Code, Refusal, RequestId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::authn::oauth;
use crate::http::connection::ConnectionInfo;
use crate::http::headers;

/// The content type of every problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// A refusal as a REST response.
#[derive(Clone, Debug)]
pub struct Problem(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    refusal: Refusal,
    errors: Vec<FieldError>,
    request: Option<RequestId>,
}

/// One mistake in a body or query.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct FieldError {
    /// The member of the body, or the query parameter; empty for the whole body.
    #[schema(example = "timeoutMs")]
    pub field: String,
    /// The mistake, and the accepted form.
    #[schema(example = "is a whole number from 1 to 86400000, not a text")]
    pub detail: String,
}

/// The body of a problem.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Problem)]
pub struct ProblemBody<'a> {
    /// Always `about:blank`: `code` names the kind of problem.
    #[serde(rename = "type")]
    #[schema(example = "about:blank")]
    kind: &'static str,
    /// The status as text.
    #[schema(example = "Unprocessable Entity")]
    title: &'static str,
    #[schema(example = 422)]
    status: u16,
    /// A sentence for the person or model that reads the problem.
    #[schema(example = "timeoutMs is a whole number from 1 to 86400000, not a text")]
    detail: &'a str,
    /// The kind of problem, as one stable word.
    #[schema(example = "validation_failed")]
    code: &'static str,
    /// The suggested next step.
    #[schema(example = "correct the members that the reason names")]
    hint: &'a str,
    /// The row or rule that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    /// Time since which the problem exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<jiff::Timestamp>,
    /// Time in milliseconds after which a retry makes sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    /// Further facts: `stderr`, the last lines of a server that did not start; `original`, an answer that
    /// cannot be read.
    #[serde(flatten)]
    #[schema(ignore)]
    facts: Option<&'a serde_json::Map<String, serde_json::Value>>,
    /// Every wrong field, when a body or query is wrong.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Option<Vec<FieldError>>)]
    errors: &'a [FieldError],
    /// The request's id, as in the log and the header `X-Request-Id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, example = "req_0190f5d2c3a47b6e8f1a2b3c4d5e6f70")]
    request_id: Option<RequestId>,
}

impl Problem {
    pub fn new(refusal: Refusal, request: RequestId) -> Self {
        Self(Box::new(Inner { refusal, errors: Vec::new(), request: Some(request) }))
    }

    /// Returns the problem of a body or query with these mistakes.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = errors.iter().map(FieldError::sentence).collect::<Vec<_>>().join("; ");
        let refusal = Refusal::new(Code::ValidationFailed, detail);
        Self(Box::new(Inner { refusal, errors, request: None }))
    }

    /// Returns the problem of something that does not exist or belongs to another tenant.
    pub fn not_found(what: &'static str) -> Self {
        Refusal::new(Code::NotFound, format!("there is no such {what} here")).into()
    }

    /// Returns a converter of row errors that names the kind of row.
    pub fn of(what: &'static str) -> impl Fn(DbError) -> Problem {
        move |error| if error == DbError::NotFound { Problem::not_found(what) } else { error.into() }
    }

    pub fn refusal(&self) -> &Refusal {
        &self.0.refusal
    }

    fn body(&self) -> ProblemBody<'_> {
        let Inner { refusal, errors, request } = &*self.0;
        let status = self.status();
        ProblemBody {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Refused"),
            status: status.as_u16(),
            detail: &refusal.reason,
            code: refusal.code.as_str(),
            hint: refusal.remedy(),
            rule: refusal.rule.as_deref(),
            since: refusal.since,
            retry_after_ms: refusal.retry_after.map(|wait| wait.as_millis() as u64),
            facts: refusal.facts.as_deref(),
            errors,
            request_id: *request,
        }
    }

    fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.refusal.code.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl FieldError {
    pub fn new(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: field.into(), detail: detail.into() }
    }

    fn sentence(&self) -> String {
        if self.field.is_empty() { self.detail.clone() } else { format!("{} {}", self.field, self.detail) }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self(Box::new(Inner { refusal, errors: Vec::new(), request: None }))
    }
}

impl From<DbError> for Problem {
    /// Logs the details for the operator, and leaves them out of the answer.
    fn from(error: DbError) -> Self {
        let refusal = error.refusal();
        if refusal.code.http() >= 500 {
            tracing::error!(error = error.detail(), "the database refused a request");
        }
        refusal.into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status(), Json(self.body())).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if let Some(wait) = self.0.refusal.retry_after {
            headers.insert(header::RETRY_AFTER, headers::retry_after(wait));
        }
        if response.status() == StatusCode::UNAUTHORIZED {
            let challenge = oauth::challenge(&self.0.refusal);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        if self.0.request.is_none() {
            response.extensions_mut().insert(self);
        }
        response
    }
}

/// Returns the response of a handler that panicked; the panic itself is in the log.
pub fn of_panic(_: Box<dyn std::any::Any + Send>) -> Response {
    Problem::from(
        Refusal::new(Code::Internal, "something went wrong in the gateway itself")
            .hint("the operator finds the cause in the log, by the request's id"),
    )
    .into_response()
}

/// Adds the request's id to problems, and turns the router's own refusals (no such path, not this method)
/// into problems.
pub async fn finish(request: Request, next: Next) -> Response {
    let Some(ConnectionInfo { request: id, .. }) = request.extensions().get::<ConnectionInfo>().copied()
    else {
        return next.run(request).await;
    };
    let mut response = next.run(request).await;
    let refusal = match response.extensions_mut().remove::<Problem>() {
        Some(Problem(inner)) => {
            return with_headers_of(response, Problem(Box::new(Inner { request: Some(id), ..*inner })));
        }
        None if response.headers().contains_key(header::CONTENT_TYPE) => return response,
        None => match response.status() {
            StatusCode::NOT_FOUND => Refusal::new(Code::NotFound, "there is nothing at this path")
                .hint("GET /openapi.json lists the paths, /docs shows them"),
            StatusCode::METHOD_NOT_ALLOWED => {
                Refusal::new(Code::MethodNotAllowed, "this path does not take this method")
                    .hint("the header Allow names those that it takes")
            }
            _ => return response,
        },
    };
    with_headers_of(response, Problem::new(refusal, id))
}

/// Returns the problem, with the headers of the earlier response that the problem does not set.
fn with_headers_of(earlier: Response, problem: Problem) -> Response {
    let mut response = problem.into_response();
    for (name, value) in earlier.headers() {
        if *name != header::CONTENT_LENGTH && !response.headers().contains_key(name) {
            response.headers_mut().insert(name.clone(), value.clone());
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_what_is_known_and_nothing_else() {
        let refusal = Refusal::new(Code::SlugTaken, "the slug `time` is taken").hint("choose another");
        let request = RequestId::new();
        let body = serde_json::to_value(Problem::new(refusal, request).body()).unwrap();
        let expected = serde_json::json!({
            "type": "about:blank", "title": "Conflict", "status": 409, "detail": "the slug `time` is taken",
            "code": "slug_taken", "hint": "choose another", "requestId": request.to_string(),
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn mistakes_are_all_in_the_detail() {
        let errors = vec![FieldError::new("a", "is missing"), FieldError::new("", "the body is an object")];
        let problem = Problem::invalid(errors);
        assert_eq!(problem.refusal().reason, "a is missing; the body is an object");
    }
}
