//! Tool `search_files`: names by pattern and contents by text, within bounds of entries, depth, results, bytes and
//! time. Follows no link.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cap_fs_ext::{DirExt, FollowSymlinks, OpenOptionsFollowExt, OpenOptionsSyncExt};
use cap_std::fs::{Dir, DirEntry, MetadataExt, OpenOptions, OpenOptionsExt};
use framework::{Answer, Output};
use protocol::provider::{Cancellation, Progress, ProviderError, RequestContext};
use protocol::{Code, Refusal};
use regex::bytes::{Regex, RegexBuilder};
use rustix::fs::OFlags;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::glob::Glob;
use super::list::nameable;
use super::path::{Inside, Place, shown};
use super::place::{Kind, check_wanted};
use super::{Files, Filesystem};

/// Results without `limit`.
const RESULTS: u16 = 100;

/// Lines of one file that a result shows.
const MOST_LINES: usize = 10;

/// Characters of a line that a result shows.
const MOST_OF_LINE: usize = 200;

/// First bytes of a file among which a NUL says that it is no text.
const BINARY_PROBE: usize = 8000;

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

#[derive(Serialize, JsonSchema)]
struct Line {
    /// Number of the line, counted from 1.
    number: u64,
    text: String,
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
            let has_control = text.contains(|c: char| c.is_control() && c != '\t');
            let regex = RegexBuilder::new(&regex::escape(text)).case_insensitive(asked.ignore_case).build();
            match regex {
                Ok(regex) if !has_control => Ok(regex),
                Ok(_) => Err(refused("contains", text, "it has a control character or several lines".into())),
                Err(_) => Err(refused("contains", text, "it is too large".into())),
            }
        });
        let mut search = Search {
            files: self,
            pattern: pattern.transpose()?,
            text: text.transpose()?,
            limit: usize::from(asked.limit.unwrap_or(RESULTS)),
            bounds,
            end: Instant::now() + bounds.time,
            bytes: 0,
            buffer: Vec::new(),
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
    files: &'a Files,
    pattern: Option<Glob>,
    text: Option<Regex>,
    limit: usize,
    bounds: &'a Bounds,
    end: Instant,
    /// Bytes of contents that were read.
    bytes: u64,
    /// Contents of the file that is searched.
    buffer: Vec<u8>,
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
        let lines = match (&self.text, kind) {
            (None, _) => Vec::new(),
            (Some(_), Kind::File) => {
                if self.look_at_time()? == Next::Stop {
                    return Ok(Next::Stop);
                }
                if self.bytes >= self.bounds.bytes {
                    return Ok(self.stop(format!("the files have more than {} bytes", self.bounds.bytes)));
                }
                match self.contents(dir, name, entry) {
                    Some(lines) if !lines.is_empty() => lines,
                    _ => return Ok(Next::Continue),
                }
            }
            (Some(_), _) => return Ok(Next::Continue),
        };
        if self.found.matches.len() == self.limit {
            return Ok(self.stop(format!("there are more than {} results", self.limit)));
        }
        self.found.matches.push(Match { path: path.to_owned(), kind, lines });
        Ok(Next::Continue)
    }

    /// Returns the lines of a file that have the text; none for a file that is not searched.
    fn contents(&mut self, dir: &Dir, name: &str, entry: &DirEntry) -> Option<Vec<Line>> {
        if !self.read(dir, name, entry) {
            self.found.files_skipped += 1;
            return None;
        }
        self.found.files_read += 1;
        let text = self.text.as_ref()?;
        let (mut lines, mut at, mut number) = (Vec::new(), 0, 1);
        while lines.len() < MOST_LINES
            && let Some(matched) = text.find_at(&self.buffer, at)
        {
            let line_begin = self.buffer[..matched.start()].iter().rposition(|byte| *byte == b'\n');
            let line_begin = line_begin.map_or(0, |end| end + 1);
            let line_end = self.buffer[matched.end()..].iter().position(|byte| *byte == b'\n');
            let line_end = line_end.map_or(self.buffer.len(), |end| matched.end() + end);
            number += self.buffer[at..line_begin].iter().filter(|byte| **byte == b'\n').count() as u64;
            lines.push(Line { number, text: excerpt(&self.buffer[line_begin..line_end]) });
            (at, number) = (line_end + 1, number + 1);
            if at > self.buffer.len() {
                break;
            }
        }
        Some(lines)
    }

    /// Reads a file into the buffer. Returns false for one that is not searched.
    fn read(&mut self, dir: &Dir, name: &str, entry: &DirEntry) -> bool {
        let is_searched = |found: &cap_std::fs::Metadata| {
            found.is_file()
                && found.len() <= self.files.max_bytes
                && (found.nlink() == 1 || self.files.allow_hard_links)
        };
        let mut options = OpenOptions::new();
        options.read(true).follow(FollowSymlinks::No).nonblock(true);
        options.custom_flags(OFlags::NOCTTY.bits().cast_signed());
        if !entry.metadata().is_ok_and(|found| is_searched(&found)) {
            return false;
        }
        let Ok(file) = dir.open_with(name, &options) else { return false };
        if !file.metadata().is_ok_and(|found| is_searched(&found)) {
            return false;
        }
        self.buffer.clear();
        let read = file.take(self.files.max_bytes + 1).read_to_end(&mut self.buffer);
        self.bytes += self.buffer.len() as u64;
        let probe = &self.buffer[..self.buffer.len().min(BINARY_PROBE)];
        read.is_ok() && self.buffer.len() as u64 <= self.files.max_bytes && !probe.contains(&0)
    }
}

/// Returns a line as a result shows it: shortened, without control characters.
fn excerpt(line: &[u8]) -> String {
    let line = String::from_utf8_lossy(&line[..line.len().min(MOST_OF_LINE * 4)]);
    let plain = line.trim_end().chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c });
    let mut short: String = plain.clone().take(MOST_OF_LINE).collect();
    if plain.count() > MOST_OF_LINE {
        short.push('…');
    }
    short
}
