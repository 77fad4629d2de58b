//! Parameters mirrored in HTTP headers (`Mcp-Param-*`): compared with a modern client's headers, and written
//! anew for an upstream behind HTTP.

use std::time::Instant;

use protocol::mcp::Era;
use protocol::{Refusal, members};
use proxy::catalog::{Catalog, ListKind};
use proxy::header_params;
use proxy::route::{Permit, Verb};
use proxy::selected::Selected;
use proxy::server::Launch;

use crate::mcp::context::Context;
use crate::mcp::endpoint::Endpoint;
use crate::mcp::headers::mismatch;
use crate::mcp::request::Call;

/// Checks the headers of a tool call, and returns those for the upstream.
pub async fn check(
    context: Context<'_>,
    call: &Call<'_>,
    catalog: &Catalog,
    permit: &Permit,
    selected: &Selected,
    deadline: Instant,
) -> Result<Vec<(String, String)>, Refusal> {
    let modern = context.protocol.client.era == Era::Modern;
    let remote = matches!(permit.spec().launch, Launch::Http(_));
    if call.verb != Verb::CallTool || !(modern || remote) {
        return Ok(Vec::new());
    }
    let route = permit.route();
    let listing = match catalog.list(selected, ListKind::Tools, deadline).await {
        Ok(listing) => listing,
        // The call itself reports the server's failure.
        Err(refusal) => {
            tracing::debug!(%refusal, "a tool's schema is not known");
            return Ok(Vec::new());
        }
    };
    let Some(tool) = listing.find(&route.name).filter(|tool| !tool.mirrored.is_empty()) else {
        return Ok(Vec::new());
    };
    let nothing = members::raw("{}");
    let arguments = call.arguments.as_deref().unwrap_or(&nothing);
    let values = header_params::values(&tool.mirrored, arguments);
    if modern && *context.protocol.endpoint != Endpoint::Plain {
        for (param, (header, value)) in tool.mirrored.iter().zip(&values) {
            let sent = sent(context, header)?;
            let same = match (value, &sent) {
                (Some(value), Some(sent)) => header_params::equal(param.kind, value, sent),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            if !same {
                let path = param.path.join(".");
                return Err(mismatch(format!("the header {header} does not say what arguments.{path} says")));
            }
        }
    }
    Ok(values.into_iter().filter_map(|(header, value)| Some((header, value?))).collect())
}

/// Returns the client's header, decoded.
fn sent(context: Context<'_>, header: &str) -> Result<Option<String>, Refusal> {
    let mut values = context.protocol.headers.parameters().filter(|(name, _)| *name == header);
    let Some((_, value)) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(mismatch(format!("the header {header} is given twice")));
    }
    let text =
        std::str::from_utf8(value).map_err(|_| mismatch(format!("the header {header} is not text")))?;
    let decoded = header_params::decode(text);
    decoded.map(Some).map_err(|problem| mismatch(format!("the header {header} cannot be read: {problem}")))
}
