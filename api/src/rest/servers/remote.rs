//! Addresses and headers of remote servers in bodies, and the checks of their targets.

use entity::{SecretsPatch, Server, ServerPatch};
use proxy::egress::{Egress, EgressError, Url};

use crate::config::remote_address;
use crate::http::problem::{FieldError, Problem};
use crate::rest::input::Fields;

/// Gives the changed headers the spelling of the row: `a` and `A` are one header.
pub fn spell_headers(patch: &mut ServerPatch, server: &Server) {
    let Some(SecretsPatch::Merge(changes)) = &mut patch.headers else { return };
    let spelled = |name: String| {
        let known = server.settings.headers.names().find(|known| known.eq_ignore_ascii_case(&name));
        known.map_or(name.clone(), str::to_owned)
    };
    *changes = std::mem::take(changes).into_iter().map(|(name, value)| (spelled(name), value)).collect();
}

/// Refuses to send sealed headers to another host than the one they were given for: who may change a server
/// may not read them.
pub fn keep_origin(fields: &mut Fields, server: &Server, patch: &ServerPatch) {
    let (Some(Some(new)), Some(old)) = (&patch.url, &server.settings.url) else { return };
    if remote_address::same_origin(old, new) {
        return;
    }
    let given = |name: &&str| match &patch.headers {
        None => false,
        Some(SecretsPatch::Replace(_)) => true,
        Some(SecretsPatch::Merge(changes)) => changes.contains_key(*name),
    };
    let following: Vec<&str> = server.settings.headers.names().filter(|name| !given(name)).collect();
    if !following.is_empty() {
        let detail = format!(
            "must be given with a url of another origin: the sealed {} would be sent there; send new values, or null",
            following.join(", ")
        );
        fields.wrong("headers", detail);
    }
}

/// Refuses with 422 an address in the URL that the egress guard blocks.
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
