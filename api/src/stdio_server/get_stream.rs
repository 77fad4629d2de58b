//! The GET stream of a legacy session: read as long as the session lasts, and
//! taken up again where it broke off.

use std::sync::Arc;
use std::time::Duration;

use crate::stdio_server::gateway_client::{Answered, Events, Reply};
use crate::stdio_server::server::StdioServer;
use crate::stdio_server::session::Facts;

/// The pause before a stream is opened again, when the gateway names none, and the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Reads the stream of whichever session there is, until the end.
pub async fn listen(server: Arc<StdioServer>) {
    let mut sessions = server.session.home.subscribe();
    loop {
        let session = sessions.borrow_and_update().clone();
        let reading = async {
            if let Some(facts) = session {
                read(&server, &facts).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = reading => {}
            changed = sessions.changed() => if changed.is_err() { return },
            () = server.ending.cancelled() => return,
        }
    }
}

/// Reads one session's stream until there is no such thing.
async fn read(server: &StdioServer, facts: &Facts) {
    let (mut last, mut retry, mut failures) = (None::<String>, None, 0_u32);
    loop {
        match server.client.get(facts.headers_after(last.as_deref())).await {
            Ok(Answered { reply: Reply::Events(mut events), .. }) => {
                failures = 0;
                pass_on(server, &mut events).await;
                last = events.last_event_id().map(str::to_owned).or(last);
                retry = events.retry().or(retry);
            }
            Ok(Answered { status: 405, .. }) => return,
            Ok(Answered { status: 404, .. }) => {
                tokio::time::sleep(PAUSE).await;
                match server.session.renew(&server.client, facts).await {
                    Ok(()) => return,
                    Err(refusal) => tracing::warn!(%refusal, "the session is lost"),
                }
                failures += 1;
            }
            Ok(Answered { status, .. }) => {
                tracing::debug!(status, "the session's stream is not given");
                failures += 1;
            }
            Err(refusal) => {
                tracing::debug!(%refusal, "the session's stream is not given");
                failures += 1;
            }
        }
        let pause = retry.unwrap_or(PAUSE).saturating_mul(1 << failures.min(5));
        tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
    }
}

async fn pass_on(server: &StdioServer, events: &mut Events) {
    loop {
        match events.next().await {
            // What the client cannot read would end its connection.
            Ok(Some(text)) if protocol::jsonrpc::parse(&text, usize::MAX).is_ok() => {
                drop(server.out.say(&text).await);
            }
            Ok(Some(_)) => tracing::warn!("the gateway said what is no JSON-RPC"),
            Ok(None) => return,
            Err(error) => return tracing::debug!(%error, "the session's stream broke"),
        }
    }
}
