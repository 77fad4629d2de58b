//! Discovery of an issuer's keys: metadata by RFC 8414, else by OpenID Connect Discovery 1.0.

use proxy::egress::{Egress, EgressError, Url};
use serde::Deserialize;

/// Most bytes of a metadata document, which is usually a few kilobytes.
const MAX_BYTES: usize = 256 << 10;

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: Option<String>,
}

/// Returns the address of the issuer's keys. The error is for the operator.
pub async fn jwks_uri(egress: &Egress, issuer: &str) -> Result<String, String> {
    let urls = urls(issuer)?;
    let mut errors = Vec::new();
    for url in urls {
        match egress.fetch_json::<Metadata>(&url, MAX_BYTES).await {
            Ok(metadata) => match keys_of(metadata, issuer) {
                Ok(uri) => return Ok(uri),
                Err(error) => errors.push(format!("{url}: {error}")),
            },
            // The issuer answers, but has no readable document at this address.
            Err(error @ (EgressError::Status { .. } | EgressError::NotJson { .. })) => {
                errors.push(format!("{url}: {error}"));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    Err(errors.join("; "))
}

/// Returns the well-known addresses: between host and path (RFC 8414, section 3.1), and behind the path
/// (OpenID Connect Discovery 1.0, section 4.1).
fn urls(issuer: &str) -> Result<Vec<String>, String> {
    let url = Url::parse(issuer).map_err(|_| "the issuer is no address".to_owned())?;
    let (origin, path) = (url.origin().ascii_serialization(), url.path().trim_end_matches('/'));
    let mut urls = vec![
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
        format!("{origin}/.well-known/openid-configuration{path}"),
    ];
    if !path.is_empty() {
        urls.push(format!("{origin}{path}/.well-known/openid-configuration"));
    }
    Ok(urls)
}

/// Returns `jwks_uri`; refuses metadata of another issuer (RFC 8414, section 3.3).
fn keys_of(metadata: Metadata, issuer: &str) -> Result<String, String> {
    if metadata.issuer != issuer {
        let named: String = metadata.issuer.chars().take(200).collect();
        return Err(format!("it is about the issuer {named:?}, and JWT_ISSUER is {issuer:?}"));
    }
    let uri = metadata.jwks_uri.ok_or("it names no jwks_uri")?;
    if issuer.starts_with("https://") && !uri.starts_with("https://") {
        return Err("its jwks_uri is not https".to_owned());
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_places_of_an_issuer() {
        assert_eq!(
            urls("https://id.example/").unwrap(),
            [
                "https://id.example/.well-known/oauth-authorization-server",
                "https://id.example/.well-known/openid-configuration",
            ]
        );
        assert_eq!(
            urls("https://id.example/realms/a").unwrap(),
            [
                "https://id.example/.well-known/oauth-authorization-server/realms/a",
                "https://id.example/.well-known/openid-configuration/realms/a",
                "https://id.example/realms/a/.well-known/openid-configuration",
            ]
        );
    }

    #[test]
    fn a_document_is_about_its_issuer() {
        let document = |issuer: &str, uri: Option<&str>| Metadata {
            issuer: issuer.to_owned(),
            jwks_uri: uri.map(str::to_owned),
        };
        let issuer = "https://id.example";
        assert_eq!(
            keys_of(document(issuer, Some("https://k.example")), issuer).unwrap(),
            "https://k.example"
        );
        for (document, said) in [
            (document("https://id.example/", Some("https://k.example")), "about the issuer"),
            (document(issuer, None), "no jwks_uri"),
            (document(issuer, Some("http://k.example")), "not https"),
        ] {
            assert!(keys_of(document, issuer).unwrap_err().contains(said), "{said}");
        }
    }
}
