//! The header of a JSON Web Token (RFC 7515, section 4): algorithm, key and critical extensions. Knows no key
//! and no claim.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Header;
use protocol::{Code, Refusal};
use serde_json::{Map, Value};

/// Reads the header of a token.
///
/// # Errors
/// Refuses a malformed token, and one whose `crit` names an extension: none is implemented, and an empty or
/// malformed `crit` is not allowed either (RFC 7515, section 4.1.11).
pub fn read(token: &str) -> Result<Header, Refusal> {
    let no_token = || invalid("the bearer token is neither an API key nor a JSON Web Token");
    let header = token.split('.').next().and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let header = header.ok_or_else(no_token)?;
    let members: Map<String, Value> = serde_json::from_slice(&header).map_err(|_| no_token())?;
    if members.contains_key("crit") {
        return Err(invalid(
            "the token's header has `crit`, and no extension of JSON Web Signature is taken",
        )
        .rule("RFC 7515, section 4.1.11")
        .hint("get a token without `crit` in its header"));
    }
    jsonwebtoken::decode_header(token).map_err(|_| no_token())
}

/// Refuses a bearer token.
pub fn invalid(reason: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(Code::InvalidCredential, reason)
        .hint("get a token from POST /v1/tokens or your identity provider")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_critical_is_taken() {
        let token = |header: &str| format!("{}.e30.c2ln", URL_SAFE_NO_PAD.encode(header));
        assert!(read(&token(r#"{"alg":"HS256"}"#)).is_ok());
        assert!(
            read(&token(r#"{"alg":"HS256","x":["exp"]}"#)).is_ok(),
            "what is not critical may be unknown"
        );
        for crit in ["[\"exp\"]", "[\"b64\"]", "[]", "null", "\"exp\"", "[7]", "{}", "false"] {
            let refused = read(&token(&format!(r#"{{"alg":"HS256","crit":{crit}}}"#))).unwrap_err();
            assert!(refused.reason.contains("crit"), "{crit}: {refused}");
        }
        for bad in ["", ".", "a.b.c", "e30.e30.e30", &token("[]")] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
