//! Tool `search_files`: names by pattern and contents by text, within bounds of entries, depth, results, bytes and
//! time. Follows no link.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cap_fs_ext::DirExt;
use cap_std::fs::{Dir, DirEntry};
use framework::{Answer, Output};
use protocol::provider::{Cancellation, Progress, ProviderError, RequestContext};
use protocol::{Code, Refusal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::glob::Glob;
use super::list::nameable;
use super::path::{Inside, Place, shown};
use super::place::{Kind, check_wanted};
use super::text::{Line, Text};
use super::{Files, Filesystem};

/// Results without `limit`.
const RESULTS: u16 = 100;

/// Interval of progress notifications.
const PROGRESS: Duration = Duration::from_millis(500);

/// Bounds of one search.
pub struct Bounds {
    pub entries: u64,
    /// Directories below each other, the searched one counted.
    pub depth: usize,
    /// Bytes of contents.
    pub bytes: u64,
    pub time: Duration,
}

pub(super) const BOUNDS: Bounds =
    Bounds { entries: 500_000, depth: 64, bytes: 500_000_000, time: Duration::from_secs(20) };

/// Arguments of `search_files`.
#[derive(Deserialize, JsonSchema)]
pub struct SearchFiles {
    /// Directory, as `root/relative/path`; without it all roots.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    path: String,
    /// Glob: `*.rs` for names at any depth, `src/**/*.rs` for paths below `path`. All files without it.
    #[schemars(length(min = 1, max = 256))]
    pattern: Option<String>,
    /// Text that a line of the file has, as it is written, not a pattern.
    #[schemars(length(min = 1, max = 256))]
    contains: Option<String>,
    /// Makes no difference between large and small letters.
    #[serde(default)]
    ignore_case: bool,
    /// Most results.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u16>,
}

/// Result of `search_files`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// In the order of their paths.
    matches: Vec<Match>,
    /// Reason why not everything was searched; absent when it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    truncated: Option<String>,
    /// Entries that were looked at.
    entries: u64,
    /// Files whose contents were searched.
    files_read: u64,
    /// Files whose contents were not searched: binary, too large, with several names, or not readable.
    files_skipped: u64,
    /// Directories that could not be read.
    directories_skipped: u64,
    /// Entries whose names no path can have.
    unnameable: usize,
}

#[derive(Serialize, JsonSchema)]
struct Match {
    path: String,
    kind: Kind,
    /// First lines that have the text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lines: Vec<Line>,
}

impl Filesystem {
    pub async fn search_files(&self, context: &RequestContext<'_>, asked: SearchFiles) -> Output<Found> {
        let looked = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&looked);
        let search = self
            .run(context, move |files, cancellation| files.search(&asked, &BOUNDS, cancellation, &counter));
        tokio::pin!(search);
        let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + PROGRESS, PROGRESS);
        let found = loop {
            tokio::select! {
                found = &mut search => break found?,
                _ = tick.tick() => {
                    let entries = looked.load(Ordering::Relaxed);
                    let message = format!("{entries} entries searched");
                    (context.progress)(Progress { progress: entries as f64, total: None, message: Some(&message) });
                }
            }
        };
        let text = found.text();
        Ok(Answer::with_text(found, text))
    }
}

impl Found {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.matches.len()
    }

    /// Returns a line for each path and each matching line, and what was left out.
    fn text(&self) -> String {
        let mut lines = Vec::new();
        for Match { path, kind, lines: matched } in &self.matches {
            match (matched.as_slice(), kind) {
                ([], Kind::Directory) => lines.push(format!("{path}/")),
                ([], _) => lines.push(path.clone()),
                (matched, _) => {
                    let each = matched.iter().map(|Line { number, text }| format!("{path}:{number}: {text}"));
                    lines.extend(each);
                }
            }
        }
        if lines.is_empty() {
            lines.push(format!("(nothing found in {} entries)", self.entries));
        }
        let left_out = [
            (self.files_skipped, "files were not searched: binary, too large, hard-linked or not readable"),
            (self.directories_skipped, "directories could not be read"),
            (self.unnameable as u64, "entries have names that no path can have"),
        ];
        let left_out = left_out.iter().filter(|(count, _)| *count > 0);
        lines.extend(left_out.map(|(count, what)| format!("[{count} {what}]")));
        lines.extend(self.truncated.iter().map(|reason| format!("[not everything was searched: {reason}]")));
        lines.join("\n")
    }
}

impl Files {
    /// Searches for paths and contents.
    pub(super) fn search(
        &self,
        asked: &SearchFiles,
        bounds: &Bounds,
        cancellation: &Cancellation,
        looked: &AtomicU64,
    ) -> Result<Found, ProviderError> {
        let refused = |name: &str, value: &str, reason: String| {
            let reason = format!("`{name}` {} is refused: {reason}", shown(value));
            Refusal::new(Code::ValidationFailed, reason)
        };
        let place = self.read_path(&asked.path)?;
        let pattern = asked.pattern.as_deref().map(|pattern| {
            Glob::new(pattern, asked.ignore_case).map_err(|reason| refused("pattern", pattern, reason))
        });
        let text = asked.contains.as_deref().map(|text| {
            Text::new(self, text, asked.ignore_case).map_err(|reason| refused("contains", text, reason))
        });
        let mut search = Search {
            pattern: pattern.transpose()?,
            text: text.transpose()?,
            limit: usize::from(asked.limit.unwrap_or(RESULTS)),
            bounds,
            end: Instant::now() + bounds.time,
            cancellation,
            looked,
            found: Found {
                matches: Vec::new(),
                truncated: None,
                entries: 0,
                files_read: 0,
                files_skipped: 0,
                directories_skipped: 0,
                unnameable: 0,
            },
        };
        let places = match place {
            Place::Inside(place) => vec![place],
            Place::Roots => {
                let roots = 0..self.roots.len();
                roots.map(|root| Inside { root, relative: String::new() }).collect()
            }
        };
        for place in places {
            let dir = self.open_directory(&place)?;
            if search.directory(&dir, &self.shown(&place), "", 1)? == Next::Stop {
                break;
            }
        }
        Ok(search.found)
    }
}

#[derive(PartialEq, Eq)]
enum Next {
    Continue,
    /// A bound was reached.
    Stop,
}

/// One search.
struct Search<'a> {
    pattern: Option<Glob>,
    text: Option<Text<'a>>,
    limit: usize,
    bounds: &'a Bounds,
    end: Instant,
    cancellation: &'a Cancellation,
    looked: &'a AtomicU64,
    found: Found,
}

impl Search<'_> {
    /// Searches a directory and those below it. `above` is its path in answers, `below` that from the directory
    /// of the search, which the pattern is about.
    fn directory(
        &mut self,
        dir: &Dir,
        above: &str,
        below: &str,
        depth: usize,
    ) -> Result<Next, ProviderError> {
        let Ok(entries) = dir.entries() else {
            self.found.directories_skipped += 1;
            return Ok(Next::Continue);
        };
        let mut named = Vec::new();
        let mut next = Next::Continue;
        for entry in entries {
            let Ok(entry) = entry else {
                self.found.directories_skipped += 1;
                break;
            };
            if self.look()? == Next::Stop {
                next = Next::Stop;
                break;
            }
            if let Some(name) = nameable(&entry, &mut self.found.unnameable) {
                named.push((name, entry));
            }
        }
        named.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (name, entry) in named {
            let relative = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
            let kind = entry.file_type().map_or(Kind::Other, Kind::from);
            let path = format!("{above}/{name}");
            if self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(&relative))
                && self.entry(dir, &name, &entry, kind, &path)? == Next::Stop
            {
                return Ok(Next::Stop);
            }
            if kind == Kind::Directory && next == Next::Continue {
                if depth == self.bounds.depth {
                    let reason = format!("`{path}` is more than {depth} directories deep");
                    self.found.truncated.get_or_insert(reason);
                    continue;
                }
                let Ok(dir) = dir.open_dir_nofollow(&name) else {
                    self.found.directories_skipped += 1;
                    continue;
                };
                if self.directory(&dir, &path, &relative, depth + 1)? == Next::Stop {
                    return Ok(Next::Stop);
                }
            }
        }
        Ok(next)
    }

    /// Counts an entry, and looks at the bounds.
    fn look(&mut self) -> Result<Next, ProviderError> {
        if self.found.entries == self.bounds.entries {
            return Ok(self.stop(format!("there are more than {} entries", self.bounds.entries)));
        }
        self.found.entries += 1;
        if self.found.entries.is_multiple_of(256) {
            return self.look_at_time();
        }
        Ok(Next::Continue)
    }

    fn look_at_time(&mut self) -> Result<Next, ProviderError> {
        check_wanted(self.cancellation)?;
        self.looked.store(self.found.entries, Ordering::Relaxed);
        if Instant::now() >= self.end {
            return Ok(self.stop(format!("it took more than {:?}", self.bounds.time)));
        }
        Ok(Next::Continue)
    }

    fn stop(&mut self, reason: String) -> Next {
        self.found.truncated =
            Some(format!("{reason}; search a directory of it with `path`, or with a narrower `pattern`"));
        Next::Stop
    }

    /// Adds an entry that the pattern matches, if its contents match too.
    fn entry(
        &mut self,
        dir: &Dir,
        name: &str,
        entry: &DirEntry,
        kind: Kind,
        path: &str,
    ) -> Result<Next, ProviderError> {
        let mut lines = Vec::new();
        if self.text.is_some() {
            if kind != Kind::File {
                return Ok(Next::Continue);
            }
            if self.look_at_time()? == Next::Stop {
                return Ok(Next::Stop);
            }
        }
        if let Some(text) = &mut self.text {
            if text.bytes >= self.bounds.bytes {
                return Ok(self.stop(format!("the files have more than {} bytes", self.bounds.bytes)));
            }
            match text.lines(dir, name, entry) {
                Some(found) => {
                    self.found.files_read += 1;
                    lines = found;
                }
                None => self.found.files_skipped += 1,
            }
            if lines.is_empty() {
                return Ok(Next::Continue);
            }
        }
        if self.found.matches.len() == self.limit {
            return Ok(self.stop(format!("there are more than {} results", self.limit)));
        }
        self.found.matches.push(Match { path: path.to_owned(), kind, lines });
        Ok(Next::Continue)
    }
}
