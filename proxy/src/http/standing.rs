//! The stream that a legacy server may offer for what belongs to no request (GET). It is held open,
//! opened again when it breaks, and left alone where there is none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::mcp::header as names;

use super::audience::Whose;
use super::line::{Events, Reply};
use super::link::Link;
use crate::backoff::Backoff;
use crate::egress::Method;
use crate::egress::header::HeaderValue;

/// The pauses before a stream is opened again: the first one, and the longest.
pub const FIRST_PAUSE: Duration = Duration::from_secs(1);
pub const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The first pauses that a server may name by `retry`.
const SHORTEST_NAMED: Duration = Duration::from_millis(100);
const LONGEST_NAMED: Duration = Duration::from_secs(600);

/// Runs until the link is closed, or until it is clear that the server has no such stream.
pub async fn listen(link: Arc<Link>) {
    tokio::select! {
        () = hold(&link) => {}
        () = link.closed.cancelled() => {}
    }
}

async fn hold(link: &Arc<Link>) {
    let mut pause = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let (mut last_id, mut opened, mut first) = (None::<String>, false, FIRST_PAUSE);
    loop {
        let mut headers = link.session_headers();
        if let Some(Ok(id)) = last_id.as_deref().map(HeaderValue::from_str) {
            headers.insert(names::LAST_EVENT_ID, id);
        }
        match link.line.send(Method::GET, headers, None, None).await {
            Ok((Reply::Events(mut events), _)) => {
                if opened && last_id.is_none() {
                    link.audience.missed();
                }
                opened = true;
                let begun = Instant::now();
                // A server that names a pause wants to be asked again and again.
                if read(link, &mut events).await
                    || events.retry().is_some()
                    || begun.elapsed() > LONGEST_PAUSE
                {
                    pause.reset();
                }
                last_id = events.last_event_id().map(str::to_owned).or(last_id);
                first = events.retry().map_or(first, |named| named.clamp(SHORTEST_NAMED, LONGEST_NAMED));
            }
            Ok(_) => return,
            Err(trouble) if link.is_session_lost(trouble.status) => return link.lose_session(),
            Err(trouble) if trouble.is_a_no() && !opened => return,
            // It may be that it cannot go on from there: from now on, then.
            Err(trouble) if trouble.is_a_no() => last_id = None,
            Err(trouble) => {
                tracing::debug!(server = link.who(), reason = %trouble.failure.refusal, "no stream of events");
            }
        }
        tokio::time::sleep(pause.pause_from(first)).await;
    }
}

/// Reads a stream to its end; true if it brought anything.
async fn read(link: &Arc<Link>, events: &mut Events) -> bool {
    let mut any = false;
    while let Ok(Some(text)) = events.next_message().await {
        any = true;
        link.take(&text, None, Whose::Anybody, &link.closed);
    }
    any
}
