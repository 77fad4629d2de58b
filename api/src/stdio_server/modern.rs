//! Messages of 2026-07-28: each stands alone. What its headers must say is taken from its body.

use std::sync::Arc;

use protocol::mcp::{code, method};

use crate::stdio_server::exchange::{Left, Waiting};
use crate::stdio_server::gateway_client::{Answered, Reply};
use crate::stdio_server::in_flight::InFlight;
use crate::stdio_server::message::{self, Message};
use crate::stdio_server::server::StdioServer;

/// Carries a message there and what comes of it back. A request that is taken back is dropped, which
/// tells the gateway.
pub async fn carry(server: Arc<StdioServer>, message: Message, in_flight: InFlight) {
    let mut waiting = Waiting::new(&message, in_flight);
    let gone = waiting.gone();
    tokio::select! {
        () = exchange(&server, &message, &mut waiting) => {}
        () = gone.cancelled() => {}
        () = server.ending.cancelled() => {}
    }
}

async fn exchange(server: &StdioServer, message: &Message, waiting: &mut Waiting) {
    let left = match post(server, message).await {
        Ok(answered) => waiting.follow(server, answered).await,
        Err(refusal) => Left::Some { last_event_id: None, refusal },
    };
    if let Left::Some { refusal, .. } = left {
        waiting.refuse(server, &refusal).await;
    }
}

async fn post(server: &StdioServer, message: &Message) -> Result<Answered, protocol::Refusal> {
    let is_call = message.method() == method::TOOLS_CALL;
    let param_headers = match is_call {
        true => server.param_headers.of_call(&server.client, message).await,
        false => Vec::new(),
    };
    let answered =
        server.client.post(message::modern_headers(message, &param_headers), message.line.clone()).await?;
    let mismatch = match &answered.reply {
        Reply::Json(text) => message::error_code(text) == Some(code::HEADER_MISMATCH.into()),
        Reply::Events(_) | Reply::Nothing | Reply::Refused(_) => false,
    };
    if is_call && mismatch {
        // The tool's schema has changed. Nothing was done, so it can be said again.
        server.param_headers.refresh(&server.client, message).await;
        let now = server.param_headers.of_call(&server.client, message).await;
        if now != param_headers {
            return server.client.post(message::modern_headers(message, &now), message.line.clone()).await;
        }
    }
    Ok(answered)
}
