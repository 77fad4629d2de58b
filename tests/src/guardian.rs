//! A small process that ends what this test process started, also when it is killed: it waits for
//! the end of its standard input, which comes in either case. See `bin/test-guardian.rs`.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock};

use crate::programs::programs;

/// End this process (with SIGQUIT, then SIGKILL) when the test process is gone.
pub fn watch(pid: u32) {
    tell(&format!("watch {pid}"));
}

/// The process has ended; its number may soon be somebody else's.
pub fn forget(pid: u32) {
    tell(&format!("forget {pid}"));
}

/// Kill every process whose `TMPDIR` lies here, and remove the directory, when the test process is gone.
pub fn sweep(directory: &Path) {
    tell(&format!("sweep {}", directory.display()));
}

/// Ends everything now and returns when it is done.
pub fn finish() {
    let mut guardian = guardian();
    if let Some((mut child, input)) = guardian.take() {
        drop(input);
        let _ = child.wait();
    }
}

fn tell(line: &str) {
    let mut guardian = guardian();
    let (_, input) = guardian.get_or_insert_with(start);
    writeln!(input, "{line}").expect("the guardian lives as long as the test process");
}

fn guardian() -> MutexGuard<'static, Option<(Child, ChildStdin)>> {
    static GUARDIAN: OnceLock<Mutex<Option<(Child, ChildStdin)>>> = OnceLock::new();
    GUARDIAN.get_or_init(Mutex::default).lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn start() -> (Child, ChildStdin) {
    let mut child = Command::new(programs().guardian)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C reaches the test process only; the guardian then sees its input end.
        .process_group(0)
        .spawn()
        .expect("the guardian can be started");
    let input = child.stdin.take().expect("its input is a pipe");
    (child, input)
}
