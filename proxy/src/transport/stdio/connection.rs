//! Connection to a child process: the process, its pipes, and the tasks that read and write until the end of
//! the process.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use protocol::{Code, Refusal};
use tokio::sync::Notify;

use super::outbox::PipeOutbox;
use super::reader::{ReadEnd, Reader};
use super::stderr;
use crate::child::{ChildHandle, ChildPlan, ChildProcess, Needed};
use crate::logs::LogRing;
use crate::masking::Secrets;
use crate::peer::duplex::DuplexConnection;
use crate::peer::{Connection, PeerPlan};
use crate::pool::Processes;
use crate::server::StdioLaunch;
use crate::telling;

/// Time for the supervisor's report and for the last stderr lines, after the end of a child.
const EXIT_REASON: Duration = Duration::from_millis(300);

/// The most lines in an error's `data.stderr`.
const SHOWN_LINES: usize = 10;

/// Requests in flight up to which callers write to the pipe themselves.
const DIRECT_WRITES: usize = 2;

#[derive(Clone, Copy, Debug)]
pub struct StdioLimits {
    /// The longest line taken from the child, in bytes.
    pub line_cap: usize,
    /// The most bytes queued for a child that does not read.
    pub write_cap: usize,
}

/// The part of a start that is the same for every start of one server.
pub struct StdioPlan {
    pub peer: PeerPlan,
    pub child: ChildPlan,
    pub limits: StdioLimits,
    /// All processes of the server, the one of this plan included.
    pub processes: Arc<Processes>,
}

pub type StdioConnection = DuplexConnection<PipeOutbox>;

/// Child process of a connection.
pub struct ChildEnd {
    pub handle: ChildHandle,
    pub stderr: StderrTail,
    grace: Duration,
}

impl ChildEnd {
    /// Waits for the end of a child whose input is closed. Returns the measures needed.
    pub async fn stop(&self) -> Needed {
        // End of input comes first; the supervisor sends signals.
        tokio::time::timeout(self.grace, self.handle.ended()).await.ok();
        self.handle.end();
        self.handle.over().await.max(Needed::EndOfInput)
    }
}

/// Starts the child and its reader and writer tasks.
pub async fn open(plan: &StdioPlan, launch: &StdioLaunch) -> Result<Arc<StdioConnection>, Refusal> {
    let StdioPlan { peer, limits, .. } = plan;
    let started_at = Timestamp::now();
    let making = plan.processes.make().await.ok_or_else(|| stopped(&peer.server))?;
    let child = ChildProcess::start(&plan.child, launch, &peer.tasks).await?;
    let ChildProcess { stdin, stdout, stderr, handle } = child;
    plan.processes.add(handle.watch());
    drop(making);
    let secrets = Arc::new(Secrets::new(launch.env.values()));
    let tail = StderrTail { logs: peer.logs.clone(), started_at, secrets };
    let outbox = PipeOutbox::new(stdin, limits.write_cap, DIRECT_WRITES);
    let process = ChildEnd { handle, stderr: tail, grace: plan.child.grace };
    let connection = Arc::new(DuplexConnection::new(peer, outbox, process));
    let stderr_ended = Arc::new(Notify::new());
    let (logs, ended) = (peer.logs.clone(), stderr_ended.clone());
    peer.tasks.spawn(async move {
        stderr::keep(stderr, logs).await;
        ended.notify_one();
    });
    peer.tasks.spawn(connection.clone().write_for_others());
    peer.tasks.spawn(read(connection.clone(), stdout, limits.line_cap, stderr_ended));
    Ok(connection)
}

/// Returns the refusal of requests to a child that was stopped.
pub fn stopped(server: &str) -> Refusal {
    Refusal::new(Code::ServerStopped, format!("`{server}` was stopped"))
}

/// Reads a child's output, and closes with the exit reason.
async fn read(
    connection: Arc<StdioConnection>,
    stdout: tokio::net::unix::pipe::Receiver,
    line_cap: usize,
    stderr_ended: Arc<Notify>,
) {
    let server = connection.server();
    let mut reader = Reader::new(connection.clone());
    let end = tokio::select! {
        biased;
        end = reader.run(stdout, line_cap) => end,
        never = connection.watch_deadlines() => match never {},
    };
    let reason = match end {
        ReadEnd::Over => exit_reason(&connection, &stderr_ended).await,
        ReadEnd::LineTooLong => {
            format!("`{server}` sent a line of more than {line_cap} bytes and is restarted")
        }
        ReadEnd::Failed(error) => format!("the output of `{server}` could not be read: {error}"),
    };
    if !connection.state.is_open() {
        // The connection was closed by a stop, which ends the child.
        return;
    }
    let refusal = Refusal::new(Code::UpstreamFailed, reason).since(Timestamp::now());
    let refusal = connection.process.stderr.added_to(refusal);
    connection.plan.logs.note(refusal.reason.clone());
    connection.close(refusal);
    // A child that only closed its output is of no use any more.
    connection.process.handle.end();
}

/// Returns the exit reason, after waiting for the exit status and the end of stderr.
async fn exit_reason(connection: &StdioConnection, stderr_ended: &Notify) -> String {
    let ending = tokio::time::timeout(EXIT_REASON, connection.process.handle.ended()).await;
    tokio::time::timeout(EXIT_REASON, stderr_ended.notified()).await.ok();
    let server = connection.server();
    match ending {
        Ok(ending) => format!("`{server}` {ending}"),
        Err(_) => format!("`{server}` closed its input or output and is restarted"),
    }
}

/// Stderr lines of one child, for refusals.
#[derive(Clone)]
pub struct StderrTail {
    logs: Arc<LogRing>,
    started_at: Timestamp,
    /// Values of the server's own variables, which are masked.
    secrets: Arc<Secrets>,
}

impl StderrTail {
    /// Adds the most telling line to the reason, the last lines to `data`, and a hint if the cause is known.
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
