//! Contents of a search: lines of regular text files that have a text.

use std::io::Read;

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt, OpenOptionsSyncExt};
use cap_std::fs::{Dir, DirEntry, Metadata, MetadataExt, OpenOptions, OpenOptionsExt};
use regex::bytes::{Regex, RegexBuilder};
use rustix::fs::OFlags;
use schemars::JsonSchema;
use serde::Serialize;

use super::Files;

/// Lines of one file that a result shows.
const MOST_LINES: usize = 10;

/// Characters of a line that a result shows.
const MOST_OF_LINE: usize = 200;

/// First bytes of a file among which a NUL says that it is no text.
const BINARY_PROBE: usize = 8000;

/// A line that has the text.
#[derive(Serialize, JsonSchema)]
pub struct Line {
    /// Number of the line, counted from 1.
    pub number: u64,
    pub text: String,
}

/// A text that is searched for, and the file that is searched.
pub struct Text<'a> {
    files: &'a Files,
    regex: Regex,
    contents: Vec<u8>,
    /// Bytes of all files that were read.
    pub bytes: u64,
}

impl<'a> Text<'a> {
    /// # Errors
    /// The sentence that follows "the text … is refused:".
    pub fn new(files: &'a Files, text: &str, ignore_case: bool) -> Result<Self, String> {
        if text.contains(|c: char| c.is_control() && c != '\t') {
            return Err("it has a control character or several lines".to_owned());
        }
        let regex = RegexBuilder::new(&regex::escape(text)).case_insensitive(ignore_case).build();
        let regex = regex.map_err(|_| "it is too large".to_owned())?;
        Ok(Self { files, regex, contents: Vec::new(), bytes: 0 })
    }

    /// Returns the first lines of a file that have the text; none for a file that is not searched.
    pub fn lines(&mut self, dir: &Dir, name: &str, entry: &DirEntry) -> Option<Vec<Line>> {
        if !self.read(dir, name, entry) {
            return None;
        }
        let contents = self.contents.as_slice();
        let is_end = |byte: &u8| *byte == b'\n';
        let (mut lines, mut at, mut number) = (Vec::new(), 0, 1);
        while lines.len() < MOST_LINES
            && at <= contents.len()
            && let Some(found) = self.regex.find_at(contents, at)
        {
            let begin = contents[at..found.start()].iter().rposition(is_end).map_or(at, |end| at + end + 1);
            let end = contents[found.end()..].iter().position(is_end);
            let end = end.map_or(contents.len(), |end| found.end() + end);
            number += contents[at..begin].iter().filter(|byte| is_end(byte)).count() as u64;
            lines.push(Line { number, text: excerpt(&contents[begin..end]) });
            (at, number) = (end + 1, number + 1);
        }
        Some(lines)
    }

    /// Reads a file. Returns false for one that is not searched.
    fn read(&mut self, dir: &Dir, name: &str, entry: &DirEntry) -> bool {
        let Files { max_bytes, allow_hard_links, .. } = *self.files;
        let is_searched = |found: &Metadata| {
            found.is_file() && found.len() <= max_bytes && (found.nlink() == 1 || allow_hard_links)
        };
        if !entry.metadata().is_ok_and(|found| is_searched(&found)) {
            return false;
        }
        let mut options = OpenOptions::new();
        options.read(true).follow(FollowSymlinks::No).nonblock(true);
        options.custom_flags(OFlags::NOCTTY.bits().cast_signed());
        let Ok(file) = dir.open_with(name, &options) else { return false };
        if !file.metadata().is_ok_and(|found| is_searched(&found)) {
            return false;
        }
        self.contents.clear();
        let read = file.take(max_bytes + 1).read_to_end(&mut self.contents);
        self.bytes += self.contents.len() as u64;
        let probe = &self.contents[..self.contents.len().min(BINARY_PROBE)];
        read.is_ok() && self.contents.len() as u64 <= max_bytes && !probe.contains(&0)
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
