//! Request through one entry: breaker, concurrency limit, upstream. Every call takes this path, which spawns
//! no task and, if all is well, waits only for the answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use protocol::mcp::method;
use protocol::{Code, Refusal};
use tokio::sync::SemaphorePermit;

use super::Delivered;
use super::entry::{Entry, Running, Unavailable};
use crate::breaker::Admission;
use crate::message;
use crate::upstream::{Failure, Params, UpstreamAnswer, UpstreamRequest};

/// Time after which a time-out counts as a failure: callers with short deadlines must not open the breaker
/// for all others.
const PATIENT: Duration = Duration::from_secs(1);

impl Entry {
    /// Sends a request of a caller who waits since `begun`.
    pub async fn request(
        self: &Arc<Self>,
        request: &UpstreamRequest<'_>,
        begun: Instant,
    ) -> Result<Delivered, Unavailable> {
        let admission = self.breaker.admit().map_err(|refusal| self.named(refusal))?;
        let _visit = Visit::begin(self, admission, request.is_use);
        let _place = self.place(request.deadline).await.map_err(Unavailable::Refused)?;
        let mut deadline = request.deadline;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let running = match self.alive() {
                Some(running) => running,
                None => {
                    let started = Instant::now();
                    let running = self.ensure(deadline).await?;
                    deadline += started.elapsed();
                    running
                }
            };
            let sent = Instant::now();
            let queue = sent.duration_since(begun);
            let result = running.upstream.request(UpstreamRequest { deadline, ..*request }).await;
            let ended = Instant::now();
            let upstream = ended.duration_since(sent);
            match result {
                Ok(answer) => {
                    self.went_well();
                    self.check(request.method, &answer)?;
                    return Ok(Delivered { answer, queue, upstream, attempts });
                }
                Err(failure) if self.may_retry(&failure, request, attempts, &running) => {}
                Err(failure) => {
                    return Err(Unavailable::Refused(self.went_wrong(failure, upstream, running)));
                }
            }
        }
    }

    /// Waits for a permit of the upstream until the deadline.
    async fn place(&self, deadline: Instant) -> Result<Option<SemaphorePermit<'_>>, Refusal> {
        let Some(places) = &self.places else { return Ok(None) };
        if let Ok(place) = places.try_acquire() {
            return Ok(Some(place));
        }
        let limit = self.spec.max_concurrency.value;
        let _waiting = Waiting::begin(self).ok_or_else(|| {
            let reason =
                format!("`{}` runs {limit} requests at once and too many wait already", self.spec.slug);
            Refusal::new(Code::ConcurrencyLimited, reason)
                .rule("max_concurrency")
                .retry_after(Duration::from_secs(1))
        })?;
        match tokio::time::timeout_at(deadline.into(), places.acquire()).await {
            Ok(Ok(place)) => Ok(Some(place)),
            Ok(Err(_)) | Err(_) => {
                let reason = format!("no place came free in time: `{}` runs {limit} at once", self.spec.slug);
                Err(Refusal::new(Code::TimedOut, reason).rule("max_concurrency"))
            }
        }
    }

    /// Returns true if the upstream died before anything was sent, or, for requests that only read, while
    /// retries are left.
    fn may_retry(
        &self,
        failure: &Failure,
        request: &UpstreamRequest<'_>,
        attempts: u8,
        running: &Running,
    ) -> bool {
        if running.upstream.is_alive() || failure.refusal.code == Code::TimedOut {
            return false;
        }
        let reads = !matches!(request.method, method::TOOLS_CALL);
        let retries = request.retries.unwrap_or(self.spec.retries.value);
        (!failure.sent && attempts < 3) || (reads && attempts <= retries)
    }

    /// Refuses a result that no client can read, without counting a failure of the upstream.
    fn check(&self, asked: &str, answer: &UpstreamAnswer) -> Result<(), Unavailable> {
        let UpstreamAnswer::Result(result) = answer else { return Ok(()) };
        let Some(fault) = message::fault_of_result(asked, result) else { return Ok(()) };
        self.logs.note(format!("{fault}: {}", message::excerpt(result)));
        let original = String::from_utf8_lossy(result);
        let refusal = message::unreadable(self.spec.slug.as_str(), &fault, Some(&original));
        Err(Unavailable::Refused(refusal))
    }

    pub(super) fn went_well(&self) {
        self.breaker.succeeded();
        self.outcomes.succeeded();
        self.succeeded_now();
    }

    /// Counts a failure, and returns its refusal.
    pub(super) fn went_wrong(
        self: &Arc<Self>,
        failure: Failure,
        waited: Duration,
        running: Arc<Running>,
    ) -> Refusal {
        let refusal = failure.refusal;
        match refusal.code {
            Code::TimedOut => {
                let reason = format!("`{}` did not answer within {} ms", self.spec.slug, waited.as_millis());
                let refusal = Refusal { reason: reason.into(), ..refusal };
                if waited >= PATIENT.min(self.spec.timeout.value) {
                    self.outcomes.failed(&refusal);
                    if self.breaker.failed() {
                        self.probe_liveness(running);
                    }
                }
                refusal
            }
            // `Entry::remove` counts a crash once, not once per request in flight.
            Code::UpstreamFailed if running.upstream.is_alive() => {
                self.breaker.failed();
                self.outcomes.failed(&refusal);
                refusal
            }
            // The server is out of reach, which does not open the breaker: the refusal costs no time.
            Code::UpstreamUnavailable if running.upstream.is_alive() => {
                self.outcomes.failed(&refusal);
                refusal
            }
            // The upstream answered in time.
            Code::UnreadableAnswer => {
                self.went_well();
                refusal
            }
            _ => refusal,
        }
    }

    /// Pings an upstream after repeated time-outs, and replaces it if no answer comes.
    fn probe_liveness(self: &Arc<Self>, running: Arc<Running>) {
        let entry = self.clone();
        self.pool.tasks.spawn(async move {
            let deadline = Instant::now() + entry.pool.settings.ping_patience;
            // Any answer is a sign of life.
            let (asked, params) = entry.cheapest_request();
            let ping = UpstreamRequest::new(asked, Params::raw(params.as_bytes()), deadline);
            if let Err(Failure { refusal, .. }) = running.upstream.request(ping).await
                && refusal.code == Code::TimedOut
            {
                let reason = format!("`{}` hung: it did not even answer a ping", entry.spec.slug);
                entry.replace(running, Refusal::new(Code::UpstreamFailed, reason)).await;
            }
        });
    }

    fn named(&self, refusal: Refusal) -> Unavailable {
        let reason = format!("`{}`: {}", self.spec.slug, refusal.reason);
        Unavailable::Refused(Refusal { reason: reason.into(), ..refusal })
    }
}

/// Guard that counts a request as in flight.
pub struct Visit<'a> {
    entry: &'a Entry,
    admission: Admission,
    is_use: bool,
}

impl<'a> Visit<'a> {
    pub fn begin(entry: &'a Entry, admission: Admission, is_use: bool) -> Self {
        entry.in_flight.fetch_add(1, Ordering::SeqCst);
        Self { entry, admission, is_use }
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        if self.is_use {
            self.entry.touch();
        }
        self.entry.in_flight.fetch_sub(1, Ordering::SeqCst);
        if self.admission == Admission::Probe {
            // Without effect if the probe succeeded or failed.
            self.entry.breaker.undecided();
        }
    }
}

struct Waiting<'a>(&'a Entry);

impl<'a> Waiting<'a> {
    fn begin(entry: &'a Entry) -> Option<Self> {
        let before = entry.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(entry);
        (before < entry.pool.settings.max_waiting).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
