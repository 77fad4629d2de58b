//! `trunkline stdio`: an MCP server on standard input and output that is a bridge to the endpoints `/mcp`
//! and `/mcp/s/{slug}` of a gateway. It carries messages and knows no tool; what a message means is
//! known here only as far as Streamable HTTP wants it said in headers.

mod exchange;
mod gate;
mod home;
mod input;
mod legacy;
mod message;
mod mirrored;
mod modern;
mod output;
pub mod place;
mod session;
mod tickets;

use std::sync::Arc;
use std::time::Duration;

use protocol::{Code, Refusal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::gate::Gate;
use self::input::Input;
use self::message::{Kind, Message};
use self::mirrored::Mirrored;
use self::output::Output;
use self::session::Session;
use self::tickets::Tickets;

/// The longest line that is taken, bytes.
const LINE_CAP: usize = 16 << 20;
/// Time for requests in flight after the end of input.
const GRACE: Duration = Duration::from_secs(5);
/// Time for the end of a session at the gateway.
const FAREWELL: Duration = Duration::from_secs(1);
/// Legacy messages that wait for their turn; then reading stands still.
const LANE: usize = 64;

/// State shared by all parts.
pub struct Door {
    gate: Gate,
    out: Output,
    tickets: Tickets,
    mirrored: Mirrored,
    session: Session,
    /// Requests that are waited for at the end.
    requests: TaskTracker,
    /// Cancelled when nothing is waited for any more.
    ending: CancellationToken,
}

/// Serves until the end of input, or until `stop` is cancelled.
pub async fn serve(gate: Gate, stop: CancellationToken) {
    let (out, writer) = output::start();
    let mut lines = input::start(LINE_CAP);
    let door = Arc::new(Door {
        gate,
        out,
        tickets: Tickets::default(),
        mirrored: Mirrored::default(),
        session: Session::default(),
        requests: TaskTracker::new(),
        ending: CancellationToken::new(),
    });
    let standing = TaskTracker::new();
    standing.spawn(home::listen(Arc::clone(&door)));
    let (lane, waiting) = mpsc::channel(LANE);
    door.requests.spawn(legacy::lane(Arc::clone(&door), waiting));

    let is_over = async {
        tokio::select! {
            () = stop.cancelled() => true,
            () = door.out.closed.cancelled() => true,
            () = pass_on(&door, &mut lines, &lane) => false,
        }
    };
    let at_once = is_over.await;
    drop(lane);
    door.end(&stop, at_once).await;
    standing.close();
    standing.wait().await;
    drop(door);
    writer.finish().await;
}

/// Takes line after line, until there are no more.
async fn pass_on(door: &Arc<Door>, lines: &mut mpsc::Receiver<Input>, lane: &mpsc::Sender<legacy::Turn>) {
    while let Some(input) = lines.recv().await {
        match input {
            Input::Line(line) => door.take(line, lane).await,
            Input::TooLong => {
                let reason = format!("the line is longer than {LINE_CAP} bytes");
                door.out.refuse(None, &Refusal::new(Code::BodyTooLarge, reason)).await;
            }
        }
    }
}

impl Door {
    /// Finds out what a line is, and hands it to its era.
    async fn take(self: &Arc<Self>, line: bytes::Bytes, lane: &mpsc::Sender<legacy::Turn>) {
        let message = match Message::read(line) {
            Ok(message) => message,
            Err((id, refusal)) => return self.out.refuse(id.as_deref(), &refusal).await,
        };
        if let Kind::Cancelled { request } = &message.kind
            && (self.tickets.take_back(request) || !self.session.is_wanted())
        {
            return;
        }
        self.session.notice(&message);
        let ticket = match self.tickets.take(&message) {
            Ok(ticket) => ticket,
            Err(refusal) => {
                for id in message.ids() {
                    self.out.refuse(Some(id), &refusal).await;
                }
                return;
            }
        };
        if message.is_modern(self.session.is_wanted()) {
            self.requests.spawn(modern::carry(Arc::clone(self), message, ticket));
        } else {
            // The lane ends only after this.
            drop(lane.send(legacy::Turn { message, ticket }).await);
        }
    }

    /// Waits for what is in flight, then for nothing more.
    async fn end(&self, stop: &CancellationToken, at_once: bool) {
        self.tickets.end_subscriptions();
        self.requests.close();
        if !at_once {
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.out.closed.cancelled() => {}
                () = self.requests.wait() => {}
                () = tokio::time::sleep(GRACE) => {
                    tracing::warn!("the input ended before some requests were answered");
                }
            }
        }
        self.ending.cancel();
        drop(tokio::time::timeout(FAREWELL, self.session.close(&self.gate)).await);
    }
}
