//! Messages of 2026-07-28: each stands alone. What its headers must say is taken from its body.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue};
use protocol::mcp::{code, header as names, method};

use crate::stdio_server::exchange::{Left, Waiting};
use crate::stdio_server::gate::{Answered, Reply};
use crate::stdio_server::message::Message;
use crate::stdio_server::tickets::Ticket;
use crate::stdio_server::{Door, exchange};

/// Carries a message there and what comes of it back. A request that is taken back is dropped, which
/// tells the gateway.
pub async fn carry(door: Arc<Door>, message: Message, ticket: Ticket) {
    let mut waiting = Waiting::new(&message, ticket);
    let gone = waiting.gone();
    tokio::select! {
        () = exchange(&door, &message, &mut waiting) => {}
        () = gone.cancelled() => {}
        () = door.ending.cancelled() => {}
    }
}

async fn exchange(door: &Door, message: &Message, waiting: &mut Waiting) {
    let left = match post(door, message).await {
        Ok(answered) => waiting.follow(door, answered).await,
        Err(refusal) => Left::Some { last_event_id: None, refusal },
    };
    if let Left::Some { refusal, .. } = left {
        waiting.refuse(door, &refusal).await;
    }
}

async fn post(door: &Door, message: &Message) -> Result<Answered, protocol::Refusal> {
    let is_call = message.method() == method::TOOLS_CALL;
    let mirrored = match is_call {
        true => door.mirrored.of_call(door, message).await,
        false => Vec::new(),
    };
    let answered = door.gate.post(headers(message, &mirrored), message.line.clone()).await?;
    let mismatch = match &answered.reply {
        Reply::Json(text) => exchange::error_code(text) == Some(code::HEADER_MISMATCH.into()),
        Reply::Events(_) | Reply::Nothing | Reply::Refused(_) => false,
    };
    if is_call && mismatch {
        // The tool's schema has changed. Nothing was done, so it can be said again.
        door.mirrored.refresh(door, message).await;
        let now = door.mirrored.of_call(door, message).await;
        if now != mirrored {
            return door.gate.post(headers(message, &now), message.line.clone()).await;
        }
    }
    Ok(answered)
}

/// The headers that a body wants.
pub fn headers(message: &Message, mirrored: &[(String, String)]) -> HeaderMap {
    let mut headers = proxy::http::modern_headers(message.method(), message.params(), mirrored);
    // One that the gateway does not speak is for the gateway to refuse.
    if let Some(revision) = message.revision.as_deref().and_then(|text| HeaderValue::from_str(text).ok()) {
        headers.insert(names::PROTOCOL_VERSION, revision);
    }
    headers
}
