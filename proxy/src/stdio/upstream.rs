//! One running child as an upstream: the first words with it, requests, and what it is subscribed to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use protocol::mcp::{Era, method};
use protocol::{Code, Refusal};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::call::Call;
use super::handshake;
use super::link::{LastWords, Link, StdioPlan};
use super::standing::Standing;
use super::subscriptions::{Job, Subscriptions};
use crate::child::Needed;
use crate::server::StdioLaunch;
use crate::upstream::{Failure, Initialized, Params, Upstream, UpstreamAnswer, UpstreamRequest};

/// How long the answer is kept in mind that nobody waits for.
const UNSUBSCRIBING: Duration = Duration::from_secs(10);

pub struct StdioUpstream {
    link: Link,
    initialized: Arc<Initialized>,
    pid: Option<u32>,
    tasks: TaskTracker,
    /// To the task that listens to a modern child.
    jobs: Option<mpsc::UnboundedSender<Job>>,
}

/// Why there is no upstream.
#[derive(Debug)]
pub struct NotStarted {
    pub refusal: Refusal,
    /// The child lives and answered its first words, but not as one that speaks their era.
    pub wrong_era: bool,
}

impl From<Refusal> for NotStarted {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, wrong_era: false }
    }
}

/// How long a start waits until the child is listened to.
const LISTENING: Duration = Duration::from_secs(1);

impl StdioUpstream {
    /// Starts the child and shakes hands with it. A child that does not get that far is ended.
    pub async fn start(
        plan: &StdioPlan,
        launch: &StdioLaunch,
        generation: u64,
        deadline: Instant,
        tasks: &TaskTracker,
    ) -> Result<StdioUpstream, NotStarted> {
        let mut link = Link::open(plan, launch, tasks).await?;
        let introduction = plan.introduction.as_deref();
        let shaking = async {
            match plan.era {
                Era::Legacy => {
                    handshake::legacy(&link.wire, &plan.client, introduction, generation, deadline).await
                }
                Era::Modern => handshake::modern(&link.wire, &plan.client, generation, deadline).await,
            }
        };
        let stopping = plan.processes.stopping();
        let shaken = tokio::select! {
            shaken = shaking => shaken,
            () = stopping.cancelled() => Err(Failure { refusal: link.stopped(), sent: true }),
        };
        let initialized = match shaken {
            Ok(initialized) => Arc::new(initialized),
            Err(failure) => {
                let answered = link.wire.is_open() && failure.refusal.code == Code::UpstreamFailed;
                let refusal = not_started(&plan.who, failure.refusal, &link.words);
                link.wire.close(refusal.clone());
                link.handle.end();
                link.handle.over().await;
                return Err(NotStarted { refusal, wrong_era: answered });
            }
        };
        let (ready, standing) = oneshot::channel();
        let jobs = link.heard.take().filter(|_| plan.era == Era::Modern).map(|heard| {
            let (jobs, taken) = mpsc::unbounded_channel();
            let (wire, news) = (link.wire.clone(), plan.news.clone());
            let listens = Subscriptions::new(wire, plan.client.clone(), &initialized.result, news);
            tasks.spawn(listens.run(taken, heard, ready));
            jobs
        });
        if jobs.is_some() {
            // What the first call changes is heard too; a child that does not say so is not waited for.
            tokio::time::timeout(LISTENING, standing).await.ok();
        }
        let pid = link.handle.pid().await;
        Ok(StdioUpstream { link, initialized, pid, tasks: tasks.clone(), jobs })
    }

    pub fn initialized(&self) -> &Arc<Initialized> {
        &self.initialized
    }

    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    async fn listen_for(
        &self,
        jobs: &mpsc::UnboundedSender<Job>,
        uri: &str,
        deadline: Instant,
    ) -> Result<UpstreamAnswer, Failure> {
        let (wanted, told) = oneshot::channel();
        let gone = || {
            let reason = self.link.wire.reason().cloned();
            let refusal = reason.unwrap_or_else(|| Refusal::new(Code::UpstreamFailed, "it is gone"));
            Failure { refusal, sent: true }
        };
        jobs.send(Job { uri: uri.to_owned(), wanted: Some(wanted) }).map_err(|_| gone())?;
        match tokio::time::timeout_at(deadline.into(), told).await {
            Ok(told) => told.unwrap_or_else(|_| Err(gone())),
            Err(_) => {
                let reason =
                    format!("`{}` did not acknowledge the subscription in time", self.link.wire.who());
                Err(Failure { refusal: Refusal::new(Code::TimedOut, reason), sent: true })
            }
        }
    }
}

#[async_trait]
impl Upstream for StdioUpstream {
    async fn request(&self, request: UpstreamRequest<'_>) -> Result<UpstreamAnswer, Failure> {
        Call::new(&self.link.wire, request, true).await
    }

    fn notify(&self, method: &str, params: &[u8]) {
        self.link.wire.notify(method, params);
    }

    async fn subscribe(&self, uri: &str, deadline: Instant) -> Result<UpstreamAnswer, Failure> {
        if let Some(jobs) = &self.jobs {
            return self.listen_for(jobs, uri, deadline).await;
        }
        let params = json!({ "uri": uri }).to_string();
        let params = Params::raw(params.as_bytes());
        self.request(UpstreamRequest::new(method::SUBSCRIBE, params, deadline)).await
    }

    fn unsubscribe(&self, uri: &str) {
        if let Some(jobs) = &self.jobs {
            // The task is gone only when the child is.
            jobs.send(Job { uri: uri.to_owned(), wanted: None }).ok();
            return;
        }
        let params = json!({ "uri": uri }).to_string();
        let deadline = Instant::now() + UNSUBSCRIBING;
        // A child that takes nothing has more to it than one subscription too many.
        if let Ok(sent) = Standing::send(&self.link.wire, method::UNSUBSCRIBE, &params, deadline) {
            self.tasks.spawn(sent);
        }
    }

    fn is_alive(&self) -> bool {
        self.link.wire.is_open()
    }

    async fn closed(&self) -> Refusal {
        self.link.wire.closed.cancelled().await;
        let unsaid = || Refusal::new(Code::UpstreamFailed, "it is gone");
        self.link.wire.reason().cloned().unwrap_or_else(unsaid)
    }

    async fn stop(&self) -> Needed {
        self.link.stop().await
    }
}

/// Why a child did not start, from what its first words came to.
pub fn not_started(who: &str, refusal: Refusal, words: &LastWords) -> Refusal {
    match refusal.code {
        Code::TimedOut => {}
        Code::ServerStopped => return refusal,
        _ => return Refusal { code: Code::UpstreamUnavailable, ..refusal },
    }
    let reason = format!("`{who}` runs but did not answer the handshake in time: it waits for something");
    words.added_to(
        Refusal::new(Code::UpstreamUnavailable, reason)
            .hint("a first start may download a lot: raise the server's `startTimeoutMs`, or see its logs"),
    )
}
