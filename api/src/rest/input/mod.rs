//! Input of REST requests: names in the path, query parameters, a body. All of it is read strictly, and all
//! mistakes are reported together.

mod fields;
pub mod form;
pub mod parameters;
pub mod secret_forms;

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use protocol::{Code, Refusal};

use crate::app::App;
use crate::http::problem::Problem;
use crate::http::{body, headers};

pub use fields::Fields;
pub use parameters::Parameters;

/// The `{id}` of a path, which is not found if it is no text.
pub struct Name(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(Self(name)),
            Err(_) => Err(Problem::not_found("thing")),
        }
    }
}

/// A JSON body, read only after the caller's scopes were checked.
pub struct Payload(Bytes);

impl Payload {
    /// Reads the body, which is one JSON object, by a table.
    ///
    /// # Errors
    /// 400 for what is not JSON, 422 that names every mistake.
    pub fn read<T>(&self, table: impl FnOnce(&mut Fields) -> Option<T>) -> Result<T, Problem> {
        Fields::read(&self.0, table)
    }
}

impl FromRequest<Arc<App>> for Payload {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Problem> {
        require_json(request.headers())?;
        collect(request, app.config.server.max_body_bytes).await.map(Self)
    }
}

/// The body of an action: none, or an empty JSON object as some clients send.
pub struct NoBody;

impl FromRequest<Arc<App>> for NoBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Arc<App>) -> Result<Self, Problem> {
        if request.headers().contains_key(header::CONTENT_TYPE) {
            require_json(request.headers())?;
        }
        let body = collect(request, 64).await?;
        if !body.is_empty() {
            Fields::read(&body, |_| Some(()))?;
        }
        Ok(Self)
    }
}

/// Condition of a change (RFC 9110, section 13.1.1).
pub struct IfMatch(Option<String>);

impl IfMatch {
    /// Refuses with 412 a row that is not one of those that the caller names.
    pub fn check(&self, current: &str) -> Result<(), Problem> {
        let Some(wanted) = &self.0 else { return Ok(()) };
        let wanted: Vec<&str> = wanted.split(',').map(str::trim).collect();
        if wanted.contains(&"*") || wanted.contains(&current) {
            return Ok(());
        }
        Err(Refusal::new(Code::PreconditionFailed, "it has changed since it was read")
            .rule("header If-Match")
            .hint(format!("its ETag is now {current}: read it again and repeat the change"))
            .into())
    }

    /// Returns true if the condition names a state, so that the change itself must check it again.
    pub fn is_exact(&self) -> bool {
        self.0.as_deref().is_some_and(|wanted| wanted.trim() != "*")
    }
}

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    /// Reads the tags of one header; several headers are refused, as proxies join them differently.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let value = headers::single(&parts.headers, &header::IF_MATCH)?;
        let wanted = value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let tag = |tag: &str| {
            let opaque = tag.strip_prefix("W/").unwrap_or(tag);
            tag == "*" || (opaque.len() > 1 && opaque.starts_with('"') && opaque.ends_with('"'))
        };
        match wanted.as_deref().is_none_or(|wanted| wanted.split(',').map(str::trim).all(tag)) {
            true => Ok(Self(wanted)),
            false => {
                Err(Refusal::new(Code::BadRequest, "If-Match is `*`, or entity tags in quotation marks")
                    .rule("header If-Match")
                    .hint("send the `ETag` of an answer as it is")
                    .into())
            }
        }
    }
}

fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = headers::single(headers, &header::CONTENT_TYPE)?;
    let kind = kind.and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = kind.split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case("application/json")
        || essence.eq_ignore_ascii_case("application/merge-patch+json")
    {
        return Ok(());
    }
    Err(Refusal::new(Code::UnsupportedMediaType, "the body must be JSON")
        .hint("send Content-Type: application/json")
        .into())
}

async fn collect(request: Request, limit: usize) -> Result<Bytes, Problem> {
    Ok(body::take(request.into_body(), limit).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_holds_for_one_of_its_tags() {
        let check = |wanted: &str| IfMatch(Some(wanted.to_owned())).check("\"2-7\"").is_ok();
        for good in ["\"2-7\"", "*", "\"1-1\", \"2-7\""] {
            assert!(check(good), "{good}");
        }
        for bad in ["\"2-8\"", "W/\"2-7\"", "2-7", ""] {
            assert!(!check(bad), "{bad}");
        }
        assert!(IfMatch(None).check("\"2-7\"").is_ok());
    }
}
