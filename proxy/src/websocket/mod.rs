//! An upstream that is a remote server behind a WebSocket: JSON-RPC in text frames, subprotocol `mcp`. It
//! knows the frames; what goes through them is the line's, restarts are the pool's.

mod connect;
mod eras;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use protocol::{Code, Refusal};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

pub use eras::eras;

use crate::duplex::{DuplexUpstream, Outgoing, Wire, shake};
use crate::egress::Socket;
use crate::http::{RemotePlan, Started, not_started};
use crate::server::RemoteLaunch;

/// How often the server is pinged, and after how long without a frame it counts as gone.
const PING: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_secs(90);
/// How long one frame may take to be written.
const WRITE: Duration = Duration::from_secs(30);

type Frames = WebSocketStream<Box<dyn Socket>>;

/// Connects to a remote server and shakes hands with it in the era of the plan.
pub async fn start(
    plan: &RemotePlan,
    launch: &RemoteLaunch,
    generation: u64,
    deadline: Instant,
) -> Result<Started, Refusal> {
    let wire = open(plan, launch, deadline).await.map_err(|refusal| not_started(&plan.who, refusal))?;
    // Whoever waits for the start may go away.
    let unfinished = wire.closed.clone().drop_guard();
    match shake(&wire, generation, deadline).await {
        Ok(initialized) => {
            unfinished.disarm();
            Ok((Arc::new(DuplexUpstream::new(wire, &initialized)), Arc::new(initialized)))
        }
        Err(failure) => {
            let refusal = not_started(&plan.who, failure.refusal);
            wire.close(refusal.clone());
            Err(refusal)
        }
    }
}

/// A connection with its two tasks.
async fn open(plan: &RemotePlan, launch: &RemoteLaunch, deadline: Instant) -> Result<Arc<Wire>, Refusal> {
    let late = |_| Refusal::new(Code::TimedOut, format!("`{}` took no connection in time", plan.who));
    let connecting = tokio::time::timeout_at(deadline.into(), connect::connect(plan, launch));
    let (sink, stream) = connecting.await.map_err(late)??.split();
    let (wire, outgoing) = Wire::new(plan);
    plan.tasks.spawn(write(wire.clone(), sink, outgoing));
    plan.tasks.spawn(read(wire.clone(), stream));
    Ok(wire)
}

async fn read(wire: Arc<Wire>, mut stream: SplitStream<Frames>) {
    let reason = loop {
        let next = tokio::select! {
            next = tokio::time::timeout(SILENCE, stream.next()) => next,
            () = wire.closed.cancelled() => return,
        };
        match next {
            Ok(Some(Ok(Message::Text(text)))) => wire.take(&Bytes::from(text)),
            Ok(Some(Ok(Message::Close(frame)))) => {
                let said =
                    frame.map(|frame| format!(" ({} {})", frame.code, frame.reason)).unwrap_or_default();
                break format!("closed the connection{said}");
            }
            Ok(Some(Ok(Message::Binary(bytes)))) => {
                // Not as it should be, but what is in it may be a message.
                wire.plan.logs.note("a binary frame, which is not MCP");
                wire.take(&bytes);
            }
            Ok(Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)))) => {}
            Ok(Some(Err(error))) => break explained(&error),
            Ok(None) => break "closed the connection".to_owned(),
            Err(_) => {
                break format!("sent nothing for {} s, not even an answer to a ping", SILENCE.as_secs());
            }
        }
    };
    fail(&wire, &reason);
}

async fn write(
    wire: Arc<Wire>,
    mut sink: SplitSink<Frames, Message>,
    mut outgoing: mpsc::Receiver<Outgoing>,
) {
    let mut ping = tokio::time::interval(PING);
    ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ping.tick().await;
    loop {
        let message = tokio::select! {
            () = wire.closed.cancelled() => {
                // The polite way, as far as it goes at once.
                tokio::time::timeout(Duration::from_secs(1), sink.close()).await.ok();
                return;
            }
            next = outgoing.recv() => match next {
                Some(next) => {
                    wire.took(&next);
                    let Ok(text) = Utf8Bytes::try_from(next.text) else { continue };
                    Message::Text(text)
                }
                None => return,
            },
            _ = ping.tick() => Message::Ping(Bytes::new()),
        };
        let sent = tokio::select! {
            sent = tokio::time::timeout(WRITE, sink.send(message)) => sent,
            () = wire.closed.cancelled() => continue,
        };
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return fail(&wire, &explained(&error)),
            Err(_) => return fail(&wire, "does not read what it is sent"),
        }
    }
}

fn fail(wire: &Wire, reason: &str) {
    if wire.is_open() {
        let reason = format!("`{}` {reason}", wire.who());
        wire.plan.logs.note(reason.clone());
        wire.close(Refusal::new(Code::UpstreamFailed, reason).since(jiff::Timestamp::now()));
    }
}

fn explained(error: &tungstenite::Error) -> String {
    match error {
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
            "closed the connection".to_owned()
        }
        tungstenite::Error::Capacity(_) => "sent a message that is too large".to_owned(),
        other => format!("broke the connection: {other}"),
    }
}
