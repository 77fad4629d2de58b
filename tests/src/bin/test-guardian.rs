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
    for directory in &directories {
        for process in proc::marked_with(directory) {
            proc::signal(process.pid, Signal::KILL);
        }
    }
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
