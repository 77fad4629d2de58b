//! Removal of what a killed process has left: files without their name yet that nobody holds a lock on.

use std::fs::TryLockError;
use std::io;
use std::sync::Arc;

use cap_fs_ext::{DirExt, FollowSymlinks, OpenOptionsFollowExt, OpenOptionsSyncExt};
use cap_std::fs::{Dir, OpenOptions};

use super::Files;
use super::path::is_unfinished;

/// Most entries of a root that are looked at.
const MOST_ENTRIES: usize = 1_000_000;

/// Deepest directory that is looked at, counted from the root.
const DEEPEST: usize = 64;

/// Starts a thread that looks through all roots.
///
/// # Errors
/// The failure to start a thread.
pub fn remove_in_background(files: &Arc<Files>) -> Result<(), String> {
    let files = Arc::clone(files);
    let work = move || {
        for root in &files.roots {
            let removed = remove(&root.dir);
            if removed > 0 {
                tracing::info!(root = root.name, removed, "files of unfinished writes were removed");
            }
        }
    };
    let thread = std::thread::Builder::new().name("filesystem-stale".to_owned());
    thread.spawn(work).map(drop).map_err(|error| format!("a thread cannot be started: {error}"))
}

/// Removes the files of unfinished writes below a root. Returns their number.
pub fn remove(root: &Dir) -> usize {
    let (mut removed, mut looked) = (0, 0);
    let opened = |dir: io::Result<Dir>| dir.and_then(|dir| Ok((dir.entries()?, dir))).ok();
    // A directory that is gone or may not be read has nothing to remove.
    let mut open: Vec<_> = opened(root.try_clone()).into_iter().collect();
    loop {
        let depth = open.len();
        let Some((entries, dir)) = open.last_mut() else { return removed };
        let Some(entry) = entries.next().filter(|_| looked < MOST_ENTRIES) else {
            open.pop();
            continue;
        };
        looked += 1;
        let Ok((name, kind)) = entry.and_then(|entry| Ok((entry.file_name(), entry.file_type()?))) else {
            continue;
        };
        if let Some(name) = name.to_str().filter(|name| kind.is_file() && is_unfinished(name)) {
            match remove_unlocked(dir, name) {
                Ok(is_removed) => removed += usize::from(is_removed),
                Err(error) => tracing::debug!(%error, "a file of an unfinished write stays"),
            }
        }
        if kind.is_dir() && depth < DEEPEST {
            let below = opened(dir.open_dir_nofollow(&name));
            open.extend(below);
        }
    }
}

/// Removes a file unless somebody writes it.
fn remove_unlocked(dir: &Dir, name: &str) -> io::Result<bool> {
    let mut options = OpenOptions::new();
    options.write(true).nonblock(true).follow(FollowSymlinks::No);
    let file = dir.open_with(name, &options)?.into_std();
    match file.try_lock() {
        Ok(()) if file.metadata()?.is_file() => dir.remove_file(name).map(|()| true),
        Ok(()) | Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
