//! Transport of MCP over a WebSocket: JSON-RPC in text frames, subprotocol `mcp`. The pool does restarts.

mod connect;
mod eras;
pub mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use protocol::{Code, Refusal};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

pub use eras::eras;

use super::http::{RemotePlan, Started, not_started, shake_or_close};
use crate::egress::Socket;
use crate::peer::duplex::{DuplexConnection, Incoming, QueueOutbox};
use crate::server::RemoteLaunch;

/// Time between pings, and time without a frame after which the connection is closed.
const PING: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_secs(90);
/// Time for one frame to be written.
const WRITE: Duration = Duration::from_secs(30);

type Frames = WebSocketStream<Box<dyn Socket>>;

type WebSocketConnection = DuplexConnection<QueueOutbox>;

/// Connects to a remote server and performs the handshake in the era of the plan.
pub async fn start(
    plan: &RemotePlan,
    launch: &RemoteLaunch,
    generation: u64,
    deadline: Instant,
) -> Result<Started, Refusal> {
    let opened = open(plan, launch, deadline).await;
    let connection = opened.map_err(|refusal| not_started(&plan.peer.server, refusal))?;
    shake_or_close(plan, connection, generation, deadline).await
}

/// Opens a connection and starts its tasks.
async fn open(
    plan: &RemotePlan,
    launch: &RemoteLaunch,
    deadline: Instant,
) -> Result<Arc<WebSocketConnection>, Refusal> {
    let late = |_| Refusal::new(Code::TimedOut, format!("`{}`: connection timed out", plan.peer.server));
    let connecting = tokio::time::timeout_at(deadline.into(), connect::connect(plan, launch));
    let (sink, stream) = connecting.await.map_err(late)??.split();
    let connection = Arc::new(DuplexConnection::new(&plan.peer, QueueOutbox::new(plan.message_cap), ()));
    plan.peer.tasks.spawn(write(connection.clone(), sink));
    plan.peer.tasks.spawn(read(connection.clone(), stream));
    Ok(connection)
}

async fn read(connection: Arc<WebSocketConnection>, mut stream: SplitStream<Frames>) {
    let mut incoming = Incoming::new(connection.clone());
    let reason = loop {
        let next = tokio::select! {
            next = tokio::time::timeout(SILENCE, stream.next()) => next,
            () = connection.state.closed.cancelled() => return,
            never = connection.watch_deadlines() => match never {},
        };
        match next {
            Ok(Some(Ok(Message::Text(text)))) => incoming.take(&Bytes::from(text)),
            Ok(Some(Ok(Message::Close(frame)))) => {
                let said =
                    frame.map(|frame| format!(" ({} {})", frame.code, frame.reason)).unwrap_or_default();
                break format!("closed the connection{said}");
            }
            Ok(Some(Ok(Message::Binary(bytes)))) => {
                // A binary frame is a violation, but may hold a message.
                incoming.violation(|| "a binary frame, which is not MCP".to_owned());
                incoming.take(&bytes);
            }
            Ok(Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)))) => {}
            Ok(Some(Err(error))) => break explained(&error),
            Ok(None) => break "closed the connection".to_owned(),
            Err(_) => {
                break format!("sent nothing for {} s, not even an answer to a ping", SILENCE.as_secs());
            }
        }
    };
    incoming.end();
    connection.fail(&reason);
}

async fn write(connection: Arc<WebSocketConnection>, mut sink: SplitSink<Frames, Message>) {
    let mut ping = tokio::time::interval(PING);
    ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ping.tick().await;
    loop {
        let message = tokio::select! {
            next = connection.next_outgoing() => match next {
                Some(next) => {
                    let Ok(text) = Utf8Bytes::try_from(next.text) else { continue };
                    Message::Text(text)
                }
                None => {
                    // The close frame gets a second at most.
                    tokio::time::timeout(Duration::from_secs(1), sink.close()).await.ok();
                    return;
                }
            },
            _ = ping.tick() => Message::Ping(Bytes::new()),
        };
        let sent = tokio::select! {
            sent = tokio::time::timeout(WRITE, sink.send(message)) => sent,
            () = connection.state.closed.cancelled() => continue,
        };
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return connection.fail(&explained(&error)),
            Err(_) => return connection.fail("does not read its input"),
        }
    }
}

fn explained(error: &tungstenite::Error) -> String {
    match error {
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
            "closed the connection".to_owned()
        }
        tungstenite::Error::Capacity(_) => "sent a message that is too large".to_owned(),
        other => format!("lost the connection: {other}"),
    }
}
