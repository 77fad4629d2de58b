//! The first words with a child: `initialize` and `notifications/initialized` (revisions up to
//! 2025-11-25). The only place that knows how an era begins.

use std::time::Instant;

use protocol::mcp::{Era, LEGACY_LATEST, LEGACY_VERSIONS, method};
use protocol::{Code, Refusal};
use serde::Deserialize;

use super::call::Call;
use super::wire::Wire;
use crate::upstream::{Failure, Initialized, Params, UpstreamAnswer, UpstreamRequest};

/// Who we say we are.
#[derive(Clone, Debug)]
pub struct ClientName {
    pub name: String,
    pub version: String,
}

/// Takes what the child answers, whatever revision that is. Until then it is asked nothing: servers
/// are known to answer differently before their handshake.
pub async fn legacy(
    wire: &Wire,
    client: &ClientName,
    generation: u64,
    deadline: Instant,
) -> Result<Initialized, Failure> {
    let params = serde_json::json!({
        "protocolVersion": LEGACY_LATEST,
        "capabilities": {},
        "clientInfo": { "name": client.name, "version": client.version },
    })
    .to_string();
    let request = UpstreamRequest::new(method::INITIALIZE, Params::raw(params.as_bytes()), deadline);
    let answer = Call::new(wire, request, false).await?;
    let initialized = read(wire.who(), answer, generation)?;
    wire.notify(method::INITIALIZED, b"");
    Ok(initialized)
}

fn read(who: &str, answer: UpstreamAnswer, generation: u64) -> Result<Initialized, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        protocol_version: String,
    }
    let refused =
        |reason: String| Failure { refusal: Refusal::new(Code::UpstreamFailed, reason), sent: true };
    let result = match answer {
        UpstreamAnswer::Result(result) => result,
        UpstreamAnswer::Error(error) => {
            let error = super::oddities::excerpt(&error);
            return Err(refused(format!("`{who}` refused the handshake: {error}")));
        }
    };
    let Ok(Shape { protocol_version }) = serde_json::from_slice(&result) else {
        let shown = super::oddities::excerpt(&result);
        return Err(refused(format!("`{who}` answered the handshake without a protocol version: {shown}")));
    };
    if !LEGACY_VERSIONS.contains(&protocol_version.as_str()) {
        tracing::warn!(server = who, protocol_version, "a revision that is not known here");
    }
    Ok(Initialized { era: Era::Legacy, result, protocol_version, generation })
}
