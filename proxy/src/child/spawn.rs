//! Process spawner: the only thread that starts programs. The kernel's parent-death signal fires when the
//! *thread* that started a child ends, so that thread must never end.
#![expect(clippy::disallowed_methods, reason = "this is the place that the ban points to")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;

use tokio::sync::oneshot;

use super::options::Options;

/// A supervisor to start, on behalf of one child.
pub struct SupervisorStart {
    pub program: PathBuf,
    pub options: Options,
    /// Whole environment of the child; the supervisor passes it on.
    pub environment: BTreeMap<String, String>,
    /// Socket that becomes the supervisor's standard input.
    pub control: OwnedFd,
    pub stderr: OwnedFd,
}

type Job = (SupervisorStart, oneshot::Sender<io::Result<Child>>);

/// Starts a supervisor from the thread that lives as long as this process.
pub async fn start_supervisor(start: SupervisorStart) -> io::Result<Child> {
    static THREAD: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    let jobs = THREAD.get_or_init(|| {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let run = move || {
            for (start, answer) in inbox {
                // Without a receiver the child is dropped, and its supervisor sees the socket close.
                answer.send(spawn_supervisor(start)).ok();
            }
        };
        // Without the thread the inbox is dropped, and every start is refused below.
        if let Err(error) = std::thread::Builder::new().name("spawn".to_owned()).spawn(run) {
            tracing::error!(%error, "the thread that starts children could not be started");
        }
        jobs
    });
    let (answer, started) = oneshot::channel();
    let gone = || io::Error::other("the thread that starts children is gone");
    jobs.send((start, answer)).map_err(|_| gone())?;
    started.await.map_err(|_| gone())?
}

fn spawn_supervisor(start: SupervisorStart) -> io::Result<Child> {
    Command::new(&start.program)
        .arg("exec-child")
        .args(start.options.to_args())
        .env_clear()
        .envs(&start.environment)
        .stdin(Stdio::from(start.control))
        .stdout(Stdio::null())
        .stderr(Stdio::from(start.stderr))
        // A Ctrl-C in the gateway's terminal is for the gateway alone, which ends its children in order.
        .process_group(0)
        .spawn()
}

/// Starts the supervisor's second stage, in a process group of its own.
pub fn spawn_child(options: &Options, stdin: OwnedFd, stdout: OwnedFd) -> io::Result<Child> {
    let stage = Options {
        apply: true,
        parent: Some(rustix::process::getpid().as_raw_pid()),
        grace: None,
        ..options.clone()
    };
    Command::new("/proc/self/exe")
        .arg("exec-child")
        .args(stage.to_args())
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::from(stdout))
        .process_group(0)
        .spawn()
}

/// Executes the command in the second stage; returns only with the reason of a failure.
pub fn replace_with_command(options: &Options) -> String {
    let error = Command::new(&options.command).args(&options.args).exec();
    let command: &OsString = &options.command;
    format!("cannot run `{}`: {error}", command.to_string_lossy())
}
