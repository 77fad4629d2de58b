//! `trunkline stdio`: an MCP server on standard input and output that is a bridge to the endpoints `/mcp`
//! and `/mcp/s/{slug}` of a gateway. It carries messages and knows no tool; what a message means is
//! known here only as far as Streamable HTTP wants it said in headers.

mod exchange;
mod gateway_client;
mod get_stream;
mod in_flight;
mod input;
mod legacy;
mod message;
mod modern;
mod output;
mod param_headers;
mod server;
mod session;
pub mod target;

use std::sync::Arc;
use std::time::Duration;

use protocol::{Code, Refusal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::gateway_client::GatewayClient;
use self::in_flight::RequestsInFlight;
use self::input::Input;
use self::message::{Kind, Message};
use self::param_headers::ParamHeaders;
use self::server::StdioServer;
use self::session::Session;

/// The longest line that is taken, bytes.
const LINE_CAP: usize = 16 << 20;
/// Time for requests in flight after the end of input.
const GRACE: Duration = Duration::from_secs(5);
/// Time for the end of a session at the gateway.
const FAREWELL: Duration = Duration::from_secs(1);
/// Legacy messages that wait for their turn; then reading stands still.
const LANE: usize = 64;

/// Serves until the end of input, or until `stop` is cancelled.
pub async fn serve(client: GatewayClient, stop: CancellationToken) {
    let (out, writer) = output::start();
    let mut lines = input::start(LINE_CAP);
    let server = Arc::new(StdioServer {
        client,
        out,
        in_flight: RequestsInFlight::default(),
        param_headers: ParamHeaders::default(),
        session: Session::default(),
        requests: TaskTracker::new(),
        ending: CancellationToken::new(),
    });
    let standing = TaskTracker::new();
    standing.spawn(get_stream::listen(Arc::clone(&server)));
    let (lane, waiting) = mpsc::channel(LANE);
    server.requests.spawn(legacy::lane(Arc::clone(&server), waiting));

    let is_over = async {
        tokio::select! {
            () = stop.cancelled() => true,
            () = server.out.closed.cancelled() => true,
            () = pass_on(&server, &mut lines, &lane) => false,
        }
    };
    let at_once = is_over.await;
    drop(lane);
    server.end(&stop, at_once).await;
    standing.close();
    standing.wait().await;
    drop(server);
    writer.finish().await;
}

/// Takes line after line, until there are no more.
async fn pass_on(
    server: &Arc<StdioServer>,
    lines: &mut mpsc::Receiver<Input>,
    lane: &mpsc::Sender<legacy::Turn>,
) {
    while let Some(input) = lines.recv().await {
        match input {
            Input::Line(line) => server.take(line, lane).await,
            Input::TooLong => {
                let reason = format!("the line is longer than {LINE_CAP} bytes");
                server.out.refuse(None, &Refusal::new(Code::BodyTooLarge, reason)).await;
            }
        }
    }
}

impl StdioServer {
    /// Finds out what a line is, and hands it to its era.
    async fn take(self: &Arc<Self>, line: bytes::Bytes, lane: &mpsc::Sender<legacy::Turn>) {
        let message = match Message::read(line) {
            Ok(message) => message,
            Err((id, refusal)) => return self.out.refuse(id.as_deref(), &refusal).await,
        };
        if let Kind::Cancelled { request } = &message.kind
            && (self.in_flight.take_back(request) || !self.session.is_wanted())
        {
            return;
        }
        self.session.notice(&message);
        let in_flight = match self.in_flight.take(&message) {
            Ok(in_flight) => in_flight,
            Err(refusal) => {
                for id in message.ids() {
                    self.out.refuse(Some(id), &refusal).await;
                }
                return;
            }
        };
        if message.is_modern(self.session.is_wanted()) {
            self.requests.spawn(modern::carry(Arc::clone(self), message, in_flight));
        } else {
            // The lane ends only after this.
            drop(lane.send(legacy::Turn { message, in_flight }).await);
        }
    }

    /// Waits for what is in flight, then for nothing more.
    async fn end(&self, stop: &CancellationToken, at_once: bool) {
        self.in_flight.end_subscriptions();
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
        drop(tokio::time::timeout(FAREWELL, self.session.close(&self.client)).await);
    }
}
