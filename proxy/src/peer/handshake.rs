//! MCP handshake with a server: `initialize` and `notifications/initialized` (revisions up to 2025-11-25), or
//! `server/discover` (2026-07-28). Also judges whether an answer proves an era.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use protocol::mcp::{Era, LEGACY_LATEST, LEGACY_VERSIONS, MODERN, code, method};
use protocol::{Code, Refusal};
use serde::Deserialize;
use serde_json::Map;
use serde_json::value::RawValue;

use super::message::{self, excerpt};
use super::{Connection, PeerPlan, gateway_client};
use crate::upstream::{Failure, Initialized, Params, UpstreamAnswer, UpstreamRequest};

/// Performs the handshake in the era of the plan. No other request comes before it, since some servers answer
/// differently then.
pub async fn shake<C: Connection>(
    connection: &Arc<C>,
    generation: u64,
    deadline: Instant,
) -> Result<Initialized, C::Error> {
    let era = connection.plan().era;
    let answer = ask(connection, era, deadline).await?;
    let initialized = read(connection.server(), era, answer, generation).map_err(C::Error::from)?;
    if era == Era::Legacy {
        connection.confirm_initialized(&initialized.protocol_version).await;
    }
    Ok(initialized)
}

/// Sends the first request of an era, and returns the server's answer.
pub async fn ask<C: Connection>(
    connection: &Arc<C>,
    era: Era,
    deadline: Instant,
) -> Result<UpstreamAnswer, C::Error> {
    let plan = connection.plan();
    let (method, params) = match era {
        Era::Legacy => (method::INITIALIZE, initialize_params(plan)),
        Era::Modern => (method::DISCOVER, gateway_client::params(era, &plan.gateway, Map::new())),
    };
    connection.request(UpstreamRequest::new(method, Params::raw(params.as_bytes()), deadline)).await
}

/// Judges whether an answer to the first request of an era proves that the server speaks it.
///
/// # Errors
/// The reason why it does not.
pub fn verdict(era: Era, server: &str, answer: UpstreamAnswer) -> Result<(), Failure> {
    match (era, &answer) {
        (Era::Modern, UpstreamAnswer::Error(error)) if is_modern_error(error) => Ok(()),
        _ => read(server, era, answer, 0).map(drop),
    }
}

/// Returns the `params` of `initialize`, for the client that the upstream serves, else for the gateway.
fn initialize_params(plan: &PeerPlan) -> String {
    let capabilities = plan.client.as_ref().map_or("{}", |client| client.capabilities.get());
    let own = plan.gateway.json().to_string();
    let client = plan.client.as_ref().and_then(|client| client.info.as_deref());
    let client = client.map_or(own.as_str(), RawValue::get);
    format!(r#"{{"protocolVersion":"{LEGACY_LATEST}","capabilities":{capabilities},"clientInfo":{client}}}"#)
}

/// Reads an answer to the first request of an era.
///
/// # Errors
/// The error of the server, or the fault of its result.
pub fn read(server: &str, era: Era, answer: UpstreamAnswer, generation: u64) -> Result<Initialized, Failure> {
    let result = match answer {
        UpstreamAnswer::Result(result) => result,
        UpstreamAnswer::Error(error) => {
            let first = if era == Era::Legacy { "the handshake" } else { "`server/discover`" };
            return Err(failed(format!("`{server}` refused {first}: {}", excerpt(&error)), &error));
        }
    };
    let protocol_version = match era {
        Era::Legacy => agreed_version(server, &result)?,
        Era::Modern if speaks_modern(&result) => MODERN.to_owned(),
        Era::Modern => {
            let shown = excerpt(&result);
            let reason = format!("`{server}` does not list {MODERN} among its `supportedVersions`: {shown}");
            return Err(failed(reason, &result));
        }
    };
    Ok(Initialized { era, result, protocol_version, generation })
}

/// Returns the revision in a result of `initialize`, whatever revision that is.
fn agreed_version(server: &str, result: &Bytes) -> Result<String, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        protocol_version: String,
    }
    let Ok(Shape { protocol_version }) = serde_json::from_slice(result) else {
        let shown = excerpt(result);
        let reason = format!("`{server}` answered the handshake without a protocol version: {shown}");
        return Err(failed(reason, result));
    };
    if !LEGACY_VERSIONS.contains(&protocol_version.as_str()) {
        tracing::warn!(server, protocol_version, "a revision that is not known here");
    }
    Ok(protocol_version)
}

/// Returns true if a result of `server/discover`, or the `data` of a refused version, lists the modern
/// revision.
fn speaks_modern(result: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Shape {
        #[serde(rename = "supportedVersions", alias = "supported")]
        versions: Vec<String>,
    }
    serde_json::from_slice::<Shape>(result).is_ok_and(|shape| shape.versions.iter().any(|one| one == MODERN))
}

/// Returns true for an `error` object that only a modern server sends, and one of our revision.
fn is_modern_error(error: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Shape<'a> {
        #[serde(borrow)]
        data: &'a RawValue,
    }
    let Some(found) = message::code(error).and_then(|code| i32::try_from(code).ok()) else { return false };
    match found {
        code::HEADER_MISMATCH | code::MISSING_CLIENT_CAPABILITY => true,
        code::UNSUPPORTED_PROTOCOL_VERSION => serde_json::from_slice::<Shape<'_>>(error)
            .is_ok_and(|shape| speaks_modern(shape.data.get().as_bytes())),
        _ => false,
    }
}

fn failed(reason: String, original: &[u8]) -> Failure {
    let refusal = message::holding(Refusal::new(Code::UpstreamFailed, reason), original);
    Failure { refusal, sent: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_proves_the_modern_era_only_with_our_revision() {
        let proves =
            |error: &str| verdict(Era::Modern, "x", UpstreamAnswer::Error(error.to_owned().into())).is_ok();
        assert!(proves(r#"{"code":-32022,"message":"","data":{"supported":["2027-01-01","2026-07-28"]}}"#));
        for other in [r#","data":{"supported":["2027-01-01"]}"#, r#","data":{}"#, ""] {
            assert!(!proves(&format!(r#"{{"code":-32022,"message":""{other}}}"#)), "{other}");
        }
        assert!(!proves(r#"{"code":-32601,"message":""}"#));
    }
}
