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
use crate::child::{ChildHandle, ChildPlan, ChildProcess, Needed};
use crate::logs::LogRing;
use crate::masking::Secrets;
use crate::news::Tell;
use crate::own::ClientName;
use crate::pool::Processes;
use crate::server::StdioLaunch;
use crate::telling;
use crate::upstream::Introduction;

/// After the child ended, how long its supervisor and the last of its stderr are waited for.
const OBITUARY: Duration = Duration::from_millis(300);

/// How many lines an error's `data.stderr` has at most.
const SHOWN_LINES: usize = 10;

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
    /// All processes of the server, this one among them.
    pub processes: Arc<Processes>,
}

pub struct Link {
    pub wire: Arc<Wire>,
    pub handle: ChildHandle,
    /// What the child says about a `subscriptions/listen`.
    pub heard: Option<mpsc::Receiver<Heard>>,
    pub words: LastWords,
    grace: Duration,
}

impl Link {
    /// Starts the child and begins to read it.
    pub async fn open(plan: &StdioPlan, launch: &StdioLaunch, tasks: &TaskTracker) -> Result<Link, Refusal> {
        let started_at = Timestamp::now();
        let making = plan.processes.make().await.ok_or_else(|| stopped(&plan.who))?;
        let child = ChildProcess::start(&plan.child, launch, tasks).await?;
        let ChildProcess { stdin, stdout, stderr, handle } = child;
        plan.processes.add(handle.watch());
        drop(making);
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
        let secrets = Arc::new(Secrets::new(launch.env.values()));
        let words = LastWords { logs: plan.logs.clone(), started_at, secrets };
        let life = Life { handle: handle.clone(), words: words.clone(), silent };
        tasks.spawn(life.run(reader, stdout, plan.limits.line_cap));
        Ok(Link { wire, handle, heard: Some(heard), words, grace: plan.child.grace })
    }

    /// Ends the child in an orderly way and waits until nothing is left of it. Says what that took.
    pub async fn stop(&self) -> Needed {
        self.wire.close(self.stopped());
        // The end of its input is the polite way; the supervisor has the others.
        tokio::time::timeout(self.grace, self.handle.ended()).await.ok();
        self.handle.end();
        self.handle.over().await.max(Needed::EndOfInput)
    }

    /// The refusal of requests to a child that was stopped.
    pub fn stopped(&self) -> Refusal {
        stopped(self.wire.who())
    }
}

fn stopped(who: &str) -> Refusal {
    Refusal::new(Code::ServerStopped, format!("`{who}` was stopped"))
}

/// The task that reads a child to its end and then says why it ended.
struct Life {
    handle: ChildHandle,
    words: LastWords,
    /// Told at the end of stderr.
    silent: Arc<Notify>,
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
        let refusal = Refusal::new(Code::UpstreamFailed, reason).since(Timestamp::now());
        let refusal = self.words.added_to(refusal);
        self.words.logs.note(refusal.reason.clone());
        reader.wire.close(refusal);
        // Most often it is dead already. One that only closed its output is of no use any more.
        self.handle.end();
    }

    /// Says how it ended, once its stderr is read, as far as that comes soon.
    async fn obituary(&self, who: &str) -> String {
        let ending = tokio::time::timeout(OBITUARY, self.handle.ended()).await;
        tokio::time::timeout(OBITUARY, self.silent.notified()).await.ok();
        match ending {
            Ok(ending) => format!("`{who}` {ending}"),
            Err(_) => format!("`{who}` closed its input or output and is restarted"),
        }
    }
}

/// What one child wrote to stderr, as a refusal shows it.
#[derive(Clone)]
pub struct LastWords {
    logs: Arc<LogRing>,
    started_at: Timestamp,
    /// The values of the server's own variables: they are never shown.
    secrets: Arc<Secrets>,
}

impl LastWords {
    /// Adds the line that names the error to the reason, the last lines to `data`, and a hint if the
    /// cause is known.
    pub fn added_to(&self, mut refusal: Refusal) -> Refusal {
        let written = self.logs.stderr_since(self.started_at);
        let lines = self.secrets.masked(&written);
        if let Some(line) = telling::telling_line(&lines) {
            refusal.reason = format!("{}; on stderr: {line}", refusal.reason).into();
        }
        if let Some(hint) = telling::hint(&written) {
            refusal = refusal.hint(hint);
        }
        if lines.is_empty() {
            return refusal;
        }
        refusal.fact("stderr", &lines[lines.len().saturating_sub(SHOWN_LINES)..])
    }
}
