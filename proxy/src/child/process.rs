//! Supervised child process: three pipes, the control socket, and the exit of the child.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use protocol::{Code, Refusal};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{Pid, Signal, getpid, kill_process_group};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, pipe};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::ending::{Ending, Needed};
use super::lookup;
use super::options::Options;
use super::spawn::{SupervisorStart, start_supervisor};
use crate::server::StdioLaunch;

/// Size of a pipe in bytes, where the system allows it. A message of 100 KB then takes one switch between
/// the two sides instead of several; much more would exhaust the limits of an ordinary user.
const PIPE_BYTES: usize = 256 << 10;

/// Decisions before the start of a child.
pub struct ChildPlan {
    pub supervisor: PathBuf,
    /// Variables passed on from the gateway; the server's own variables win.
    pub environment: BTreeMap<String, String>,
    pub grace: Duration,
}

/// Command of a server that the gateway's own program serves (`trunkline server`), whatever is in `PATH`.
const OWN_PROGRAM: &str = "trunkline";

/// Executable of the supervisor, which is the gateway's.
const OWN_EXECUTABLE: &str = "/proc/self/exe";

/// A running child.
pub struct ChildProcess {
    pub stdin: pipe::Sender,
    pub stdout: pipe::Receiver,
    pub stderr: pipe::Receiver,
    pub handle: ChildHandle,
}

impl ChildProcess {
    /// Starts the program of `launch`. A program that does not exist is refused at once.
    pub async fn start(
        plan: &ChildPlan,
        launch: &StdioLaunch,
        tasks: &TaskTracker,
    ) -> Result<ChildProcess, Refusal> {
        let mut environment = plan.environment.clone();
        environment.extend(launch.env.clone());
        let is_own = launch.command == OWN_PROGRAM;
        if !is_own {
            lookup::check(launch, &environment)?;
        }
        let options = Options {
            apply: false,
            parent: Some(getpid().as_raw_pid()),
            grace: Some(plan.grace),
            limits: launch.limits,
            cwd: launch.cwd.clone(),
            command: if is_own { OWN_EXECUTABLE.into() } else { launch.command.clone().into() },
            args: launch.args.iter().map(Into::into).collect(),
        };
        start(plan.supervisor.clone(), options, environment, tasks).await.map_err(|error| {
            tracing::warn!(%error, command = launch.command, "a child could not be started");
            let reason = format!("`{}` could not be started: {error}", launch.command);
            Refusal::new(Code::UpstreamUnavailable, reason)
        })
    }
}

async fn start(
    program: PathBuf,
    options: Options,
    environment: BTreeMap<String, String>,
    tasks: &TaskTracker,
) -> io::Result<ChildProcess> {
    let (child_stdin, stdin) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stdout, child_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stderr, child_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
    for end in [&stdin, &stdout] {
        // A refusal only means smaller pipes.
        fcntl_setpipe_size(end, PIPE_BYTES).ok();
    }
    let (control, child_control) = StdUnixStream::pair()?;
    pass_pipes(&control, &child_stdin, &child_stdout)?;
    drop((child_stdin, child_stdout));
    let start = SupervisorStart {
        program,
        options,
        environment,
        control: child_control.into(),
        stderr: child_stderr,
    };
    let child = start_supervisor(start).await?;
    control.set_nonblocking(true)?;
    let (reports, orders) = UnixStream::from_std(control)?.into_split();
    let (state, seen) = watch::channel(Life::default());
    tasks.spawn(follow(reports, child, state));
    Ok(ChildProcess {
        stdin: pipe::Sender::from_owned_fd(stdin)?,
        stdout: pipe::Receiver::from_owned_fd(stdout)?,
        stderr: pipe::Receiver::from_owned_fd(stderr)?,
        handle: ChildHandle { orders: Arc::new(Mutex::new(Some(orders))), life: seen },
    })
}

/// Sends the child's ends of its pipes ahead; the socket holds them until the supervisor reads them.
fn pass_pipes(control: &StdUnixStream, stdin: &OwnedFd, stdout: &OwnedFd) -> io::Result<()> {
    let pipes = [stdin.as_fd(), stdout.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&pipes));
    sendmsg(control, &[IoSlice::new(b"p")], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

#[derive(Clone, Copy, Default, Debug)]
struct Life {
    pid: Option<u32>,
    ending: Option<Ending>,
    needed: Needed,
    /// End of the supervisor, and with it of everything below it.
    over: bool,
}

/// Handle of a child. Dropping the last clone ends the child.
#[derive(Clone)]
pub struct ChildHandle {
    orders: Arc<Mutex<Option<OwnedWriteHalf>>>,
    life: watch::Receiver<Life>,
}

impl ChildHandle {
    /// Returns the child's process id. The supervisor reports the id right after the start, which may come
    /// later than the child's first answer; none if the child ended before.
    pub async fn pid(&self) -> Option<u32> {
        let mut life = self.life.clone();
        let life = life.wait_for(|life| life.pid.is_some() || life.ending.is_some()).await.ok()?;
        life.pid
    }

    /// Waits for the exit of the child itself.
    pub async fn ended(&self) -> Ending {
        let mut life = self.life.clone();
        match life.wait_for(|life| life.ending.is_some()).await {
            Ok(life) => life.ending.unwrap_or(Ending::Lost),
            Err(_) => Ending::Lost,
        }
    }

    /// Waits until neither supervisor nor grandchild is left. Returns the means that the end took.
    pub async fn over(&self) -> Needed {
        self.watch().over().await
    }

    /// Returns an observer that does not keep the child alive.
    pub fn watch(&self) -> ChildWatch {
        ChildWatch(self.life.clone())
    }

    /// Orders SIGTERM to the whole group, a wait, then SIGKILL. Returns at once.
    pub fn end(&self) {
        drop(self.orders.lock().take());
    }
}

/// Observer of a child's exit.
#[derive(Clone)]
pub struct ChildWatch(watch::Receiver<Life>);

impl ChildWatch {
    pub fn is_over(&self) -> bool {
        self.0.borrow().over || self.0.has_changed().is_err()
    }

    /// Waits as [`ChildHandle::over`] does.
    pub async fn over(&self) -> Needed {
        let mut life = self.0.clone();
        // A closed channel means that the task following the child is gone, so nothing more will be known.
        life.wait_for(|life| life.over).await.map_or(Needed::Nothing, |life| life.needed)
    }
}

/// Reads the supervisor's reports until it is gone, then collects it.
async fn follow(reports: OwnedReadHalf, mut supervisor: Child, state: watch::Sender<Life>) {
    let mut lines = BufReader::with_capacity(128, reports).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        state.send_modify(|life| match (line.strip_prefix("pid "), Needed::parse(&line)) {
            (Some(pid), _) => life.pid = pid.parse().ok(),
            (None, Some(needed)) => life.needed = needed,
            (None, None) => life.ending = Ending::parse(&line).or(life.ending),
        });
    }
    let life = *state.borrow();
    if let (None, Some(pid)) = (life.ending, life.pid) {
        // The supervisor was killed, so this process ends the child, as far as the group reaches.
        tracing::warn!(pid, "a supervisor is gone before its child");
        if let Some(group) = Pid::from_raw(pid as i32) {
            kill_process_group(group, Signal::KILL).ok();
            state.send_modify(|life| life.needed = Needed::Kill);
        }
    }
    collect(&mut supervisor).await;
    state.send_modify(|life| {
        life.ending = life.ending.or(Some(Ending::Lost));
        life.over = true;
    });
}

/// Waits for the supervisor's exit, which comes a moment after the socket closes.
async fn collect(supervisor: &mut Child) {
    let mut pause = Duration::from_millis(1);
    while let Ok(None) = supervisor.try_wait() {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}
