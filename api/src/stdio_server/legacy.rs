//! Messages of the revisions with a session, in the order in which they came: none is sent before the
//! session has begun, and a notification arrives before the requests after it.

use std::sync::Arc;
use std::time::Duration;

use protocol::mcp::method;
use proxy::http::Reply;
use proxy::message::excerpt;
use tokio::sync::mpsc;

use crate::stdio_server::exchange::Exchange;
use crate::stdio_server::in_flight::Registration;
use crate::stdio_server::message::{Kind, Message};
use crate::stdio_server::server::StdioServer;

/// The most GETs that continue a stream that broke.
const RESUMES: u32 = 3;
/// The pause before the first of them.
const PAUSE: Duration = Duration::from_secs(1);
/// A request has arrived after this long, so that it can be cancelled.
const ARRIVED: Duration = Duration::from_millis(200);

/// Sends the messages of the queue.
pub async fn run(server: Arc<StdioServer>, mut queue: mpsc::Receiver<(Message, Registration)>) {
    while let Some((message, registration)) = queue.recv().await {
        tokio::select! {
            () = send(&server, message, registration) => {}
            () = server.ending.cancelled() => return,
        }
    }
}

async fn send(server: &Arc<StdioServer>, message: Message, registration: Registration) {
    match &message.kind {
        Kind::Request if *message.method == *method::INITIALIZE => {
            server.session.close(&server.client).await;
            server.session.introduce(&message.params);
            carry(Arc::clone(server), message, registration).await;
        }
        Kind::Request | Kind::Batch => {
            server.requests.spawn(carry(Arc::clone(server), message, registration));
        }
        Kind::Cancelled { request } => {
            let (server, begun) = (Arc::clone(server), server.in_flight.begun(request));
            server.clone().requests.spawn(async move {
                if let Some(begun) = begun {
                    tokio::time::sleep_until((begun + ARRIVED).into()).await;
                }
                deliver(&server, &message).await;
            });
        }
        Kind::Notification | Kind::Response => {
            deliver(server, &message).await;
            if *message.method == *method::INITIALIZED {
                server.session.confirm();
            }
        }
    }
}

/// Sends a request and passes on its reply; a stream that breaks goes on behind its last event.
async fn carry(server: Arc<StdioServer>, message: Message, registration: Registration) {
    server.session.remember(&message);
    let mut exchange = Exchange::new(&server, &message, registration);
    let work = async {
        let (session, sent) = server.session.post(&server.client, &message.line).await;
        let mut outcome = exchange.follow(sent).await;
        for tried in 1..=RESUMES {
            if outcome.is_ok() || exchange.position.last_event_id.is_none() {
                break;
            }
            tokio::time::sleep(PAUSE * tried).await;
            match server.client.get(exchange.position.headers(session.clone())).await {
                Ok((Reply::Events(events), _)) => outcome = exchange.read(events).await,
                Err(trouble) if trouble.status.is_none() => {}
                // The gateway does not know that stream any more.
                Ok(_) | Err(_) => break,
            }
        }
        exchange.end(outcome).await;
    };
    tokio::select! {
        () = work => {}
        () = server.ending.cancelled() => {}
    }
}

/// Sends a message that gets no answer.
async fn deliver(server: &StdioServer, message: &Message) {
    let (_, sent) = server.session.post(&server.client, &message.line).await;
    let reason = match sent {
        Ok((Reply::Nothing | Reply::Events(_), _)) => return,
        Ok((Reply::Json(error) | Reply::Explained { error, .. }, _)) => excerpt(&error),
        Err(trouble) => trouble.failure.refusal.to_string(),
    };
    tracing::warn!(method = &*message.method, reason, "a message was not taken");
}
