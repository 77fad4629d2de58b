//! The first words with a child: `initialize` and `notifications/initialized` (revisions up to
//! 2025-11-25), or `server/discover` (2026-07-28). The only place that knows how an era begins.

use std::time::Instant;

use protocol::mcp::{Era, LEGACY_LATEST, LEGACY_VERSIONS, MODERN, method};
use protocol::{Code, Refusal};
use serde::Deserialize;
use serde_json::Map;
use serde_json::value::RawValue;

use super::call::Call;
use super::oddities::excerpt;
use super::wire::Wire;
use crate::message;
use crate::own::{self, ClientName};
use crate::upstream::{Failure, Initialized, Introduction, Params, UpstreamAnswer, UpstreamRequest};

/// Takes what the child answers, whatever revision that is. Until then it is asked nothing: servers
/// are known to answer differently before their handshake.
pub async fn legacy(
    wire: &Wire,
    client: &ClientName,
    introduction: Option<&Introduction>,
    generation: u64,
    deadline: Instant,
) -> Result<Initialized, Failure> {
    let params = hello(client, introduction);
    let request = UpstreamRequest::new(method::INITIALIZE, Params::raw(params.as_bytes()), deadline);
    let answer = Call::new(wire, request, false).await?;
    let initialized = read(wire.who(), answer, generation)?;
    wire.notify(method::INITIALIZED, b"");
    Ok(initialized)
}

/// Asks what the child offers. There is nothing to shake hands about in the modern era, but a child
/// that does not speak our revision is not asked anything else.
pub async fn modern(
    wire: &Wire,
    client: &ClientName,
    generation: u64,
    deadline: Instant,
) -> Result<Initialized, Failure> {
    let who = wire.who();
    let result = match discover(wire, client, deadline).await? {
        UpstreamAnswer::Result(result) => result,
        UpstreamAnswer::Error(error) => {
            return Err(refused(format!("`{who}` refused `server/discover`: {}", excerpt(&error)), &error));
        }
    };
    if !speaks_modern(&result) {
        let shown = excerpt(&result);
        let reason = format!("`{who}` does not list {MODERN} among its `supportedVersions`: {shown}");
        return Err(refused(reason, &result));
    }
    Ok(Initialized { era: Era::Modern, result, protocol_version: MODERN.to_owned(), generation })
}

pub async fn discover(
    wire: &Wire,
    client: &ClientName,
    deadline: Instant,
) -> Result<UpstreamAnswer, Failure> {
    let params = own::params(Era::Modern, client, Map::new());
    let request = UpstreamRequest::new(method::DISCOVER, Params::raw(params.as_bytes()), deadline);
    Call::new(wire, request, false).await
}

/// Whether a result of `server/discover` lists the modern revision.
pub fn speaks_modern(result: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Discovered {
        supported_versions: Vec<String>,
    }
    serde_json::from_slice::<Discovered>(result)
        .is_ok_and(|discovered| discovered.supported_versions.iter().any(|version| version == MODERN))
}

/// The params of `initialize`: the client that the child is for speaks through us, or we for ourselves.
fn hello(client: &ClientName, introduction: Option<&Introduction>) -> String {
    let capabilities = introduction.map_or("{}", |introduction| introduction.capabilities.get());
    let own = client.info().to_string();
    let client = introduction.and_then(|introduction| introduction.client.as_deref());
    let client = client.map_or(own.as_str(), RawValue::get);
    format!(r#"{{"protocolVersion":"{LEGACY_LATEST}","capabilities":{capabilities},"clientInfo":{client}}}"#)
}

fn refused(reason: String, original: &[u8]) -> Failure {
    let refusal = message::holding(Refusal::new(Code::UpstreamFailed, reason), original);
    Failure { refusal, sent: true }
}

fn read(who: &str, answer: UpstreamAnswer, generation: u64) -> Result<Initialized, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        protocol_version: String,
    }
    let result = match answer {
        UpstreamAnswer::Result(result) => result,
        UpstreamAnswer::Error(error) => {
            return Err(refused(format!("`{who}` refused the handshake: {}", excerpt(&error)), &error));
        }
    };
    let Ok(Shape { protocol_version }) = serde_json::from_slice(&result) else {
        let shown = excerpt(&result);
        let reason = format!("`{who}` answered the handshake without a protocol version: {shown}");
        return Err(refused(reason, &result));
    };
    if !LEGACY_VERSIONS.contains(&protocol_version.as_str()) {
        tracing::warn!(server = who, protocol_version, "a revision that is not known here");
    }
    Ok(Initialized { era: Era::Legacy, result, protocol_version, generation })
}
