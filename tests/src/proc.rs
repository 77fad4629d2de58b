//! Which processes live, read from `/proc`. A gateway and all that it starts carry the trial's own
//! `TMPDIR`, so they are found however they detached themselves.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// A living process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    /// Its command line, with spaces between.
    pub command: String,
}

/// The processes whose `TMPDIR` is this directory or lies in it. Zombies do not count: they hold
/// nothing but a number.
pub fn marked_with(directory: &Path) -> Vec<Process> {
    let mark = format!("TMPDIR={}", directory.display());
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| carries(*pid, mark.as_bytes()))
        .filter_map(read)
        .collect()
}

/// How long a process that is just being started may have no environment yet: `/proc` shows an empty
/// one between the end of its parent's `spawn` and the end of its `exec`. One look that finds nothing
/// proves nothing; two, this far apart, do.
pub const SETTLING: std::time::Duration = std::time::Duration::from_millis(100);

/// Whether the process exists and is not a zombie.
pub fn is_running(pid: u32) -> bool {
    read(pid).is_some()
}

/// Sends a signal; one to a process that has ended is lost.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// The processes that this one started.
pub fn children_of(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(read).filter(|process| process.parent == parent).map(|process| process.pid).collect()
}

/// The memory the process holds, in bytes.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

fn carries(pid: u32, mark: &[u8]) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|entry| {
        entry.strip_prefix(mark).is_some_and(|rest| rest.is_empty() || rest.first() == Some(&b'/'))
    })
}

fn read(pid: u32) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold anything; the fields after it are plain.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).trim_end_matches('\0').replace('\0', " ");
    Some(Process { pid, parent, command })
}
