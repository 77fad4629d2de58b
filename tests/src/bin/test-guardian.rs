//! Ends what a test process started, once that process is gone: reads what to end from standard
//! input, one line each, and acts at the end of input. Knows nothing of the gateway.

use std::collections::BTreeSet;
use std::io::BufRead;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::proc;

fn main() {
    let mut watched = BTreeSet::new();
    let mut directories = Vec::new();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match line.split_once(' ') {
            Some(("watch", pid)) => watched.extend(pid.parse::<u32>()),
            Some(("forget", pid)) => {
                watched.retain(|watched: &u32| watched.to_string() != pid);
            }
            Some(("sweep", directory)) => directories.push(PathBuf::from(directory)),
            Some(_) | None => {}
        }
    }
    kill_marked(&directories);
    // PostgreSQL takes its workers with it at SIGQUIT; killed, it would leave them to notice.
    watched.iter().for_each(|pid| proc::signal(*pid, Signal::QUIT));
    let until = Instant::now() + Duration::from_secs(5);
    while watched.iter().any(|pid| proc::is_running(*pid)) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    watched.iter().filter(|pid| proc::is_running(**pid)).for_each(|pid| proc::signal(*pid, Signal::KILL));
    if std::env::var_os("TRUNKLINE_KEEP").is_none() {
        for directory in directories {
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}

/// Kills until two looks in a row find nothing: what is being started has no environment yet.
fn kill_marked(directories: &[PathBuf]) {
    let until = Instant::now() + Duration::from_secs(10);
    let mut quiet = 0;
    while quiet < 2 && Instant::now() < until {
        let found: Vec<_> = directories.iter().flat_map(|directory| proc::marked_with(directory)).collect();
        found.iter().for_each(|process| proc::signal(process.pid, Signal::KILL));
        quiet = if found.is_empty() { quiet + 1 } else { 0 };
        std::thread::sleep(proc::SETTLING);
    }
}
