//! Descendants of this process, read from `/proc`, with processes that left their group or were re-parented
//! to this process (a subreaper).

use std::collections::HashMap;
use std::fs;

use rustix::process::{Pid, Signal, getpid, kill_process};

/// Sends the signal to every living descendant, and returns their number.
pub fn signal_all(signal: Signal) -> usize {
    let all = living();
    for pid in &all {
        // The process may have ended since; then there is nothing to do.
        kill_process(*pid, signal).ok();
    }
    all.len()
}

/// Returns the living descendants, without zombies, which wait for their parent only.
pub fn living() -> Vec<Pid> {
    let mut children: HashMap<i32, Vec<(i32, bool)>> = HashMap::new();
    for (pid, parent, zombie) in processes() {
        children.entry(parent).or_default().push((pid, zombie));
    }
    let mut found = Vec::new();
    let mut open = vec![getpid().as_raw_pid()];
    while let Some(parent) = open.pop() {
        for (pid, zombie) in children.remove(&parent).unwrap_or_default() {
            open.push(pid);
            if !zombie {
                found.extend(Pid::from_raw(pid));
            }
        }
    }
    found
}

fn processes() -> impl Iterator<Item = (i32, i32, bool)> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read(entry.path().join("stat")).ok()?;
        parse_stat(&stat).map(|(parent, zombie)| (pid, parent, zombie))
    })
}

/// Reads the parent and whether the process is dead, from proc_pid_stat(5). Its name may have brackets.
fn parse_stat(stat: &[u8]) -> Option<(i32, bool)> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let mut fields = std::str::from_utf8(&stat[after_name..]).ok()?.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    Some((parent, matches!(state, "Z" | "X")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines() {
        assert_eq!(parse_stat(b"12 (a) b)) S 7 12 12 0 -1"), Some((7, false)));
        assert_eq!(parse_stat(b"12 (x) Z 1 0"), Some((1, true)));
        assert_eq!(parse_stat(b"12"), None);
    }
}
