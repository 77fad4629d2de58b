//! The GET stream that a legacy server may offer for what belongs to no request. It is held open, opened
//! again when it breaks, and left alone where there is none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::{Events, Reply, StreamPosition};
use super::connection::HttpConnection;
use crate::backoff::Backoff;
use crate::egress::Method;
use crate::peer::Connection;
use crate::peer::listen::DeclaredLists;
use crate::peer::router::Stream;

/// The pauses before a stream is opened again: the first one, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The first pauses that a server may name by `retry`.
const SHORTEST_NAMED: Duration = Duration::from_millis(100);
const LONGEST_NAMED: Duration = Duration::from_secs(600);

/// Reads until the connection is closed, or until it is clear that the server has no such stream.
pub async fn read(connection: Arc<HttpConnection>, lists: DeclaredLists) {
    tokio::select! {
        () = hold(&connection, &lists) => {}
        () = connection.state.closed.cancelled() => {}
    }
}

async fn hold(connection: &Arc<HttpConnection>, lists: &DeclaredLists) {
    let mut pause = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let (mut position, mut opened) = (StreamPosition::default(), false);
    loop {
        let headers = position.headers(connection.session_headers());
        match connection.client.send(Method::GET, headers, None, None).await {
            Ok((Reply::Events(mut events), _)) => {
                if opened && position.last_event_id.is_none() {
                    // Changes in between were not notified.
                    lists.events().for_each(|event| (connection.plan.publish)(event));
                }
                opened = true;
                let begun = Instant::now();
                // A server that names a pause wants to be asked again and again.
                if read_to_end(connection, &mut events).await
                    || events.retry().is_some()
                    || begun.elapsed() > LONGEST_PAUSE
                {
                    pause.reset();
                }
                position.advance(&events);
            }
            Ok(_) => return,
            Err(trouble) if connection.is_session_lost(trouble.status) => return connection.lose_session(),
            Err(trouble) if trouble.is_a_no() && !opened => return,
            // The server may be unable to go on from there: from now on, then.
            Err(trouble) if trouble.is_a_no() => position.last_event_id = None,
            Err(trouble) => {
                tracing::debug!(server = connection.server(), reason = %trouble.failure.refusal, "no stream of events");
            }
        }
        let named = position.retry.map(|named| named.clamp(SHORTEST_NAMED, LONGEST_NAMED));
        tokio::time::sleep(pause.pause_from(named.unwrap_or(FIRST_PAUSE))).await;
    }
}

/// Reads a stream to its end; true if it brought anything.
async fn read_to_end(connection: &Arc<HttpConnection>, events: &mut Events) -> bool {
    let mut any = false;
    while let Ok(Some(text)) = events.next_message().await {
        any = true;
        connection.take(&text, None, Stream::Shared);
    }
    any
}
