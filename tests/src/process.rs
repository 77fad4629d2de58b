//! One running gateway process: started with a clean environment, its log lines kept, its addresses
//! read from the line `listening`, and never left behind.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::guardian;
use crate::proc;
use crate::programs::programs;

/// How long a start may take on a loaded machine with an unoptimised build.
const START: Duration = Duration::from_secs(60);

/// A gateway that listens.
pub struct Process {
    child: Child,
    pub address: String,
    pub metrics: Option<String>,
    output: Output,
    /// From the start of the process to the line `listening`.
    pub start_took: Duration,
}

/// A gateway that ended before it listened.
#[derive(Debug)]
pub struct FailedStart {
    pub status: Option<ExitStatus>,
    /// Both streams, in the order in which the lines came.
    pub output: String,
}

#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<String>>>);

/// The program with a clean environment: `PATH` and `HOME`, and what is given.
pub fn command(arguments: &[String], environment: &[(String, String)], directory: &Path) -> Command {
    let mut command = Command::new(programs().gateway);
    command.args(arguments).env_clear().current_dir(directory).stdin(Stdio::null());
    let kept = ["PATH", "HOME", "LLVM_PROFILE_FILE"];
    command.envs(kept.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))));
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command
}

impl Process {
    pub async fn start(mut command: Command) -> Result<Process, FailedStart> {
        let begun = Instant::now();
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("the gateway under test can be started");
        guardian::watch(child.id());
        let output = Output::default();
        let readers = [
            output.follow(child.stdout.take().expect("its output is a pipe")),
            output.follow(child.stderr.take().expect("its error output is a pipe")),
        ];
        loop {
            if let Some((address, metrics)) = output.find(listening) {
                let start_took = begun.elapsed();
                return Ok(Process { child, address, metrics, output, start_took });
            }
            let status = child.try_wait().expect("a child can be asked for its status");
            if status.is_some() || begun.elapsed() > START {
                let _ = child.kill();
                let _ = child.wait();
                guardian::forget(child.id());
                // A process that ended may have left its last lines in the pipe.
                readers.into_iter().for_each(|reader| drop(reader.join()));
                return Err(FailedStart { status, output: output.all().join("\n") });
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Every line it has written so far, on both streams.
    pub fn lines(&self) -> Vec<String> {
        self.output.all()
    }

    pub fn signal(&self, signal: Signal) {
        proc::signal(self.child.id(), signal);
    }

    /// Waits for its end; `None` when it has not ended by then.
    pub async fn wait(&mut self, at_most: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + at_most;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be asked for its status") {
                return Some(status);
            }
            if Instant::now() > until {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        guardian::forget(self.child.id());
    }
}

impl Output {
    fn follow(&self, stream: impl Read + Send + 'static) -> std::thread::JoinHandle<()> {
        let lines = self.0.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                lines.lock().expect("readers do not panic").push(text);
                line.clear();
            }
        })
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().expect("readers do not panic").clone()
    }

    fn find<T>(&self, read: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.0.lock().expect("readers do not panic").iter().find_map(|line| read(line))
    }
}

/// Reads `{"message":"listening","address":…,"metrics":…}`.
fn listening(line: &str) -> Option<(String, Option<String>)> {
    let line: Value = serde_json::from_str(line).ok()?;
    if line["message"] != "listening" {
        return None;
    }
    Some((line["address"].as_str()?.to_owned(), line["metrics"].as_str().map(str::to_owned)))
}
