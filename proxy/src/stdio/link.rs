//! The connection to one child: the process, its wire, and the tasks that read and write it until it
//! ends. What is said over it first is not known here.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use protocol::mcp::Era;
use protocol::{Code, Refusal};
use tokio::sync::{Notify, mpsc};
use tokio_util::task::TaskTracker;

use super::ears::Ears;
use super::oddities::Oddities;
use super::questions::Questions;
use super::reader::{ReadEnd, Reader};
use super::standing::Heard;
use super::stderr;
use super::wire::{Wire, WireLimits};
use crate::child::{ChildHandle, ChildPlan, ChildProcess};
use crate::logs::LogRing;
use crate::news::Tell;
use crate::own::ClientName;
use crate::server::StdioLaunch;
use crate::upstream::Introduction;

/// After the child ended, how long its supervisor and the last of its stderr are waited for.
const OBITUARY: Duration = Duration::from_millis(300);

/// How many words about a `subscriptions/listen` wait to be heard; more are lost.
const STANDING_HEARD: usize = 64;

/// What is the same for every start of one server.
pub struct StdioPlan {
    /// The server's slug.
    pub who: Arc<str>,
    pub child: ChildPlan,
    pub limits: WireLimits,
    pub client: ClientName,
    /// The client that the child is for; none for one that serves many.
    pub introduction: Option<Arc<Introduction>>,
    pub era: Era,
    pub news: Tell,
    pub logs: Arc<LogRing>,
}

pub struct Link {
    pub wire: Arc<Wire>,
    pub handle: ChildHandle,
    /// What the child says about a `subscriptions/listen`.
    pub heard: Option<mpsc::Receiver<Heard>>,
    pub started_at: Timestamp,
    grace: Duration,
}

impl Link {
    /// Starts the child and begins to read it.
    pub async fn open(plan: &StdioPlan, launch: &StdioLaunch, tasks: &TaskTracker) -> Result<Link, Refusal> {
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
        let (standing, heard) = mpsc::channel(STANDING_HEARD);
        let ears = Ears {
            wire: wire.clone(),
            oddities: Oddities::new(plan.logs.clone()),
            era: plan.era,
            introduction: plan.introduction.clone(),
            news: plan.news.clone(),
            questions: Questions::new(wire.clone(), tasks.clone()),
            standing,
        };
        let reader = Reader::new(wire.clone(), ears);
        let life = Life { handle: handle.clone(), logs: plan.logs.clone(), silent, started_at };
        tasks.spawn(life.run(reader, stdout, plan.limits.line_cap));
        Ok(Link { wire, handle, heard: Some(heard), started_at, grace: plan.child.grace })
    }

    /// Ends the child in an orderly way and waits until nothing is left of it.
    pub async fn stop(&self) {
        let reason = format!("`{}` was stopped", self.wire.who());
        self.wire.close(Refusal::new(Code::ServerStopped, reason));
        // The end of its input is the polite way; the supervisor has the others.
        tokio::time::timeout(self.grace, self.handle.ended()).await.ok();
        self.handle.end();
        self.handle.over().await;
    }
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
