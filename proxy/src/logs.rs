//! Log buffer of one MCP server: stderr of its child, and notes of the gateway.

use std::collections::VecDeque;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;

/// One line of a server's log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LogLine {
    pub at: Timestamp,
    /// `stderr`, or `gateway` for the gateway's own notes.
    pub stream: &'static str,
    pub text: String,
}

/// Buffer bounded in lines and bytes; the oldest lines go first.
pub struct LogRing {
    kept: Mutex<Kept>,
    max_lines: usize,
    max_bytes: usize,
}

#[derive(Default)]
struct Kept {
    lines: VecDeque<LogLine>,
    bytes: usize,
}

/// The longest line kept, in bytes; the rest of a longer one is cut.
pub const LINE_BYTES: usize = 4096;

impl LogRing {
    pub fn new(max_lines: usize, max_bytes: usize) -> Self {
        Self { kept: Mutex::default(), max_lines, max_bytes }
    }

    /// Adds a line of the child's stderr, as arbitrary bytes.
    pub fn stderr(&self, line: &[u8]) {
        let line = &line[..line.len().min(LINE_BYTES)];
        let text = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
        if !text.is_empty() {
            self.push("stderr", text);
        }
    }

    /// Adds a note of the gateway.
    pub fn note(&self, text: impl Into<String>) {
        self.push("gateway", text.into());
    }

    fn push(&self, stream: &'static str, text: String) {
        let mut kept = self.kept.lock();
        kept.bytes += text.len();
        kept.lines.push_back(LogLine { at: Timestamp::now(), stream, text });
        while kept.lines.len() > self.max_lines || kept.bytes > self.max_bytes {
            let Some(oldest) = kept.lines.pop_front() else { break };
            kept.bytes -= oldest.text.len();
        }
    }

    /// Returns the newest lines, oldest first.
    pub fn newest(&self, limit: usize) -> Vec<LogLine> {
        let kept = self.kept.lock();
        let skipped = kept.lines.len().saturating_sub(limit);
        kept.lines.iter().skip(skipped).cloned().collect()
    }

    /// Returns the child's stderr since then, oldest first.
    pub fn stderr_since(&self, since: Timestamp) -> Vec<String> {
        let kept = self.kept.lock();
        let newest = kept.lines.iter().rev().take_while(|line| line.at >= since);
        let mut lines: Vec<String> =
            newest.filter(|line| line.stream == "stderr").map(|line| line.text.clone()).collect();
        lines.reverse();
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_in_lines_and_bytes() {
        let start = Timestamp::now();
        let ring = LogRing::new(3, 10);
        for line in ["aaaa\n", "bb", "", "cc", "dd\r\n"] {
            ring.stderr(line.as_bytes());
        }
        let texts: Vec<String> = ring.newest(10).into_iter().map(|line| line.text).collect();
        assert_eq!(texts, ["bb", "cc", "dd"]);
        ring.stderr(b"0123456\xff");
        assert_eq!(ring.newest(10).len(), 1);
        ring.note("seen");
        assert_eq!(ring.stderr_since(start), Vec::<String>::new());
    }
}
