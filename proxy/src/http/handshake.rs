//! The first words with a remote server: `initialize` in the legacy era, `server/discover` in the modern
//! one. The only place here that knows how an era begins.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use protocol::mcp::{Era, LEGACY_LATEST, LEGACY_VERSIONS, MODERN, meta, method};
use protocol::{Code, Refusal};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::exchange;
use super::failure::Trouble;
use super::link::Link;
use super::plan::RemotePlan;
use crate::message::{self, excerpt};
use crate::upstream::{Initialized, Params, UpstreamAnswer, UpstreamRequest};

pub async fn shake(link: &Arc<Link>, generation: u64, deadline: Instant) -> Result<Initialized, Trouble> {
    match link.plan.era {
        Era::Legacy => {
            let params = hello(&link.plan);
            let request = UpstreamRequest::new(method::INITIALIZE, Params::raw(params.as_bytes()), deadline);
            let answer = exchange::run(link, &request).await?;
            let initialized = read_hello(link.who(), answer, generation)?;
            link.agree(&initialized.protocol_version);
            // It is sent before anything else, and not by the way.
            let body = message::notification(method::INITIALIZED, Params::none());
            link.send_aside(link.session_headers(), body.into()).await;
            Ok(initialized)
        }
        Era::Modern => {
            let params = json!({ "_meta": about_us(&link.plan) }).to_string();
            let request = UpstreamRequest::new(method::DISCOVER, Params::raw(params.as_bytes()), deadline);
            read_discovery(link.who(), exchange::run(link, &request).await?, generation)
        }
    }
}

/// The `params` of `initialize`: in the words of the client that it is for, else in our own.
pub fn hello(plan: &RemotePlan) -> String {
    let introduction = plan.introduction.as_ref();
    let capabilities = introduction.map_or("{}", |introduction| introduction.capabilities.get());
    let client = introduction
        .and_then(|introduction| introduction.client.as_deref())
        .map_or_else(|| ourselves(plan).to_string(), |client| client.get().to_owned());
    format!(r#"{{"protocolVersion":"{LEGACY_LATEST}","capabilities":{capabilities},"clientInfo":{client}}}"#)
}

fn ourselves(plan: &RemotePlan) -> Value {
    json!({ "name": plan.client.name, "version": plan.client.version })
}

/// The `_meta` of a modern request that we make ourselves.
pub fn about_us(plan: &RemotePlan) -> Value {
    json!({
        meta::PROTOCOL_VERSION: MODERN,
        meta::CLIENT_CAPABILITIES: {},
        meta::CLIENT_INFO: ourselves(plan),
    })
}

pub fn read_hello(who: &str, answer: UpstreamAnswer, generation: u64) -> Result<Initialized, Trouble> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        protocol_version: String,
    }
    let result = result_of(who, answer)?;
    let Ok(Shape { protocol_version }) = serde_json::from_slice(&result) else {
        let shown = excerpt(&result);
        return Err(failed(
            format!("`{who}` answered the handshake without a protocol version: {shown}"),
            &result,
        ));
    };
    if !LEGACY_VERSIONS.contains(&protocol_version.as_str()) {
        tracing::warn!(server = who, protocol_version, "a revision that is not known here");
    }
    Ok(Initialized { era: Era::Legacy, result, protocol_version, generation })
}

pub fn read_discovery(who: &str, answer: UpstreamAnswer, generation: u64) -> Result<Initialized, Trouble> {
    let result = result_of(who, answer)?;
    if !speaks_modern(&result) {
        let shown = excerpt(&result);
        return Err(failed(format!("`{who}` does not offer the revision {MODERN}: {shown}"), &result));
    }
    Ok(Initialized { era: Era::Modern, result, protocol_version: MODERN.to_owned(), generation })
}

/// Whether the result of `server/discover`, or the `data` of a refused version, names our revision.
pub fn speaks_modern(result: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Shape {
        #[serde(rename = "supportedVersions", alias = "supported")]
        versions: Vec<String>,
    }
    serde_json::from_slice::<Shape>(result).is_ok_and(|shape| shape.versions.iter().any(|one| one == MODERN))
}

/// Whether an `error` object is one that only a modern server gives, and one of our revision.
pub fn is_modern_error(error: &[u8]) -> bool {
    use protocol::mcp::code;
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

fn result_of(who: &str, answer: UpstreamAnswer) -> Result<Bytes, Trouble> {
    match answer {
        UpstreamAnswer::Result(result) => Ok(result),
        UpstreamAnswer::Error(error) => {
            Err(failed(format!("`{who}` refused the handshake: {}", excerpt(&error)), &error))
        }
    }
}

fn failed(reason: String, original: &[u8]) -> Trouble {
    let refusal = Refusal::new(Code::UpstreamFailed, reason);
    Trouble::from_refusal(message::holding(refusal, original), true)
}
