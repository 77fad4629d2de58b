//! The two directions put together. It reads no line itself; a transport takes what goes out from a queue
//! and gives what comes in.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use protocol::mcp::{Era, meta, method};
use protocol::{Code, Refusal};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::http::RemotePlan;
use crate::http::audience::{Asked, Audience, Whose};
use crate::http::listen::{Honoured, honoured};
use crate::message::{self, Meant, Message};
use crate::upstream::{Failure, Params, UpstreamAnswer, UpstreamRequest};

/// Messages that wait to be sent.
const QUEUE: usize = 1024;

/// A message on its way out.
pub struct Outgoing {
    /// The id of the request that it is.
    pub id: Option<u64>,
    pub text: Bytes,
}

type Answered = Result<UpstreamAnswer, Failure>;

struct Waiting {
    answer: oneshot::Sender<Answered>,
    sent: bool,
    /// Whether it stays open: its answer means that it is over.
    standing: bool,
}

pub struct Wire {
    pub plan: RemotePlan,
    pub audience: Audience,
    /// Nothing goes either way any more.
    pub closed: CancellationToken,
    reason: OnceLock<Refusal>,
    waiting: Mutex<HashMap<u64, Waiting>>,
    /// Whether a request was ever given up: its answer may still come.
    has_given_up: AtomicBool,
    /// Subscriptions that are not acknowledged yet.
    subscribing: Mutex<HashMap<u64, oneshot::Sender<Honoured>>>,
    ids: AtomicU64,
    queue: mpsc::Sender<Outgoing>,
    queued_bytes: AtomicUsize,
}

impl Wire {
    /// The transport takes from the receiver, and says so with [`Wire::took`].
    pub fn new(plan: &RemotePlan) -> (Arc<Wire>, mpsc::Receiver<Outgoing>) {
        let (queue, outgoing) = mpsc::channel(QUEUE);
        let wire = Wire {
            audience: Audience::new(plan),
            plan: plan.clone(),
            closed: CancellationToken::new(),
            reason: OnceLock::new(),
            waiting: Mutex::default(),
            has_given_up: AtomicBool::new(false),
            subscribing: Mutex::default(),
            ids: AtomicU64::new(0),
            queue,
            queued_bytes: AtomicUsize::new(0),
        };
        (Arc::new(wire), outgoing)
    }

    pub fn who(&self) -> &str {
        &self.plan.who
    }

    pub fn is_open(&self) -> bool {
        self.reason.get().is_none()
    }

    pub fn reason(&self) -> Refusal {
        let unsaid = || Refusal::new(Code::UpstreamFailed, format!("`{}` is gone", self.who()));
        self.reason.get().cloned().unwrap_or_else(unsaid)
    }

    /// Ends everything: whoever waits is refused. The first reason stays.
    pub fn close(&self, refusal: Refusal) {
        if self.reason.set(refusal).is_err() {
            return;
        }
        self.closed.cancel();
        for (_, waiting) in self.waiting.lock().drain() {
            let failure = Failure { refusal: self.reason(), sent: waiting.sent };
            drop(waiting.answer.send(Err(failure)));
        }
        self.subscribing.lock().clear();
    }

    pub fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Sends a request and waits for its answer. When the future is dropped the server is told so.
    pub async fn request(&self, request: &UpstreamRequest<'_>) -> Answered {
        self.request_as(self.next_id(), request).await
    }

    pub async fn request_as(&self, id: u64, request: &UpstreamRequest<'_>) -> Answered {
        let (answer, answered) = oneshot::channel();
        let _seat = self.audience.sit(id, request);
        let standing = request.method == method::LISTEN;
        self.waiting.lock().insert(id, Waiting { answer, sent: false, standing });
        let cancellable = request.method != method::INITIALIZE;
        let mut given_up = GivenUp { wire: self, id, cancellable };
        let text = message::request(id, request.method, request.params);
        if let Err(failure) = self.push(Outgoing { id: Some(id), text: text.into() }) {
            given_up.cancellable = false;
            return Err(failure);
        }
        let late = || Refusal::new(Code::TimedOut, format!("`{}` did not answer in time", self.who()));
        match tokio::time::timeout_at(request.deadline.into(), answered).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(_)) => Err(Failure { refusal: self.reason(), sent: true }),
            Err(_) => Err(Failure { refusal: late(), sent: true }),
        }
    }

    pub fn notify(&self, method: &str, params: &[u8]) {
        let text = message::notification(method, Params::raw(params));
        if self.push(Outgoing { id: None, text: text.into() }).is_err() {
            tracing::debug!(server = self.who(), method, "a notification was dropped");
        }
    }

    fn push(&self, outgoing: Outgoing) -> Result<(), Failure> {
        let unsent = |refusal| Failure { refusal, sent: false };
        if !self.is_open() {
            return Err(unsent(self.reason()));
        }
        let length = outgoing.text.len();
        let before = self.queued_bytes.fetch_add(length, Ordering::Relaxed);
        let too_much = before > 0 && before + length > self.plan.message_cap;
        if too_much || self.queue.try_send(outgoing).is_err() {
            self.queued_bytes.fetch_sub(length, Ordering::Relaxed);
            let reason =
                format!("`{}` does not take its input: {before} bytes wait for it already", self.who());
            return Err(unsent(Refusal::new(Code::UpstreamUnavailable, reason).hint("try again later")));
        }
        Ok(())
    }

    /// The transport begins to send it.
    pub fn took(&self, outgoing: &Outgoing) {
        self.queued_bytes.fetch_sub(outgoing.text.len(), Ordering::Relaxed);
        if let Some(id) = outgoing.id
            && let Some(waiting) = self.waiting.lock().get_mut(&id)
        {
            waiting.sent = true;
        }
    }

    /// The transport has, or could not get, the answer to a request.
    pub fn settle(&self, id: u64, answered: Answered) {
        match self.waiting.lock().remove(&id) {
            Some(waiting) => drop(waiting.answer.send(answered)),
            None => tracing::debug!(server = self.who(), id, "an answer for which nobody waits"),
        }
    }

    /// Takes what the server sent where it belongs.
    pub fn take(self: &Arc<Self>, text: &Bytes) {
        for message in message::read(text) {
            match message {
                Message::Result { id, result } => {
                    self.settle(id, Ok(UpstreamAnswer::Result(text.slice_ref(result.as_bytes()))));
                }
                Message::Error { id, error } => {
                    if message::is_repaired(error.as_bytes()) {
                        self.plan.logs.note(format!("an odd `error`: {}", message::excerpt(text)));
                    }
                    self.settle(id, Ok(UpstreamAnswer::Error(message::slice(text, error))));
                }
                Message::Unreadable { meant, fault, original } => {
                    self.plan.logs.note(format!("{fault}: {}", message::excerpt(original.as_bytes())));
                    self.take_unreadable(meant, &fault, &original);
                }
                Message::Noise => {
                    self.plan.logs.note(format!("this is not JSON-RPC: {}", message::excerpt(text)));
                }
                Message::Notification { method, params } if method == method::ACKNOWLEDGED => {
                    self.acknowledged(params);
                }
                Message::Notification { method, params } => {
                    self.audience.hear(Whose::Anybody, &method, params)
                }
                Message::Request { id, method, params } => self.asked(id, &method, params),
            }
        }
    }

    /// An answer that no client can read fails the requests that it was meant for. Where it names none,
    /// that is the only one that waits, unless its own answer comes soon.
    fn take_unreadable(self: &Arc<Self>, meant: Meant, fault: &str, original: &str) {
        let refusal = |shown: bool| message::unreadable(self.who(), fault, shown.then_some(original));
        match meant {
            Meant::Ids(ids) => {
                // What is for several requests is shown to none.
                let refusal = refusal(ids.len() == 1);
                for id in ids {
                    self.settle(id, Err(Failure { refusal: refusal.clone(), sent: true }));
                }
            }
            Meant::Unnamed { about_notification: true } => {}
            Meant::Unnamed { about_notification: false } => {
                let Some(id) = self.only_waiting() else { return };
                let (wire, refusal) = (self.clone(), refusal(!self.has_given_up.load(Ordering::Relaxed)));
                self.plan.tasks.spawn(async move {
                    tokio::time::sleep(message::GRACE).await;
                    let still = wire.waiting.lock().contains_key(&id);
                    if still {
                        wire.settle(id, Err(Failure { refusal, sent: true }));
                    }
                });
            }
        }
    }

    /// Returns the only request that waits for its answer, besides those that stay open.
    fn only_waiting(&self) -> Option<u64> {
        let waiting = self.waiting.lock();
        let mut ids = waiting.iter().filter(|(_, waiting)| !waiting.standing).map(|(id, _)| *id);
        let only = ids.next()?;
        ids.next().is_none().then_some(only)
    }

    fn asked(self: &Arc<Self>, id: &str, asked: &str, params: Option<&str>) {
        if self.plan.era == Era::Modern {
            return tracing::debug!(server = self.who(), asked, "a request, which its era does not allow");
        }
        let answer =
            |answer: &UpstreamAnswer| Outgoing { id: None, text: message::answer(id, answer).into() };
        let waiting = match self.audience.ask(Whose::Anybody, id, asked, params) {
            Asked::Now(now) => return drop(self.push(answer(&now))),
            Asked::Later(waiting) => waiting,
        };
        let (wire, id) = (self.clone(), id.to_owned());
        self.plan.tasks.spawn(async move {
            let answer = tokio::select! {
                answer = waiting.answer() => answer,
                () = wire.closed.cancelled() => None,
            };
            wire.audience.settled(&id);
            if let Some(answer) = answer {
                drop(wire.push(Outgoing { id: None, text: message::answer(&id, &answer).into() }));
            }
        });
    }

    /// Waits for the acknowledgement of the subscription with this id.
    pub fn subscribing(&self, id: u64) -> oneshot::Receiver<Honoured> {
        let (tell, told) = oneshot::channel();
        let mut subscribing = self.subscribing.lock();
        subscribing.retain(|_, tell| !tell.is_closed());
        subscribing.insert(id, tell);
        told
    }

    fn acknowledged(&self, params: Option<&str>) {
        let shape: Value = serde_json::from_str(params.unwrap_or("{}")).unwrap_or_default();
        let id = shape["_meta"][meta::SUBSCRIPTION_ID].as_u64();
        if let Some(tell) = id.and_then(|id| self.subscribing.lock().remove(&id)) {
            drop(tell.send(honoured(params)));
        }
    }
}

/// A request that somebody waits for. Dropped before its answer came, the server is told so.
struct GivenUp<'a> {
    wire: &'a Wire,
    id: u64,
    cancellable: bool,
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        let waited = self.wire.waiting.lock().remove(&self.id).is_some();
        if waited {
            self.wire.has_given_up.store(true, Ordering::Relaxed);
        }
        if waited && self.cancellable {
            let params = format!(r#"{{"requestId":{},"reason":"nobody waits for it any more"}}"#, self.id);
            self.wire.notify(method::CANCELLED, params.as_bytes());
        }
    }
}
