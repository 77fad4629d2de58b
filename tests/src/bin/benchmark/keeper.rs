//! The role `keeper`: a process that ends what the benchmark started and removes its directory once the
//! benchmark is gone, also when that was interrupted or killed. It reads what to end from its standard
//! input, one line each, and acts at the end of input.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::Signal;
use tests::proc;

pub fn run() {
    let mut pids = BTreeSet::new();
    let mut directory = None;
    for line in std::io::stdin().lines().map_while(Result::ok) {
        match line.split_once(' ') {
            Some(("watch", pid)) => pids.extend(pid.parse::<u32>()),
            Some(("forget", pid)) => pids.retain(|watched| watched.to_string() != pid),
            Some(("remove", path)) => directory = Some(PathBuf::from(path)),
            Some(_) | None => {}
        }
    }
    pids.iter().for_each(|pid| proc::signal(*pid, Signal::KILL));
    if let Some(directory) = directory {
        // A killed gateway's children may write for a moment longer.
        for _ in 0..20 {
            let _ = std::fs::remove_dir_all(&directory);
            if !directory.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The benchmark's end of it. Dropping it ends everything.
pub struct Keeper {
    child: Child,
    input: Option<Mutex<ChildStdin>>,
}

impl Keeper {
    pub fn start(directory: &Path) -> std::io::Result<Keeper> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("keeper")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // Ctrl-C ends the benchmark only; its keeper then sees its input end.
            .process_group(0)
            .spawn()?;
        let input = child.stdin.take().map(Mutex::new);
        let keeper = Keeper { child, input };
        keeper.tell(&format!("remove {}", directory.display()));
        Ok(keeper)
    }

    /// End this process when the benchmark is gone.
    pub fn watch(&self, pid: u32) {
        self.tell(&format!("watch {pid}"));
    }

    /// The process has ended; its number may soon be somebody else's.
    pub fn forget(&self, pid: u32) {
        self.tell(&format!("forget {pid}"));
    }

    fn tell(&self, line: &str) {
        if let Some(input) = &self.input {
            let mut input = input.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            writeln!(input, "{line}").expect("the keeper lives as long as the benchmark");
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
