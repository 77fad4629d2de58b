//! Transport of MCP over HTTP with SSE (2024-11-05), the predecessor of Streamable HTTP: the server sends all
//! messages on one stream (GET), whose first event has the URL for messages to the server (POST).

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::http::ASIDE;
use super::http::RemotePlan;
use super::http::client::{Events, HttpClient, Reply};
use crate::egress::header::HeaderMap;
use crate::egress::{Method, Url};
use crate::peer::duplex::{DuplexConnection, Incoming, Outgoing, QueueOutbox};
use crate::upstream::{Failure, UpstreamAnswer};

/// Type of the first event.
const ENDPOINT: &str = "endpoint";

/// Time for a server to accept a message; its answer comes on the stream.
const LONGEST: Duration = Duration::from_secs(600);

type SseConnection = DuplexConnection<QueueOutbox>;

/// Opens the stream; `None` if the server has no such transport.
pub async fn open(plan: &RemotePlan, client: &HttpClient, deadline: Instant) -> Option<Arc<SseConnection>> {
    let first = async {
        let sent = client.send(Method::GET, HeaderMap::new(), None, None).await;
        let Ok((Reply::Events(mut events), _)) = sent else { return None };
        let event = events.next().await.ok()??;
        let url = (event.event == ENDPOINT).then(|| endpoint(&client.url, event.data.trim())).flatten()?;
        Some((events, url))
    };
    let (events, url) = tokio::time::timeout_at(deadline.into(), first).await.ok()??;
    let connection = Arc::new(DuplexConnection::new(&plan.peer, QueueOutbox::new(plan.message_cap), ()));
    plan.peer.tasks.spawn(read(connection.clone(), events));
    plan.peer.tasks.spawn(write(connection.clone(), client.at(url)));
    Some(connection)
}

/// Returns the URL for messages if it has the same origin, since requests carry the server's credentials.
fn endpoint(base: &Url, said: &str) -> Option<Url> {
    base.join(said).ok().filter(|url| url.origin() == base.origin())
}

async fn read(connection: Arc<SseConnection>, mut events: Box<Events>) {
    let mut incoming = Incoming::new(connection.clone());
    let reason = loop {
        let next = tokio::select! {
            next = events.next_message() => next,
            () = connection.state.closed.cancelled() => return,
            never = connection.watch_deadlines() => match never {},
        };
        match next {
            Ok(Some(text)) => incoming.take(&text),
            Ok(None) => break "closed its stream".to_owned(),
            Err(error) => break error.to_string(),
        }
    };
    incoming.end();
    connection.fail(&reason);
}

/// Sends notifications in order and requests concurrently, since a server may answer the POST only when the
/// request is done.
async fn write(connection: Arc<SseConnection>, client: HttpClient) {
    while let Some(Outgoing { id, text }) = connection.next_outgoing().await {
        match id {
            Some(id) => {
                let request = send_request(connection.clone(), client.clone(), id, text);
                connection.plan.tasks.spawn(request);
            }
            None => {
                let deadline = Some(Instant::now() + ASIDE);
                if let Err(trouble) = client.send(Method::POST, HeaderMap::new(), Some(text), deadline).await
                {
                    let reason = trouble.failure.refusal.reason;
                    connection.router.violations.note(|| format!("a message was lost: {reason}"));
                }
            }
        }
    }
}

async fn send_request(connection: Arc<SseConnection>, client: HttpClient, id: u64, text: Bytes) {
    let deadline = Some(Instant::now() + LONGEST);
    let sent = tokio::select! {
        sent = client.send(Method::POST, HeaderMap::new(), Some(text), deadline) => sent,
        () = connection.state.closed.cancelled() => return,
    };
    match sent {
        Ok((Reply::Nothing | Reply::Events(_), _)) => {}
        // The body may be an answer against the rules; usually it says `Accepted`.
        Ok((Reply::Json(text), _)) => Incoming::new(connection).take(&text),
        Ok((Reply::Explained { error, .. }, _)) => connection.complete(id, Ok(UpstreamAnswer::Error(error))),
        Err(trouble) => connection.complete(id, Err(Failure::from(trouble))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_stay_on_their_origin() {
        let base = Url::parse("https://host:8443/a/sse?x=1").unwrap();
        let joined = |said| endpoint(&base, said).map(String::from);
        assert_eq!(joined("/message?id=1").unwrap(), "https://host:8443/message?id=1");
        assert_eq!(joined("m").unwrap(), "https://host:8443/a/m");
        assert_eq!(joined("https://host:8443/m").unwrap(), "https://host:8443/m");
        for away in
            ["//evil/m", "http://host:8443/m", "https://host/m", "https://evil/", "javascript:1", "https://"]
        {
            assert_eq!(joined(away), None, "{away}");
        }
    }
}
