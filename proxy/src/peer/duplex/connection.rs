//! Duplex connection: messages of both directions share one stream, and answers are matched to requests by
//! id. Of all methods this file knows only the cancellation.

use std::convert::Infallible;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use protocol::mcp::method;
use protocol::{Code, Refusal};
use tokio::sync::Notify;

use super::call::Call;
use super::outbox::Outbox;
use super::pending::{GivenUp, MAX_IN_FLIGHT, Pending, Reply};
use super::standing::Standing;
use crate::child::Needed;
use crate::peer::listen::{Honoured, ListenError};
use crate::peer::router::ServerMessageRouter;
use crate::peer::{Connection, ConnectionState, PeerPlan};
use crate::upstream::{Failure, Listener, Params, UpstreamAnswer, UpstreamRequest};

/// The only request in flight.
pub struct OnlyWaiting {
    pub id: u64,
    /// True if all earlier requests were answered, so that none of their answers can still come.
    pub since_ever: bool,
}

pub struct DuplexConnection<O: Outbox> {
    /// The plan of the start.
    pub plan: PeerPlan,
    /// The plan of the modern era, once a server whose era was unknown proves to be modern.
    modern: OnceLock<PeerPlan>,
    pub router: ServerMessageRouter,
    pub state: ConnectionState,
    /// The child process of a stdio transport.
    pub process: O::Process,
    pub shared: Mutex<Shared<O>>,
    /// Wakes the writer task.
    pub write_wanted: Notify,
    deadline_nearer: Notify,
}

pub struct Shared<O> {
    pending: Pending,
    pub outbox: O,
    /// Ids of long-lived requests, whose answers mean their end.
    standing: Vec<u64>,
}

impl<O: Outbox> DuplexConnection<O> {
    pub fn new(plan: &PeerPlan, outbox: O, process: O::Process) -> Self {
        Self {
            plan: plan.clone(),
            modern: OnceLock::new(),
            router: ServerMessageRouter::new(plan),
            state: ConnectionState::default(),
            process,
            shared: Mutex::new(Shared { pending: Pending::default(), outbox, standing: Vec::new() }),
            write_wanted: Notify::new(),
            deadline_nearer: Notify::new(),
        }
    }

    /// Replaces the plan by that of the modern era, once.
    pub fn become_modern(&self, plan: PeerPlan) {
        // A connection has one verdict.
        self.modern.set(plan).ok();
    }

    /// Queues a request and starts the writing. The waker is woken by the reply.
    pub fn send(
        &self,
        request: &UpstreamRequest<'_>,
        cancellable: bool,
        waker: &Waker,
    ) -> Result<u64, Failure> {
        let mut shared = self.shared.lock();
        let Shared { pending, outbox, standing } = &mut *shared;
        if let Some(reason) = self.state.refusal() {
            return Err(Failure { refusal: reason.clone(), sent: false });
        }
        if outbox.admit(request.params.len()).is_err() {
            return Err(self.too_much(outbox.waiting()));
        }
        let listening = request.listener.map(|listener| (listener, request.progress));
        let Some((id, nearer)) =
            pending.insert(request.deadline, outbox.position(), cancellable, waker.clone(), listening)
        else {
            return Err(self.too_many());
        };
        outbox.push_request(id, request.method, request.params);
        let direct = outbox.claim(pending.in_flight().saturating_sub(standing.len()));
        let task = direct.is_none() && outbox.reserve();
        drop(shared);
        if nearer {
            self.deadline_nearer.notify_one();
        }
        if let Some(claimed) = direct {
            O::write_now(self, claimed);
        } else if task {
            self.write_wanted.notify_one();
        }
        Ok(id)
    }

    pub fn reply(&self, id: u64, waker: &Waker) -> Option<Reply> {
        self.shared.lock().pending.poll(id, waker)
    }

    /// Cancels an abandoned request.
    pub fn give_up(&self, id: u64) {
        let mut shared = self.shared.lock();
        if let Some(given_up) = shared.pending.forget(id) {
            self.cancel(&mut shared.outbox, given_up, "the caller went away");
        }
    }

    /// Adds or removes a long-lived request, which does not count as in flight.
    pub fn count_standing(&self, id: u64, more: bool) {
        let mut shared = self.shared.lock();
        if more {
            shared.standing.push(id);
        } else {
            shared.standing.retain(|standing| *standing != id);
        }
    }

    /// Delivers replies to callers; `unclaimed` gets the ids without a caller.
    pub fn deliver(&self, replies: &mut Vec<(u64, Reply)>, unclaimed: &mut Vec<u64>) {
        let mut wakers = [const { None }; 32];
        while !replies.is_empty() {
            let some = replies.len().min(wakers.len());
            let mut shared = self.shared.lock();
            for (slot, (id, reply)) in wakers.iter_mut().zip(replies.drain(..some)) {
                *slot = shared.pending.complete(id, reply);
                if slot.is_none() {
                    unclaimed.push(id);
                }
            }
            drop(shared);
            wakers.iter_mut().filter_map(Option::take).for_each(Waker::wake);
        }
    }

    /// Returns the only request in flight, which an answer without an id is for.
    pub fn only_waiting(&self) -> Option<OnlyWaiting> {
        let shared = self.shared.lock();
        let id = shared.pending.only_waiting(&shared.standing)?;
        Some(OnlyWaiting { id, since_ever: !shared.pending.has_given_up() })
    }

    pub fn is_waiting(&self, id: u64) -> bool {
        self.shared.lock().pending.is_waiting(id)
    }

    /// Completes a request if it still waits.
    pub fn complete(&self, id: u64, reply: Reply) {
        let waker = self.shared.lock().pending.complete(id, reply);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Closes a broken connection; `how` completes a sentence about the server.
    pub fn fail(&self, how: &str) {
        if self.state.is_open() {
            let reason = format!("`{}` {how}", self.server());
            self.plan.logs.note(reason.clone());
            self.close(Refusal::new(Code::UpstreamFailed, reason).since(jiff::Timestamp::now()));
        }
    }

    fn cancel(&self, outbox: &mut O, given_up: GivenUp, reason: &str) {
        if !given_up.cancellable || !self.state.is_open() || outbox.admit(100).is_err() {
            return;
        }
        let params = format!(r#"{{"requestId":{},"reason":"{reason}"}}"#, given_up.id);
        outbox.push_notification(method::CANCELLED, Params::raw(params.as_bytes()));
        self.wake_writer(outbox);
    }

    fn wake_writer(&self, outbox: &mut O) {
        if outbox.reserve() {
            self.write_wanted.notify_one();
        }
    }

    /// Refuses requests at their deadlines, for ever. Between two deadlines the task sleeps.
    pub async fn watch_deadlines(&self) -> Infallible {
        loop {
            let next = self.shared.lock().pending.next_deadline();
            let sleep = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.deadline_nearer.notified() => {}
                () = sleep => self.expire(Instant::now()),
            }
        }
    }

    fn expire(&self, now: Instant) {
        let mut wakers = Vec::new();
        let refusal = Refusal::new(Code::TimedOut, format!("`{}` did not answer in time", self.server()));
        let mut shared = self.shared.lock();
        let given_up = shared.pending.expire(now, &refusal, &mut wakers);
        for given_up in given_up {
            self.cancel(&mut shared.outbox, given_up, "the request timed out");
        }
        drop(shared);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn too_much(&self, waiting: usize) -> Failure {
        let reason =
            format!("`{}` does not read its input: {waiting} bytes wait for it already", self.server());
        let refusal = Refusal::new(Code::UpstreamUnavailable, reason).hint("try again later, or restart it");
        Failure { refusal, sent: false }
    }

    fn too_many(&self) -> Failure {
        let reason = format!("`{}` has {MAX_IN_FLIGHT} requests in flight already", self.server());
        Failure { refusal: Refusal::new(Code::ConcurrencyLimited, reason), sent: false }
    }
}

impl<O: Outbox> Connection for DuplexConnection<O> {
    type Listen = Standing<O>;
    type Error = Failure;

    fn plan(&self) -> &PeerPlan {
        self.modern.get().unwrap_or(&self.plan)
    }

    fn router(&self) -> &ServerMessageRouter {
        &self.router
    }

    fn state(&self) -> &ConnectionState {
        &self.state
    }

    fn request<'a>(
        self: &'a Arc<Self>,
        request: UpstreamRequest<'a>,
    ) -> impl Future<Output = Result<UpstreamAnswer, Failure>> + Send + 'a {
        Call::new(self, request)
    }

    fn notify(&self, method: &str, params: &[u8]) {
        let mut shared = self.shared.lock();
        if self.state.is_open() && shared.outbox.admit(params.len()).is_ok() {
            shared.outbox.push_notification(method, Params::raw(params));
            self.wake_writer(&mut shared.outbox);
        }
    }

    fn answer_now(&self, id: &str, answer: &UpstreamAnswer) {
        let (UpstreamAnswer::Result(json) | UpstreamAnswer::Error(json)) = answer;
        let mut shared = self.shared.lock();
        let taken = self.state.is_open() && shared.outbox.admit(id.len() + json.len()).is_ok();
        if taken {
            shared.outbox.push_answer(id, answer);
            self.wake_writer(&mut shared.outbox);
        } else {
            tracing::warn!(server = self.server(), "an answer did not reach a server");
        }
    }

    async fn confirm_initialized(&self, _revision: &str) {
        self.notify(method::INITIALIZED, b"");
    }

    async fn open_listen(self: &Arc<Self>, params: String) -> Result<(Standing<O>, Honoured), ListenError> {
        let mut acknowledgements = self.router.acknowledgements();
        let opened = Standing::open(self, method::LISTEN, &params);
        let mut listen = opened.map_err(|failure| ListenError::Failed(failure.refusal))?;
        let id = listen.id();
        let acknowledged = async {
            let is_ours = |last: &Option<(u64, Honoured)>| last.as_ref().is_some_and(|last| last.0 == id);
            let last = acknowledgements.wait_for(is_ours).await.ok()?;
            last.as_ref().map(|(_, honoured)| honoured.clone())
        };
        tokio::select! {
            biased;
            Some(honoured) = acknowledged => Ok((listen, honoured)),
            reply = &mut listen => Err(match reply {
                Ok(answer) => ListenError::of_answer(self.server(), answer),
                Err(failure) => ListenError::Failed(failure.refusal),
            }),
        }
    }

    async fn end_of_listen(self: &Arc<Self>, listen: &mut Standing<O>) -> Result<(), ListenError> {
        match listen.await {
            Ok(UpstreamAnswer::Result(_)) => Ok(()),
            Ok(UpstreamAnswer::Error(error)) => Err(ListenError::Refused(error)),
            Err(failure) => Err(ListenError::Failed(failure.refusal)),
        }
    }

    fn cancel_listen(&self, id: u64) {
        if self.shared.lock().standing.contains(&id) {
            self.complete(id, Ok(UpstreamAnswer::Result(Bytes::from_static(b"{}"))));
        }
    }

    fn listener_of_progress(&self, token: u64) -> Option<Arc<dyn Listener>> {
        self.shared.lock().pending.listeners.of_progress(token)
    }

    fn listener_of_only_request(&self, one_client: bool) -> Option<Arc<dyn Listener>> {
        let shared = self.shared.lock();
        // The message may be about a request without a listener.
        let alone = one_client || !shared.pending.more_wait_than(shared.standing.len() + 1);
        alone.then(|| shared.pending.listeners.of_only_request(one_client)).flatten()
    }

    fn close(&self, refusal: Refusal) {
        let mut wakers = Vec::new();
        let mut shared = self.shared.lock();
        if !self.state.set_reason(refusal) {
            return;
        }
        let Shared { pending, outbox, .. } = &mut *shared;
        if let Some(reason) = self.state.refusal() {
            pending.refuse_all(reason, outbox.written(), &mut wakers);
        }
        outbox.close();
        drop(shared);
        wakers.into_iter().for_each(Waker::wake);
        self.state.closed.cancel();
    }

    fn stop(&self, refusal: Refusal) -> impl Future<Output = Needed> + Send {
        self.close(refusal);
        O::stop(&self.process)
    }
}
