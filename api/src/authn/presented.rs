//! Credentials in headers. A header given twice is refused: two readers could take different ones.

use axum::http::{HeaderMap, HeaderName, header};
use protocol::{Code, Refusal};

use crate::http::headers::{AGENT, API_KEY, TENANT};

/// Prefix of every API key.
pub const KEY_PREFIX: &str = "mcp_live_";

#[derive(Default)]
pub struct Presented<'a> {
    pub key: Option<&'a str>,
    pub token: Option<&'a str>,
    pub agent: Option<&'a str>,
    pub tenant: Option<&'a str>,
}

pub fn read(headers: &HeaderMap) -> Result<Presented<'_>, Refusal> {
    let mut presented = Presented {
        key: single(headers, &API_KEY)?,
        token: None,
        agent: single(headers, &AGENT)?,
        tenant: single(headers, &TENANT)?,
    };
    let Some(authorization) = single(headers, &header::AUTHORIZATION)? else { return Ok(presented) };
    let bearer = authorization
        .split_once(' ')
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .filter(|token| !token.is_empty())
        .ok_or_else(|| {
            Refusal::new(Code::InvalidCredential, "the Authorization header is not a bearer token")
                .hint("send `Authorization: Bearer …`, or an API key as X-MCP-Key")
        })?;
    match (bearer.starts_with(KEY_PREFIX), presented.key) {
        (true, Some(key)) if key != bearer => {
            return Err(Refusal::new(Code::InvalidCredential, "two different API keys were presented")
                .hint("send one"));
        }
        (true, _) => presented.key = Some(bearer),
        (false, _) => presented.token = Some(bearer),
    }
    Ok(presented)
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let Some(value) = crate::http::headers::single(headers, name)? else { return Ok(None) };
    match value.to_str() {
        Ok("") | Err(_) => {
            Err(Refusal::new(Code::InvalidCredential, format!("the header {name} is empty or not text")))
        }
        Ok(text) => Ok(Some(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_bearer_is_a_key_or_a_token() {
        let with_key = headers(&[(header::AUTHORIZATION, "bearer mcp_live_x")]);
        assert_eq!(read(&with_key).unwrap().key, Some("mcp_live_x"));
        let with_both = headers(&[(header::AUTHORIZATION, "Bearer a.b.c"), (API_KEY, "mcp_live_y")]);
        let presented = read(&with_both).unwrap();
        assert_eq!((presented.key, presented.token), (Some("mcp_live_y"), Some("a.b.c")));
        for bad in [
            headers(&[(header::AUTHORIZATION, "Basic eA==")]),
            headers(&[(header::AUTHORIZATION, "Bearer ")]),
            headers(&[(API_KEY, "a"), (API_KEY, "b")]),
            headers(&[(API_KEY, "")]),
            headers(&[(header::AUTHORIZATION, "Bearer mcp_live_x"), (API_KEY, "mcp_live_y")]),
        ] {
            assert!(read(&bad).is_err());
        }
    }
}
