//! The two directions of one child put together: requests go out, answers find who waits for them.
//! It does not read the child's output itself, and knows no method by name but the cancellation.

use std::sync::Arc;
use std::sync::OnceLock;
use std::task::Waker;
use std::time::Instant;

use parking_lot::Mutex;
use protocol::mcp::method;
use protocol::{Code, Refusal};
use tokio::net::unix::pipe;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::outbox::Outbox;
use super::pending::{GivenUp, MAX_IN_FLIGHT, Pending, Reply};
use crate::upstream::{Failure, Listener, Params, UpstreamAnswer, UpstreamRequest};

#[derive(Clone, Copy, Debug)]
pub struct WireLimits {
    /// The longest line taken from the child, in bytes.
    pub line_cap: usize,
    /// The most bytes that wait for a child that does not read.
    pub write_cap: usize,
    pub write_style: WriteStyle,
}

/// Who writes to the child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteStyle {
    /// The caller itself, when at most this many requests are in flight; else a task that lets the other
    /// callers of the moment queue theirs first, and then writes all at once.
    DirectUpTo(usize),
}

/// The only request that waits for its answer.
pub struct OnlyWaiting {
    pub id: u64,
    /// Whether all before it were answered, so that no answer to another one can come any more.
    pub since_ever: bool,
}

pub struct Wire {
    pub(super) shared: Mutex<Shared>,
    limits: WireLimits,
    /// The server's slug, for what callers read.
    who: Arc<str>,
    pub(super) write_wanted: Notify,
    deadline_nearer: Notify,
    /// The child does not take any more input.
    pub input_closed: CancellationToken,
    /// Nothing goes either way any more.
    pub closed: CancellationToken,
    reason: OnceLock<Refusal>,
}

pub(super) struct Shared {
    pending: Pending,
    pub outbox: Outbox,
    /// Requests that stay open as long as the child runs.
    standing: Vec<u64>,
}

impl Wire {
    pub fn new(who: Arc<str>, stdin: pipe::Sender, limits: WireLimits) -> Self {
        Self {
            shared: Mutex::new(Shared {
                pending: Pending::default(),
                outbox: Outbox::new(stdin, limits.write_cap),
                standing: Vec::new(),
            }),
            limits,
            who,
            write_wanted: Notify::new(),
            deadline_nearer: Notify::new(),
            input_closed: CancellationToken::new(),
            closed: CancellationToken::new(),
            reason: OnceLock::new(),
        }
    }

    pub fn who(&self) -> &str {
        &self.who
    }

    pub fn is_open(&self) -> bool {
        self.reason.get().is_none()
    }

    /// Why nothing goes any more.
    pub fn reason(&self) -> Option<&Refusal> {
        self.reason.get()
    }

    /// Queues a request and sees to it that it is written. The waker is woken when there is a reply.
    pub fn send(
        &self,
        request: &UpstreamRequest<'_>,
        cancellable: bool,
        waker: &Waker,
    ) -> Result<u64, Failure> {
        let mut shared = self.shared.lock();
        let Shared { pending, outbox, standing } = &mut *shared;
        if let Some(reason) = self.reason.get() {
            return Err(Failure { refusal: reason.clone(), sent: false });
        }
        if outbox.admit(request.params.len()).is_err() {
            return Err(self.too_much(outbox.waiting()));
        }
        let hearing = request.listener.map(|listener| (listener, request.progress));
        let Some((id, nearer)) =
            pending.insert(request.deadline, outbox.position(), cancellable, waker.clone(), hearing)
        else {
            return Err(self.too_many());
        };
        outbox.push_request(id, request.method, request.params);
        let WriteStyle::DirectUpTo(few) = self.limits.write_style;
        let direct = if pending.in_flight() <= few + standing.len() { outbox.claim() } else { None };
        let task = direct.is_none() && outbox.reserve();
        drop(shared);
        if nearer {
            self.deadline_nearer.notify_one();
        }
        if let Some((bytes, pipe)) = direct {
            self.write_now(bytes, &pipe);
        } else if task {
            self.write_wanted.notify_one();
        }
        Ok(id)
    }

    pub fn reply(&self, id: u64, waker: &Waker) -> Option<Reply> {
        self.shared.lock().pending.poll(id, waker)
    }

    /// The caller went away.
    pub fn give_up(&self, id: u64) {
        let mut shared = self.shared.lock();
        if let Some(given_up) = shared.pending.forget(id) {
            self.cancel(&mut shared.outbox, given_up, "the caller went away");
        }
    }

    pub fn notify(&self, method: &str, params: &[u8]) {
        let mut shared = self.shared.lock();
        if self.is_open() && shared.outbox.admit(params.len()).is_ok() {
            shared.outbox.push_notification(method, Params::raw(params));
            self.wake_writer(&mut shared.outbox);
        }
    }

    /// Answers the child's own request, under the id as it wrote it. False when too much waits already
    /// for a child that does not read.
    pub fn answer(&self, id: &str, answer: &UpstreamAnswer) -> bool {
        let (UpstreamAnswer::Result(json) | UpstreamAnswer::Error(json)) = answer;
        let mut shared = self.shared.lock();
        let taken = self.is_open() && shared.outbox.admit(id.len() + json.len()).is_ok();
        if taken {
            shared.outbox.push_answer(id, answer);
            self.wake_writer(&mut shared.outbox);
        }
        taken
    }

    /// Whoever gave this progress token to the child.
    pub fn listener_of(&self, progress: u64) -> Option<Arc<dyn Listener>> {
        self.shared.lock().pending.listeners.of_progress(progress)
    }

    /// Whom something is for that names no request. See [`Listeners::addressee`].
    ///
    /// [`Listeners::addressee`]: super::listeners::Listeners::addressee
    pub fn addressee(&self, one_client: bool) -> Option<Arc<dyn Listener>> {
        let shared = self.shared.lock();
        // A request whose caller does not listen may be the one that it is about.
        let alone = one_client || !shared.pending.more_wait_than(shared.standing.len() + 1);
        alone.then(|| shared.pending.listeners.addressee(one_client)).flatten()
    }

    /// One more request (or one less) that stays open, and is not counted among those in flight.
    pub fn count_standing(&self, id: u64, more: bool) {
        let mut shared = self.shared.lock();
        if more {
            shared.standing.push(id);
        } else {
            shared.standing.retain(|standing| *standing != id);
        }
    }

    /// Gives replies to those who wait; `unclaimed` keeps the ids for which nobody does.
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

    /// Returns the request that an answer without an id is for, which is the only one that waits.
    pub fn only_waiting(&self) -> Option<OnlyWaiting> {
        let shared = self.shared.lock();
        let id = shared.pending.only_waiting(&shared.standing)?;
        Some(OnlyWaiting { id, since_ever: !shared.pending.has_given_up() })
    }

    pub fn is_waiting(&self, id: u64) -> bool {
        self.shared.lock().pending.is_waiting(id)
    }

    /// Whether the child has taken all that it was sent.
    pub fn is_input_read(&self) -> bool {
        self.shared.lock().outbox.is_read()
    }

    /// Ends everything: the child's input is closed, whoever waits is refused. The first reason stays.
    pub fn close(&self, refusal: Refusal) {
        let mut wakers = Vec::new();
        let mut shared = self.shared.lock();
        if self.reason.set(refusal).is_err() {
            return;
        }
        let Shared { pending, outbox, .. } = &mut *shared;
        if let Some(reason) = self.reason.get() {
            pending.refuse_all(reason, outbox.written(), &mut wakers);
        }
        outbox.close();
        drop(shared);
        wakers.into_iter().for_each(Waker::wake);
        self.closed.cancel();
    }

    fn cancel(&self, outbox: &mut Outbox, given_up: GivenUp, reason: &str) {
        if !given_up.cancellable || !self.is_open() || outbox.admit(100).is_err() {
            return;
        }
        let params = format!(r#"{{"requestId":{},"reason":"{reason}"}}"#, given_up.id);
        outbox.push_notification(method::CANCELLED, Params::raw(params.as_bytes()));
        self.wake_writer(outbox);
    }

    fn wake_writer(&self, outbox: &mut Outbox) {
        if outbox.reserve() {
            self.write_wanted.notify_one();
        }
    }

    /// The deadline task: sleeps until the nearest deadline, which in steady traffic is seldom.
    pub async fn watch_deadlines(self: Arc<Self>) {
        loop {
            let next = self.shared.lock().pending.next_deadline();
            let sleep = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.closed.cancelled() => return,
                () = self.deadline_nearer.notified() => {}
                () = sleep => self.expire(Instant::now()),
            }
        }
    }

    fn expire(&self, now: Instant) {
        let mut wakers = Vec::new();
        let refusal = Refusal::new(Code::TimedOut, format!("`{}` did not answer in time", self.who));
        let mut shared = self.shared.lock();
        let given_up = shared.pending.expire(now, &refusal, &mut wakers);
        for given_up in given_up {
            self.cancel(&mut shared.outbox, given_up, "the request timed out");
        }
        drop(shared);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn too_much(&self, waiting: usize) -> Failure {
        let reason = format!("`{}` does not read its input: {waiting} bytes wait for it already", self.who);
        let refusal = Refusal::new(Code::UpstreamUnavailable, reason).hint("try again later, or restart it");
        Failure { refusal, sent: false }
    }

    fn too_many(&self) -> Failure {
        let reason = format!("`{}` has {MAX_IN_FLIGHT} requests in flight already", self.who);
        Failure { refusal: Refusal::new(Code::ConcurrencyLimited, reason), sent: false }
    }
}
