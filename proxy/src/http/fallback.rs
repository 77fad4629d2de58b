//! The transport before Streamable HTTP (2024-11-05, HTTP with SSE): everything from the server comes on
//! one stream (GET), whose first event says where messages are to be sent (POST).

use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::{Code, Refusal};
use tokio::sync::mpsc;

use super::line::{Events, Line, Reply};
use super::link::ASIDE;
use crate::duplex::{Outgoing, Wire};
use crate::egress::header::HeaderMap;
use crate::egress::{Method, Url};
use crate::http::RemotePlan;
use crate::upstream::{Failure, UpstreamAnswer};

/// The type of the first event.
const ENDPOINT: &str = "endpoint";

/// How long a server may take to take a message; its answer comes on the stream.
const LONGEST: Duration = Duration::from_secs(600);

/// Opens the stream; none where the server has no such thing.
pub async fn open(plan: &RemotePlan, line: &Line, deadline: Instant) -> Option<Arc<Wire>> {
    let first = async {
        let sent = line.send(Method::GET, HeaderMap::new(), None, None).await;
        let Ok((Reply::Events(mut events), _)) = sent else { return None };
        let event = events.next().await.ok()??;
        let url = (event.event == ENDPOINT).then(|| endpoint(&line.url, event.data.trim())).flatten()?;
        Some((events, url))
    };
    let (events, url) = tokio::time::timeout_at(deadline.into(), first).await.ok()??;
    let (wire, outgoing) = Wire::new(plan);
    plan.tasks.spawn(read(wire.clone(), events));
    plan.tasks.spawn(write(wire.clone(), line.at(url), outgoing));
    Some(wire)
}

/// Where messages go: on the same origin, else the server could send ours, with its credentials, anywhere.
fn endpoint(base: &Url, said: &str) -> Option<Url> {
    base.join(said).ok().filter(|url| url.origin() == base.origin())
}

async fn read(wire: Arc<Wire>, mut events: Box<Events>) {
    let reason = loop {
        let next = tokio::select! {
            next = events.next_message() => next,
            () = wire.closed.cancelled() => return,
        };
        match next {
            Ok(Some(text)) => wire.take(&text),
            Ok(None) => break format!("`{}` closed its stream", wire.who()),
            Err(error) => break format!("`{}`: {error}", wire.who()),
        }
    };
    if wire.is_open() {
        wire.plan.logs.note(reason.clone());
        wire.close(Refusal::new(Code::UpstreamFailed, reason));
    }
}

/// Sends each message; notifications in their order, requests side by side, since a server may answer
/// only when it is done.
async fn write(wire: Arc<Wire>, line: Line, mut outgoing: mpsc::Receiver<Outgoing>) {
    loop {
        let next = tokio::select! {
            next = outgoing.recv() => next,
            () = wire.closed.cancelled() => return,
        };
        let Some(next) = next else { return };
        wire.took(&next);
        let Outgoing { id, text } = next;
        match id {
            Some(id) => {
                let (wire, line) = (wire.clone(), line.clone());
                wire.plan.tasks.clone().spawn(async move {
                    let sent = tokio::select! {
                        sent = line.send(Method::POST, HeaderMap::new(), Some(text), Some(Instant::now() + LONGEST)) => sent,
                        () = wire.closed.cancelled() => return,
                    };
                    match sent {
                        Ok((Reply::Nothing | Reply::Events(_), _)) => {}
                        // Not as it should be, but then here it is; most often it says `Accepted`.
                        Ok((Reply::Json(text), _)) => wire.take(&text),
                        Ok((Reply::Explained { error, .. }, _)) => {
                            wire.settle(id, Ok(UpstreamAnswer::Error(error)))
                        }
                        Err(trouble) => wire.settle(id, Err(Failure::from(trouble))),
                    }
                });
            }
            None => {
                let deadline = Some(Instant::now() + ASIDE);
                if let Err(trouble) = line.send(Method::POST, HeaderMap::new(), Some(text), deadline).await {
                    wire.plan.logs.note(format!("a message was lost: {}", trouble.failure.refusal.reason));
                }
            }
        }
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
