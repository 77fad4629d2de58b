//! Messages of the revisions with a session, in the order in which they came: nothing is sent before the
//! session has begun, and notifications arrive before the requests after them.

use std::sync::Arc;
use std::time::Duration;

use protocol::Refusal;
use protocol::jsonrpc::{self, Body, Incoming};
use protocol::mcp::method;
use tokio::sync::mpsc;

use crate::stdio_server::Door;
use crate::stdio_server::exchange::{Left, Waiting};
use crate::stdio_server::gate::{Answered, Reply};
use crate::stdio_server::message::{Kind, Message};
use crate::stdio_server::session::Facts;
use crate::stdio_server::tickets::Ticket;

/// Attempts to resume a broken stream.
const RESUMES: u32 = 3;
/// The pause before that when the gateway names none.
const PAUSE: Duration = Duration::from_secs(1);
/// A request has arrived after this long, so that it can be cancelled.
const ARRIVED: Duration = Duration::from_millis(200);

/// A message that waits for its turn.
pub struct Turn {
    pub message: Message,
    pub ticket: Ticket,
}

pub async fn lane(door: Arc<Door>, mut turns: mpsc::Receiver<Turn>) {
    while let Some(Turn { message, ticket }) = turns.recv().await {
        let turn = async {
            match &message.kind {
                Kind::Request { method, .. } if **method == *method::INITIALIZE => {
                    initialize(&door, &message, ticket).await;
                }
                Kind::Request { .. } | Kind::Batch { .. } => {
                    door.requests.spawn(carry(Arc::clone(&door), message, ticket));
                }
                Kind::Cancelled { request } => {
                    let arrives = door.tickets.begun(request).map(|begun| begun + ARRIVED);
                    door.requests.spawn(cancel(Arc::clone(&door), message, arrives));
                }
                Kind::Notification { method } => {
                    let opens = **method == *method::INITIALIZED;
                    tell(&door, &message).await;
                    if opens {
                        door.session.open();
                    }
                }
                Kind::Response => tell(&door, &message).await,
            }
        };
        tokio::select! {
            () = turn => {}
            () = door.ending.cancelled() => return,
        }
    }
}

/// Begins the session; an earlier one is over.
async fn initialize(door: &Door, message: &Message, ticket: Ticket) {
    let mut waiting = Waiting::new(message, ticket);
    door.session.close(&door.gate).await;
    door.session.introduce(message.params());
    let left = match door.gate.post(axum::http::HeaderMap::new(), message.line.clone()).await {
        Ok(answered) => {
            let session = answered.session.clone();
            let answered = whole(answered, door, &mut waiting).await;
            if let (Some(id), Reply::Json(text)) = (session, &answered.reply)
                && let Ok(Body::Single(Incoming::Response(response))) = jsonrpc::parse(text, usize::MAX)
                && let Ok(result) = response.outcome
            {
                door.session.begin(id, result);
            }
            waiting.follow(door, answered).await
        }
        Err(refusal) => Left::Some { last_event_id: None, refusal },
    };
    if let Left::Some { refusal, .. } = left {
        waiting.refuse(door, &refusal).await;
    }
}

/// The answer that a stream brings, as if it had come alone; the rest is passed on.
async fn whole(answered: Answered, door: &Door, waiting: &mut Waiting) -> Answered {
    let Reply::Events(mut events) = answered.reply else { return answered };
    let reply = loop {
        match events.next().await {
            Ok(Some(text)) => match jsonrpc::parse(&text, usize::MAX) {
                Ok(Body::Single(Incoming::Response(_))) => break Reply::Json(text),
                Ok(_) | Err(_) => waiting.take(door, &text).await,
            },
            Ok(None) => break Reply::Refused(door.gate.broken()),
            Err(error) => break Reply::Refused(door.gate.unreached(&error)),
        }
    };
    Answered { reply, ..answered }
}

/// Carries a request there and what comes of it back.
async fn carry(door: Arc<Door>, message: Message, ticket: Ticket) {
    let mut waiting = Waiting::new(&message, ticket);
    door.session.remember(message.method(), message.params(), &message.line);
    let work = async {
        if let Err(refusal) = exchange(&door, &message, &mut waiting).await {
            waiting.refuse(&door, &refusal).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = door.ending.cancelled() => {}
    }
}

async fn exchange(door: &Door, message: &Message, waiting: &mut Waiting) -> Result<(), Refusal> {
    let (answered, facts) = post(door, message).await?;
    let mut left = waiting.follow(door, answered).await;
    let mut tried = 0;
    loop {
        let (last, refusal) = match left {
            Left::Nobody => return Ok(()),
            Left::Some { last_event_id, refusal } => (last_event_id, refusal),
        };
        let (Some(facts), Some(last), true) = (&facts, last, tried < RESUMES) else { return Err(refusal) };
        tried += 1;
        tokio::time::sleep(PAUSE * tried).await;
        left = match door.gate.get(facts.headers_after(Some(&last))).await {
            Ok(Answered { reply: Reply::Events(events), .. }) => match waiting.read(door, events).await {
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
async fn post(door: &Door, message: &Message) -> Result<(Answered, Option<Arc<Facts>>), Refusal> {
    let facts = door.session.now();
    let headers = facts.as_ref().map(|facts| facts.headers()).unwrap_or_default();
    let answered = door.gate.post(headers, message.line.clone()).await?;
    let Some(lost) = facts.as_ref().filter(|_| answered.status == 404) else { return Ok((answered, facts)) };
    door.session.renew(&door.gate, lost).await?;
    let facts = door.session.now();
    let headers = facts.as_ref().map(|facts| facts.headers()).unwrap_or_default();
    Ok((door.gate.post(headers, message.line.clone()).await?, facts))
}

/// Sends what gets no answer.
async fn tell(door: &Door, message: &Message) {
    let refusal = match post(door, message).await {
        Ok((Answered { reply: Reply::Refused(refusal), .. }, _)) | Err(refusal) => refusal.to_string(),
        Ok((Answered { reply: Reply::Json(text), .. }, _)) => String::from_utf8_lossy(&text).into_owned(),
        Ok(_) => return,
    };
    tracing::warn!(method = message.method(), refusal, "a message was not taken");
}

async fn cancel(door: Arc<Door>, message: Message, arrives: Option<std::time::Instant>) {
    if let Some(arrives) = arrives {
        tokio::time::sleep_until(arrives.into()).await;
    }
    tell(&door, &message).await;
}
