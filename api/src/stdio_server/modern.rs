//! Messages of 2026-07-28: each stands alone, with headers that repeat parts of its body.

use std::sync::Arc;

use protocol::mcp::{code, method};
use proxy::http::Reply;
use proxy::message::code;

use crate::stdio_server::exchange::Exchange;
use crate::stdio_server::gateway_client::Sent;
use crate::stdio_server::in_flight::Registration;
use crate::stdio_server::message::Message;
use crate::stdio_server::server::StdioServer;

/// Sends a message and passes on its reply. The end of the HTTP request cancels one that is withdrawn.
pub async fn carry(server: Arc<StdioServer>, message: Message, registration: Registration) {
    let withdrawn = registration.withdrawn().clone();
    // A subscription would never end by itself.
    let ending = if *message.method == *method::LISTEN { &server.input_ended } else { &server.ending };
    let mut exchange = Exchange::new(&server, &message, registration);
    let work = async {
        let sent = post(&server, &message).await;
        let outcome = exchange.follow(sent).await;
        exchange.end(outcome).await;
    };
    tokio::select! {
        () = work => {}
        () = withdrawn.cancelled() => {}
        () = ending.cancelled() => {}
    }
}

async fn post(server: &StdioServer, message: &Message) -> Sent {
    let (client, params) = (&server.client, &server.param_headers);
    if *message.method != *method::TOOLS_CALL {
        return client.post(message.headers(&[]), message.line.clone()).await;
    }
    let known = params.of_call(client, message, false).await;
    let sent = client.post(message.headers(&known), message.line.clone()).await;
    if let Ok((Reply::Explained { error, .. }, _)) = &sent
        && code(error) == Some(code::HEADER_MISMATCH.into())
    {
        // The tool's schema has changed. Nothing was done, so the call can be sent again.
        let now = params.of_call(client, message, true).await;
        if now != known {
            return client.post(message.headers(&now), message.line.clone()).await;
        }
    }
    sent
}
