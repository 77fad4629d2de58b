//! What a program and its helpers use, read from `/proc`. The echo servers below it are the work that is
//! passed on, and count for nobody.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

/// The memory of a process tree.
#[derive(Clone, Copy, Default, Debug)]
pub struct Usage {
    /// Bytes of the program itself.
    pub resident: u64,
    /// Bytes of its helpers: a gateway's supervisors. Pages they share are counted again and again.
    pub helpers: u64,
    /// Bytes of all of them, each shared page counted once ("proportional set size").
    pub proportional: u64,
    pub processes: usize,
}

/// What the tree below `root` holds.
pub fn of(root: u32) -> Usage {
    let mut usage = Usage::default();
    for (pid, _) in tree(root) {
        usage.processes += 1;
        usage.proportional += proportional(pid);
        let resident = tests::proc::resident_bytes(pid).unwrap_or_default();
        *(if pid == root { &mut usage.resident } else { &mut usage.helpers }) += resident;
    }
    usage
}

/// Its user and system time since the start; processes that have ended do not count.
pub fn cpu_of(root: u32) -> Duration {
    let ticks: u64 = tree(root).into_iter().map(|(_, ticks)| ticks).sum();
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The processes that count, with their ticks.
fn tree(root: u32) -> Vec<(u32, u64)> {
    let own = std::env::current_exe().unwrap_or_default();
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut ticks = HashMap::new();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
        if let Some((parent, used)) = read(pid) {
            children.entry(parent).or_default().push(pid);
            ticks.insert(pid, used);
        }
    }
    let mut counted = Vec::new();
    let mut found = vec![root];
    while let Some(pid) = found.pop() {
        found.extend(children.get(&pid).into_iter().flatten());
        if pid == root || !is_echo(pid, &own) {
            counted.push((pid, ticks.get(&pid).copied().unwrap_or_default()));
        }
    }
    counted
}

/// Parent, and ticks of user and system time.
fn read(pid: u32) -> Option<(u32, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold anything; the fields after it are plain.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some((u32::try_from(number(1)?).ok()?, number(11)? + number(12)?))
}

/// An echo server is this program, started by another.
fn is_echo(pid: u32, own: &Path) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program| program == own)
}

fn proportional(pid: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() * 1024
}
