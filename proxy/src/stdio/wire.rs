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
use crate::upstream::{Failure, Params, UpstreamRequest};

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

pub struct Wire {
    shared: Mutex<Shared>,
    limits: WireLimits,
    /// The server's slug, for what callers read.
    who: Arc<str>,
    write_wanted: Notify,
    deadline_nearer: Notify,
    /// The child does not take any more input.
    pub input_closed: CancellationToken,
    /// Nothing goes either way any more.
    pub closed: CancellationToken,
    reason: OnceLock<Refusal>,
}

struct Shared {
    pending: Pending,
    outbox: Outbox,
}

impl Wire {
    pub fn new(who: Arc<str>, stdin: pipe::Sender, limits: WireLimits) -> Self {
        Self {
            shared: Mutex::new(Shared {
                pending: Pending::default(),
                outbox: Outbox::new(stdin, limits.write_cap),
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
        let Shared { pending, outbox } = &mut *shared;
        if let Some(reason) = self.reason.get() {
            return Err(Failure { refusal: reason.clone(), sent: false });
        }
        if outbox.admit(request.params.len()).is_err() {
            return Err(self.too_much(outbox.waiting()));
        }
        let Some((id, nearer)) =
            pending.insert(request.deadline, outbox.position(), cancellable, waker.clone())
        else {
            return Err(self.too_many());
        };
        outbox.push_request(id, request.method, request.params);
        let WriteStyle::DirectUpTo(few) = self.limits.write_style;
        let direct = if pending.in_flight() <= few { outbox.claim() } else { None };
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

    /// Answers the child's own request. `tail` is what follows the id. Dropped when too much waits.
    pub fn answer(&self, id: &str, tail: &str) {
        let mut shared = self.shared.lock();
        if self.is_open() && shared.outbox.admit(id.len() + tail.len()).is_ok() {
            shared.outbox.push_answer(id, tail);
            self.wake_writer(&mut shared.outbox);
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

    /// Ends everything: the child's input is closed, whoever waits is refused. The first reason stays.
    pub fn close(&self, refusal: Refusal) {
        let mut wakers = Vec::new();
        let mut shared = self.shared.lock();
        if self.reason.set(refusal).is_err() {
            return;
        }
        let Shared { pending, outbox } = &mut *shared;
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

    /// Writes what was claimed, and what others queue meanwhile, without ever waiting.
    fn write_now(&self, mut bytes: Vec<u8>, pipe: &pipe::Sender) {
        loop {
            let taken = match pipe.try_write(&bytes) {
                Ok(taken) => taken,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => 0,
                Err(_) => return self.input_closed.cancel(),
            };
            let mut shared = self.shared.lock();
            shared.outbox.advance(taken);
            if taken < bytes.len() {
                bytes.drain(..taken);
                shared.outbox.leave_over(bytes);
                return self.write_wanted.notify_one();
            }
            match shared.outbox.next(bytes) {
                Some(more) => bytes = more,
                None => return,
            }
        }
    }

    /// The writer task: writes what is reserved for it, and waits while the pipe is full.
    pub async fn write_for_others(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.closed.cancelled() => return,
                () = self.write_wanted.notified() => {}
            }
            // Callers that are ready now queue theirs first, so that one write takes them all.
            tokio::task::yield_now().await;
            let Some((mut bytes, pipe)) = self.shared.lock().outbox.take_reserved() else { continue };
            loop {
                let written = tokio::select! {
                    biased;
                    written = self.write_fully(&pipe, &bytes) => written,
                    () = self.closed.cancelled() => return,
                };
                if written.is_err() {
                    self.input_closed.cancel();
                    return;
                }
                match self.shared.lock().outbox.next(bytes) {
                    Some(more) => bytes = more,
                    None => break,
                }
            }
        }
    }

    async fn write_fully(&self, pipe: &pipe::Sender, mut bytes: &[u8]) -> std::io::Result<()> {
        while !bytes.is_empty() {
            match pipe.try_write(bytes) {
                Ok(taken) => {
                    self.shared.lock().outbox.advance(taken);
                    bytes = &bytes[taken..];
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => pipe.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
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
