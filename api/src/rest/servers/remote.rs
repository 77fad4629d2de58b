//! Addresses and headers of remote servers in bodies: how they are read, and where the gateway may be
//! sent by them.

use std::collections::BTreeMap;

use entity::{Secrets, Server, Transport};
use proxy::egress::{Egress, EgressError, Url};
use serde_json::Value;

use crate::config::remote_address;
use crate::http::problem::{FieldError, Problem};
use crate::rest::input::form::Read;
use crate::rest::input::{Fields, form};

/// Changes of secret values by name; none takes a name away.
type Changes = BTreeMap<String, Option<String>>;

/// The form of `url` for this transport.
pub fn remote_url(transport: Option<Transport>) -> impl Fn(&Value) -> Read<String> {
    move |value| {
        let text = form::text(1, 2048)(value)?;
        match transport {
            Some(transport) => remote_address::url(&text, transport).map(|_| text),
            None => Ok(text),
        }
    }
}

/// The changes under the names that the row has: `a` and `A` are one header.
pub fn as_spelled(changes: Changes, headers: &Secrets) -> Changes {
    let spelled = |name: String| match headers.names().find(|known| known.eq_ignore_ascii_case(&name)) {
        Some(known) => known.to_owned(),
        None => name,
    };
    changes.into_iter().map(|(name, value)| (spelled(name), value)).collect()
}

/// Refuses to send sealed headers to another host than the one they were given for: who may change a
/// server may not read them.
pub fn stays_at_home(
    fields: &mut Fields,
    server: &Server,
    url: Option<&Option<String>>,
    headers: Option<&Option<Changes>>,
) {
    let (Some(Some(new)), Some(old)) = (url, &server.url) else { return };
    if remote_address::same_origin(old, new) {
        return;
    }
    let given = |name: &&str| match headers {
        None => false,
        Some(None) => true,
        Some(Some(changes)) => changes.contains_key(*name),
    };
    let following: Vec<&str> = server.headers.names().filter(|name| !given(name)).collect();
    if !following.is_empty() {
        let detail = format!(
            "must be given with a url of another origin: the sealed {} would be sent there; send new values, or null",
            following.join(", ")
        );
        fields.wrong("headers", detail);
    }
}

/// # Errors
/// 422 for an address in the URL that the guard does not let pass.
pub fn reachable(egress: &Egress, url: Option<&str>) -> Result<(), Problem> {
    let Some(url) = url.and_then(|url| Url::parse(url).ok()) else { return Ok(()) };
    match egress.check_literal(&remote_address::as_http(&url)) {
        Ok(()) => Ok(()),
        Err(EgressError::NotPublic { address, kind, .. }) => {
            let detail = format!(
                "goes to {address}, which is {kind}; the operator opens it with EGRESS_ALLOW, or declares the server"
            );
            Err(Problem::invalid(vec![FieldError::new("url", detail)]))
        }
        Err(other) => Err(Problem::invalid(vec![FieldError::new("url", other.to_string())])),
    }
}
