//! One running child from its start to its end.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;
use protocol::mcp::method;
use protocol::{Code, Refusal};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::call::Call;
use super::handshake::{self, ClientName};
use super::oddities::Oddities;
use super::reader::{ReadEnd, Reader};
use super::stderr;
use super::wire::{Wire, WireLimits};
use crate::child::{ChildHandle, ChildPlan, ChildProcess};
use crate::logs::LogRing;
use crate::server::StdioLaunch;
use crate::upstream::{Failure, Initialized, Params, Upstream, UpstreamAnswer, UpstreamRequest};

/// After the child ended, how long its supervisor and the last of its stderr are waited for.
const OBITUARY: Duration = Duration::from_millis(300);

/// What is the same for every start of one server.
pub struct StdioPlan {
    /// The server's slug.
    pub who: Arc<str>,
    pub child: ChildPlan,
    pub limits: WireLimits,
    pub client: ClientName,
    pub changes: Arc<AtomicU64>,
    pub logs: Arc<LogRing>,
}

pub struct StdioUpstream {
    wire: Arc<Wire>,
    handle: ChildHandle,
    grace: Duration,
    initialized: Arc<Initialized>,
    pid: Option<u32>,
}

impl StdioUpstream {
    /// Starts the child and shakes hands with it. A child that does not get that far is ended.
    pub async fn start(
        plan: &StdioPlan,
        launch: &StdioLaunch,
        generation: u64,
        deadline: Instant,
        tasks: &TaskTracker,
    ) -> Result<StdioUpstream, Refusal> {
        let started_at = Timestamp::now();
        let child = ChildProcess::start(&plan.child, launch, tasks).await?;
        let ChildProcess { stdin, stdout, stderr, handle } = child;
        let wire = Arc::new(Wire::new(plan.who.clone(), stdin, plan.limits));
        let silent = Arc::new(Notify::new());
        let (logs, end_of_stderr) = (plan.logs.clone(), silent.clone());
        tasks.spawn(async move {
            stderr::keep(stderr, logs).await;
            end_of_stderr.notify_one();
        });
        tasks.spawn(wire.clone().write_for_others());
        tasks.spawn(wire.clone().watch_deadlines());
        let reader = Reader::new(wire.clone(), Oddities::new(plan.logs.clone()), plan.changes.clone());
        let life = Life { handle: handle.clone(), logs: plan.logs.clone(), silent, started_at };
        tasks.spawn(life.run(reader, stdout, plan.limits.line_cap));

        let shaken = handshake::legacy(&wire, &plan.client, generation, deadline).await;
        match shaken {
            Ok(initialized) => {
                let (initialized, pid) = (Arc::new(initialized), handle.pid().await);
                Ok(StdioUpstream { wire, handle, grace: plan.child.grace, initialized, pid })
            }
            Err(failure) => {
                let refusal = not_started(&plan.who, failure.refusal, plan.logs.last_stderr(started_at));
                wire.close(refusal.clone());
                handle.end();
                Err(refusal)
            }
        }
    }

    pub fn initialized(&self) -> &Arc<Initialized> {
        &self.initialized
    }

    pub fn pid(&self) -> Option<u32> {
        self.pid
    }
}

#[async_trait]
impl Upstream for StdioUpstream {
    async fn request(&self, request: UpstreamRequest<'_>) -> Result<UpstreamAnswer, Failure> {
        Call::new(&self.wire, request, true).await
    }

    fn notify(&self, method: &str, params: &[u8]) {
        self.wire.notify(method, params);
    }

    async fn subscribe(&self, uri: &str, deadline: Instant) -> Result<UpstreamAnswer, Failure> {
        let params = serde_json::json!({ "uri": uri }).to_string();
        let params = Params::raw(params.as_bytes());
        self.request(UpstreamRequest::new(method::SUBSCRIBE, params, deadline)).await
    }

    fn unsubscribe(&self, uri: &str) {
        let _ = uri;
    }

    fn is_alive(&self) -> bool {
        self.wire.is_open()
    }

    async fn closed(&self) -> Refusal {
        self.wire.closed.cancelled().await;
        let unsaid = || Refusal::new(Code::UpstreamFailed, "it is gone");
        self.wire.reason().cloned().unwrap_or_else(unsaid)
    }

    async fn stop(&self) {
        let reason = format!("`{}` was stopped", self.wire.who());
        self.wire.close(Refusal::new(Code::ServerStopped, reason));
        // The end of its input is the polite way; the supervisor has the others.
        tokio::time::timeout(self.grace, self.handle.ended()).await.ok();
        self.handle.end();
        self.handle.over().await;
    }
}

fn not_started(who: &str, refusal: Refusal, last_words: Option<String>) -> Refusal {
    if refusal.code != Code::TimedOut {
        return Refusal { code: Code::UpstreamUnavailable, ..refusal };
    }
    let words = last_words.map(|line| format!("; its last line on stderr: {line}")).unwrap_or_default();
    let reason = format!("`{who}` did not answer the handshake in time{words}");
    Refusal::new(Code::UpstreamUnavailable, reason)
        .hint("a first start may download a lot: raise the server's `startTimeoutMs`, or see its logs")
}

/// The task that reads a child to its end and then says why it ended.
struct Life {
    handle: ChildHandle,
    logs: Arc<LogRing>,
    /// Told at the end of stderr.
    silent: Arc<Notify>,
    started_at: Timestamp,
}

impl Life {
    async fn run(self, mut reader: Reader, stdout: tokio::net::unix::pipe::Receiver, line_cap: usize) {
        let end = reader.run(stdout, &self.handle, line_cap).await;
        let reason = match end {
            ReadEnd::Over => self.obituary(reader.wire.who()).await,
            ReadEnd::LineTooLong => {
                format!("`{}` sent a line of more than {line_cap} bytes and is restarted", reader.wire.who())
            }
            ReadEnd::Failed(error) => {
                format!("the output of `{}` could not be read: {error}", reader.wire.who())
            }
        };
        if !reader.wire.is_open() {
            // It was stopped, and whoever did that sees to the rest.
            return;
        }
        self.logs.note(&*reason);
        reader.wire.close(Refusal::new(Code::UpstreamFailed, reason).since(Timestamp::now()));
        // Most often it is dead already. One that only closed its output is of no use any more.
        self.handle.end();
    }

    /// How it ended and its last words, as far as they come soon.
    async fn obituary(&self, who: &str) -> String {
        let ending = tokio::time::timeout(OBITUARY, self.handle.ended()).await;
        tokio::time::timeout(OBITUARY, self.silent.notified()).await.ok();
        let words = self.logs.last_stderr(self.started_at);
        let words = words.map(|line| format!("; its last line on stderr: {line}")).unwrap_or_default();
        match ending {
            Ok(ending) => format!("`{who}` {ending}{words}"),
            Err(_) => format!("`{who}` closed its input or output and is restarted{words}"),
        }
    }
}
