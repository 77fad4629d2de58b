//! Audience of a token: the claim `aud` (RFC 7519, section 4.1.3; RFC 8707). Knows no signature.

use protocol::{Code, Refusal};
use serde::Deserialize;

use crate::authn::oauth::ResourceUri;

/// Endpoints at which a token may be used.
pub enum Audience {
    Everywhere,
    /// The endpoints of these URIs.
    Endpoints(Vec<String>),
}

/// The claim `aud` as JSON.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    /// Checks `aud`. The gateway's own tokens need none unless the operator set one; a named one must fit.
    /// `set` is the audience that the operator set, or empty.
    pub fn check(
        named: Option<OneOrMany>,
        set: &str,
        own: bool,
        resource: ResourceUri<'_>,
    ) -> Result<Audience, Refusal> {
        let named = match named {
            None if own && set.is_empty() => return Ok(Audience::Everywhere),
            None => return Err(elsewhere("the token has no `aud`", resource)),
            Some(OneOrMany::One(one)) => vec![one],
            Some(OneOrMany::Many(many)) => many,
        };
        if !set.is_empty() && named.iter().any(|one| one == set) {
            return Ok(Audience::Everywhere);
        }
        let audience = Audience::Endpoints(named);
        match audience.covers(resource) {
            true => Ok(audience),
            false => Err(elsewhere("the token is for another audience", resource)),
        }
    }

    /// Returns true if the token may be used at this endpoint.
    pub fn covers(&self, resource: ResourceUri<'_>) -> bool {
        match self {
            Audience::Everywhere => true,
            Audience::Endpoints(uris) => uris.iter().any(|uri| resource.is(uri)),
        }
    }
}

fn elsewhere(reason: &'static str, resource: ResourceUri<'_>) -> Refusal {
    let here = resource.to_text();
    Refusal::new(Code::InvalidCredential, format!("{reason}; here it is {here}"))
        .hint(format!("ask the issuer for a token with resource={here} (RFC 8707)"))
}
