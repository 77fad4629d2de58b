//! `trunkline stdio`: an MCP server on standard input and output that passes every message to the endpoint
//! `/mcp` or `/mcp/s/{slug}` of a gateway, by Streamable HTTP of the message's era. Tools are the gateway's.

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

use bytes::Bytes;
use protocol::mcp::method;
use protocol::{Code, Refusal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::gateway_client::GatewayClient;
use self::in_flight::{InFlight, Registration};
use self::input::Input;
use self::message::{Kind, Message};
use self::output::Output;
use self::param_headers::ParamHeaders;
use self::server::StdioServer;
use self::session::Session;

/// The longest line that is taken, bytes.
const LINE_CAP: usize = 16 << 20;
/// The longest wait for requests in flight after the end of input.
const GRACE: Duration = Duration::from_secs(5);
/// The longest wait for the end of the session, and for the last lines to be written.
const FAREWELL: Duration = Duration::from_secs(1);
/// The most legacy messages that wait for their turn; then reading waits too.
const QUEUE: usize = 64;

/// Legacy messages in their order.
type Queue = mpsc::Sender<(Message, Registration)>;

/// Serves until the end of input, or until `stop` is cancelled.
pub async fn serve(client: GatewayClient, stop: CancellationToken) {
    let ending = CancellationToken::new();
    let server = Arc::new(StdioServer {
        client,
        out: Output::start(),
        in_flight: InFlight::default(),
        param_headers: ParamHeaders::default(),
        session: Session::default(),
        requests: TaskTracker::new(),
        input_ended: ending.child_token(),
        ending,
    });
    let (queue, waiting) = mpsc::channel(QUEUE);
    server.requests.spawn(legacy::run(Arc::clone(&server), waiting));
    tokio::select! {
        () = stop.cancelled() => {}
        () = server.out.closed.cancelled() => {}
        () = answer(&server, queue) => {}
        never = get_stream::run(&server) => match never {},
    }
    server.ending.cancel();
    tokio::time::timeout(FAREWELL, server.session.close(&server.client)).await.ok();
    // The output is complete when no task holds the server any more.
    let written = server.out.closed.clone();
    drop(server);
    tokio::time::timeout(FAREWELL, written.cancelled()).await.ok();
}

/// Takes line after line until the end of input, then waits for the requests in flight.
async fn answer(server: &Arc<StdioServer>, queue: Queue) {
    let (mut lines, mut has_session) = (input::start(LINE_CAP), false);
    while let Some(input) = lines.recv().await {
        match input {
            Input::Line(line) => dispatch(server, line, &queue, &mut has_session).await,
            Input::TooLong => {
                let reason = format!("the line is longer than {LINE_CAP} bytes");
                server.out.refuse(None, &Refusal::new(Code::BodyTooLarge, reason)).await;
            }
        }
    }
    drop(queue);
    server.input_ended.cancel();
    server.requests.close();
    if tokio::time::timeout(GRACE, server.requests.wait()).await.is_err() {
        tracing::warn!("the input ended before some requests were answered");
    }
}

/// Reads a line, and hands the message to its era. `has_session`: the client has sent `initialize`.
async fn dispatch(server: &Arc<StdioServer>, line: Bytes, queue: &Queue, has_session: &mut bool) {
    let message = match Message::read(line) {
        Ok(message) => message,
        Err((id, refusal)) => return server.out.refuse(id.as_deref(), &refusal).await,
    };
    if let Kind::Cancelled { request } = &message.kind
        && (server.in_flight.withdraw(request) || !*has_session)
    {
        return;
    }
    *has_session |= *message.method == *method::INITIALIZE;
    let registration = match server.in_flight.register(&message) {
        Ok(registration) => registration,
        Err(refusal) => {
            for id in &message.ids {
                server.out.refuse(Some(id), &refusal).await;
            }
            return;
        }
    };
    if message.is_modern(*has_session) {
        server.requests.spawn(modern::carry(Arc::clone(server), message, registration));
    } else {
        // The queue closes after the last line only.
        queue.send((message, registration)).await.ok();
    }
}
