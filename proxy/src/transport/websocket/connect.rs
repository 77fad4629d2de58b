//! WebSocket handshake: a checked address, the HTTP request, the subprotocol.

use protocol::{Code, Refusal};
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, http};

use super::Frames;
use crate::egress::Url;
use crate::egress::header::HeaderValue;
use crate::server::RemoteLaunch;
use crate::transport::http::{RemotePlan, failure, own_headers};

const SUBPROTOCOL: &str = "mcp";
/// Request header of the subprotocol (RFC 6455).
const PROTOCOL_HEADER: &str = "sec-websocket-protocol";

/// Connects without a time-out; the caller has one.
pub async fn connect(plan: &RemotePlan, launch: &RemoteLaunch) -> Result<Frames, Refusal> {
    let server = &plan.peer.server;
    let wrong = |reason: String| Refusal::new(Code::NotConfigured, format!("`{server}`: {reason}"));
    let url = Url::parse(&launch.url).map_err(|error| wrong(format!("its URL cannot be read: {error}")))?;
    let own = own_headers(&launch.headers).map_err(wrong)?;
    let mut request = url
        .as_str()
        .into_client_request()
        .map_err(|error| wrong(format!("its URL cannot be used: {error}")))?;
    request.headers_mut().extend(own);
    request.headers_mut().insert(PROTOCOL_HEADER, HeaderValue::from_static(SUBPROTOCOL));

    let socket = plan
        .egress
        .connect(&url)
        .await
        .map_err(|error| failure::unreached(server, &error).failure.refusal)?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(plan.message_cap))
        .max_frame_size(Some(plan.message_cap));
    match client_async_with_config(request, socket, Some(config)).await {
        Ok((frames, _)) => Ok(frames),
        Err(tungstenite::Error::Http(response)) => Err(refused(server, &response)),
        Err(error) => {
            let reason = format!("`{server}`: WebSocket handshake failed: {error}");
            Err(Refusal::new(Code::UpstreamUnavailable, reason))
        }
    }
}

/// Returns the refusal for an HTTP status.
fn refused(server: &str, response: &http::Response<Option<Vec<u8>>>) -> Refusal {
    failure::status(server, response.status().as_u16(), None).failure.refusal
}
