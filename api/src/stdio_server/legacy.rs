//! Messages of the revisions with a session, in the order in which they came: nothing is sent before the
//! session has begun, and notifications arrive before the requests after them.

use std::sync::Arc;
use std::time::Duration;

use protocol::Refusal;
use protocol::jsonrpc::{self, Body, Incoming};
use protocol::mcp::method;
use tokio::sync::mpsc;

use crate::stdio_server::exchange::{Left, Waiting};
use crate::stdio_server::gateway_client::{Answered, Reply};
use crate::stdio_server::in_flight::InFlight;
use crate::stdio_server::message::{Kind, Message};
use crate::stdio_server::server::StdioServer;
use crate::stdio_server::session::Facts;

/// Attempts to resume a broken stream.
const RESUMES: u32 = 3;
/// The pause before that when the gateway names none.
const PAUSE: Duration = Duration::from_secs(1);
/// A request has arrived after this long, so that it can be cancelled.
const ARRIVED: Duration = Duration::from_millis(200);

/// A message that waits for its turn.
pub struct Turn {
    pub message: Message,
    pub in_flight: InFlight,
}

pub async fn lane(server: Arc<StdioServer>, mut turns: mpsc::Receiver<Turn>) {
    while let Some(Turn { message, in_flight }) = turns.recv().await {
        let turn = async {
            match &message.kind {
                Kind::Request { method, .. } if **method == *method::INITIALIZE => {
                    initialize(&server, &message, in_flight).await;
                }
                Kind::Request { .. } | Kind::Batch { .. } => {
                    server.requests.spawn(carry(Arc::clone(&server), message, in_flight));
                }
                Kind::Cancelled { request } => {
                    let arrives = server.in_flight.begun(request).map(|begun| begun + ARRIVED);
                    server.requests.spawn(cancel(Arc::clone(&server), message, arrives));
                }
                Kind::Notification { method } => {
                    let opens = **method == *method::INITIALIZED;
                    tell(&server, &message).await;
                    if opens {
                        server.session.open();
                    }
                }
                Kind::Response => tell(&server, &message).await,
            }
        };
        tokio::select! {
            () = turn => {}
            () = server.ending.cancelled() => return,
        }
    }
}

/// Begins the session; an earlier one is over.
async fn initialize(server: &StdioServer, message: &Message, in_flight: InFlight) {
    let mut waiting = Waiting::new(message, in_flight);
    server.session.close(&server.client).await;
    server.session.introduce(message.params());
    let left = match server.client.post(axum::http::HeaderMap::new(), message.line.clone()).await {
        Ok(answered) => {
            let session = answered.session.clone();
            let answered = whole(answered, server, &mut waiting).await;
            if let (Some(id), Reply::Json(text)) = (session, &answered.reply)
                && let Ok(Body::Single(Incoming::Response(response))) = jsonrpc::parse(text, usize::MAX)
                && let Ok(result) = response.outcome
            {
                server.session.begin(id, result);
            }
            waiting.follow(server, answered).await
        }
        Err(refusal) => Left::Some { last_event_id: None, refusal },
    };
    if let Left::Some { refusal, .. } = left {
        waiting.refuse(server, &refusal).await;
    }
}

/// The answer that a stream brings, as if it had come alone; the rest is passed on.
async fn whole(answered: Answered, server: &StdioServer, waiting: &mut Waiting) -> Answered {
    let Reply::Events(mut events) = answered.reply else { return answered };
    let reply = loop {
        match events.next().await {
            Ok(Some(text)) => match jsonrpc::parse(&text, usize::MAX) {
                Ok(Body::Single(Incoming::Response(_))) => break Reply::Json(text),
                Ok(_) | Err(_) => waiting.take(server, &text).await,
            },
            Ok(None) => break Reply::Refused(server.client.broken()),
            Err(error) => break Reply::Refused(server.client.unreached(&error)),
        }
    };
    Answered { reply, ..answered }
}

/// Carries a request there and what comes of it back.
async fn carry(server: Arc<StdioServer>, message: Message, in_flight: InFlight) {
    let mut waiting = Waiting::new(&message, in_flight);
    server.session.remember(message.method(), message.params(), &message.line);
    let work = async {
        if let Err(refusal) = exchange(&server, &message, &mut waiting).await {
            waiting.refuse(&server, &refusal).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = server.ending.cancelled() => {}
    }
}

async fn exchange(server: &StdioServer, message: &Message, waiting: &mut Waiting) -> Result<(), Refusal> {
    let (answered, facts) = post(server, message).await?;
    let mut left = waiting.follow(server, answered).await;
    let mut tried = 0;
    loop {
        let (last, refusal) = match left {
            Left::Nobody => return Ok(()),
            Left::Some { last_event_id, refusal } => (last_event_id, refusal),
        };
        let (Some(facts), Some(last), true) = (&facts, last, tried < RESUMES) else { return Err(refusal) };
        tried += 1;
        tokio::time::sleep(PAUSE * tried).await;
        left = match server.client.get(facts.headers_after(Some(&last))).await {
            Ok(Answered { reply: Reply::Events(events), .. }) => match waiting.read(server, events).await {
                Left::Some { last_event_id: None, refusal } => {
                    Left::Some { last_event_id: Some(last), refusal }
                }
                left => left,
            },
            // The gateway does not know that stream any more.
            Ok(_) => return Err(refusal),
            Err(_) => Left::Some { last_event_id: Some(last), refusal },
        };
    }
}

/// Sends a message within the session; when that is lost, within a new one.
async fn post(server: &StdioServer, message: &Message) -> Result<(Answered, Option<Arc<Facts>>), Refusal> {
    let facts = server.session.now();
    let headers = facts.as_ref().map(|facts| facts.headers()).unwrap_or_default();
    let answered = server.client.post(headers, message.line.clone()).await?;
    let Some(lost) = facts.as_ref().filter(|_| answered.status == 404) else { return Ok((answered, facts)) };
    server.session.renew(&server.client, lost).await?;
    let facts = server.session.now();
    let headers = facts.as_ref().map(|facts| facts.headers()).unwrap_or_default();
    Ok((server.client.post(headers, message.line.clone()).await?, facts))
}

/// Sends what gets no answer.
async fn tell(server: &StdioServer, message: &Message) {
    let refusal = match post(server, message).await {
        Ok((Answered { reply: Reply::Refused(refusal), .. }, _)) | Err(refusal) => refusal.to_string(),
        Ok((Answered { reply: Reply::Json(text), .. }, _)) => String::from_utf8_lossy(&text).into_owned(),
        Ok(_) => return,
    };
    tracing::warn!(method = message.method(), refusal, "a message was not taken");
}

async fn cancel(server: Arc<StdioServer>, message: Message, arrives: Option<std::time::Instant>) {
    if let Some(arrives) = arrives {
        tokio::time::sleep_until(arrives.into()).await;
    }
    tell(&server, &message).await;
}
