//! GET stream of a legacy session: read as long as the session lasts, and opened again behind its last event
//! where it breaks.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use protocol::jsonrpc;
use proxy::backoff::Backoff;
use proxy::http::{Reply, StreamPosition};

use crate::stdio_server::gateway_client;
use crate::stdio_server::server::StdioServer;
use crate::stdio_server::session::SessionHeaders;

/// The first pause before a stream is opened again, when the gateway names none, and the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Reads the stream of the current session, for ever.
pub async fn run(server: &StdioServer) -> Infallible {
    let mut sessions = server.session.initialized.subscribe();
    loop {
        let session = sessions.borrow_and_update().clone();
        tokio::select! {
            never = hold(server, session) => match never {},
            changed = sessions.changed() => changed.expect("the server has the sender"),
        }
    }
}

/// Reads the stream of one session, until the future is dropped at the end of the session.
async fn hold(server: &StdioServer, session: Option<SessionHeaders>) -> Infallible {
    let Some(session) = session else { return pending().await };
    let (mut position, mut pause) = (StreamPosition::default(), Backoff::new(PAUSE, LONGEST_PAUSE));
    loop {
        let sent = server.client.get(position.headers((*session).clone())).await;
        match (gateway_client::status(&sent), sent) {
            (_, Ok((Reply::Events(mut events), _))) => {
                pause.reset();
                while let Ok(Some(text)) = events.next_message().await {
                    // A line that the client cannot read would end its connection.
                    if jsonrpc::parse(&text, usize::MAX).is_ok() {
                        server.out.write(&text).await;
                    }
                }
                position.advance(&events);
            }
            (Some(405), _) => return pending().await,
            (Some(404), _) => {
                tokio::time::sleep(PAUSE).await;
                if let Err(refusal) = server.session.renew(&server.client, &session).await {
                    tracing::warn!(%refusal, "the session is lost");
                }
            }
            (status, _) => tracing::debug!(status, "the session's stream does not open"),
        }
        let first = position.retry.unwrap_or(PAUSE).min(LONGEST_PAUSE);
        tokio::time::sleep(pause.pause_from(first)).await;
    }
}
