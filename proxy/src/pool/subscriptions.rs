//! Subscriptions to resources, counted per upstream: the first one subscribes, the last one unsubscribes, and
//! a restart subscribes again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use parking_lot::Mutex;
use protocol::{Code, Refusal};

use super::entry::{Entry, Running, Unavailable};
use super::request::Visit;
use super::{Pool, PoolKey};
use crate::selected::Selected;
use crate::upstream::{Upstream, UpstreamAnswer};

/// Time for an upstream to be restarted in its turn, and to accept its subscriptions then.
const AGAIN: Duration = Duration::from_secs(30);

/// Subscriptions of one upstream.
#[derive(Default)]
pub struct Subscriptions {
    counts: Mutex<HashMap<Arc<str>, usize>>,
    /// Lock during a `subscribe`, so that concurrent callers send only one.
    turn: tokio::sync::Mutex<()>,
}

impl Subscriptions {
    pub fn is_empty(&self) -> bool {
        self.counts.lock().is_empty()
    }

    pub fn contains(&self, uri: &str) -> bool {
        self.counts.lock().contains_key(uri)
    }

    /// Counts one more, if there is one already.
    fn join(&self, uri: &str) -> bool {
        self.counts.lock().get_mut(uri).map(|count| *count += 1).is_some()
    }

    /// Counts one less; returns true for the last.
    fn leave(&self, uri: &str) -> bool {
        let mut counts = self.counts.lock();
        match counts.get_mut(uri) {
            Some(1) => counts.remove(uri).is_some(),
            Some(count) => {
                *count -= 1;
                false
            }
            None => false,
        }
    }
}

/// Guard of one subscription to a resource at an upstream.
pub struct Subscribed {
    pool: Pool,
    pub key: PoolKey,
    pub uri: Box<str>,
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        let Some(entry) = self.pool.shared.entries.get(&self.key).map(|entry| entry.clone()) else { return };
        if entry.subscriptions.leave(&self.uri) {
            entry.touch();
            if let Some(running) = entry.alive() {
                running.upstream.unsubscribe(&self.uri);
            }
        }
    }
}

impl Pool {
    /// Subscribes to a resource at an upstream, by the server's own URI. Subscriptions of one resource are
    /// counted, and renewed after a restart of the upstream.
    ///
    /// # Errors
    /// A refusal of the gateway, or within it the error object of the server.
    pub async fn subscribe(
        &self,
        selected: &Selected,
        uri: &str,
        deadline: Instant,
    ) -> Result<Result<Subscribed, Bytes>, Refusal> {
        loop {
            match self.entry(&selected.key, &selected.spec)?.subscribe(uri, deadline).await {
                Ok(UpstreamAnswer::Result(_)) => {
                    return Ok(Ok(Subscribed { pool: self.clone(), key: selected.key, uri: uri.into() }));
                }
                Ok(UpstreamAnswer::Error(error)) => return Ok(Err(error)),
                Err(Unavailable::Refused(refusal)) => return Err(refusal),
                Err(Unavailable::Retired) => {}
            }
        }
    }

    /// Returns every resource that is subscribed to, with the number of its subscriptions.
    pub fn subscribed(&self) -> Vec<(PoolKey, Arc<str>, usize)> {
        let mut all = Vec::new();
        for entry in &self.shared.entries {
            let counts = entry.subscriptions.counts.lock();
            all.extend(counts.iter().map(|(uri, count)| (entry.key, uri.clone(), *count)));
        }
        all
    }
}

impl Entry {
    async fn subscribe(
        self: &Arc<Self>,
        uri: &str,
        deadline: Instant,
    ) -> Result<UpstreamAnswer, Unavailable> {
        let admission = self.breaker.admit().map_err(Unavailable::Refused)?;
        let _visit = Visit::begin(self, admission, true);
        let turn = tokio::time::timeout_at(deadline.into(), self.subscriptions.turn.lock()).await;
        let _turn = turn.map_err(|_| {
            let reason = format!("`{}` has not answered an earlier subscription yet", self.spec.slug);
            Unavailable::Refused(Refusal::new(Code::TimedOut, reason))
        })?;
        if self.subscriptions.join(uri) {
            return Ok(UpstreamAnswer::Result(Bytes::from_static(b"{}")));
        }
        let waited = Instant::now();
        let running = self.ensure(deadline).await?;
        let deadline = deadline + waited.elapsed();
        // Counted before the answer: the first event may come with it, and a restart during the request has
        // to subscribe at the new upstream.
        self.subscriptions.counts.lock().insert(uri.into(), 1);
        let mut attempt = Attempt { entry: self, upstream: &*running.upstream, uri, over: false };
        let answer = attempt.upstream.subscribe(uri, deadline).await;
        let answer = answer.map_err(|failure| Unavailable::Refused(failure.refusal))?;
        attempt.over = true;
        if let UpstreamAnswer::Error(_) = answer {
            self.subscriptions.leave(uri);
        }
        Ok(answer)
    }

    /// Renews every subscription at an upstream that has just started.
    pub fn subscribe_again(self: &Arc<Self>, running: &Arc<Running>) {
        let uris: Vec<Arc<str>> = self.subscriptions.counts.lock().keys().cloned().collect();
        if uris.is_empty() {
            return;
        }
        let (entry, running) = (self.clone(), running.clone());
        self.pool.tasks.spawn(async move {
            let deadline = Instant::now() + AGAIN;
            let answers = uris.iter().map(|uri| running.upstream.subscribe(uri, deadline));
            for (uri, answer) in uris.iter().zip(join_all(answers).await) {
                if !matches!(answer, Ok(UpstreamAnswer::Result(_))) {
                    entry.logs.note(format!("it could not be subscribed to `{uri}` again after its start"));
                }
            }
        });
    }

    /// Restarts a crashed upstream as long as it has subscriptions, since no request does.
    pub async fn keep_up(self: Arc<Self>) {
        while !self.subscriptions.is_empty() {
            match self.ensure(Instant::now() + AGAIN).await {
                Ok(_) | Err(Unavailable::Retired) => return,
                Err(Unavailable::Refused(refusal)) if refusal.code == Code::ServerStopped => return,
                Err(Unavailable::Refused(refusal)) => {
                    let pause = refusal.retry_after.unwrap_or(self.pool.settings.backoff_base);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

/// Guard that unsubscribes if nobody waited for the answer.
struct Attempt<'a> {
    entry: &'a Entry,
    upstream: &'a dyn Upstream,
    uri: &'a str,
    over: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.entry.subscriptions.leave(self.uri);
            self.upstream.unsubscribe(self.uri);
        }
    }
}
