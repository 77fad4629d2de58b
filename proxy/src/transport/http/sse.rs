//! Server-sent events, read and written, by the rules of the WHATWG: `HTML`, section 9.2. The reader takes
//! pieces of any size and is bounded; what is in an event is not known here.
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html>

use std::time::Duration;

/// The longest id that is kept; it has to fit into a header.
const ID_CAP: usize = 1024;
const BOM: &[u8] = b"\xef\xbb\xbf";

/// One event as it came.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Event {
    /// Its type; empty for the usual one, `message`.
    pub event: String,
    pub data: String,
}

impl Event {
    /// Returns true if an event has the type that carries messages.
    pub fn is_message(&self) -> bool {
        self.event.is_empty() || self.event == "message"
    }
}

/// An event, or a line, is larger than allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("an event of more than {cap} bytes")]
pub struct TooLarge {
    pub cap: usize,
}

/// Reads a stream piece by piece.
#[derive(Debug)]
pub struct Parser {
    cap: usize,
    /// The line that is not yet at its end.
    line: Vec<u8>,
    /// The last piece ended in CR: an LF at the start of the next one belongs to it.
    after_cr: bool,
    first_line: bool,
    data: String,
    event: String,
    /// The last id that was read, in an event that may not be complete.
    id: String,
    last_event_id: String,
    retry: Option<Duration>,
}

impl Parser {
    /// `cap`: the most bytes of one event.
    pub fn new(cap: usize) -> Self {
        Self {
            cap,
            line: Vec::new(),
            after_cr: false,
            first_line: true,
            data: String::new(),
            event: String::new(),
            id: String::new(),
            last_event_id: String::new(),
            retry: None,
        }
    }

    /// The id of the last complete event that had one; a stream goes on behind it.
    pub fn last_event_id(&self) -> Option<&str> {
        (!self.last_event_id.is_empty()).then_some(&self.last_event_id)
    }

    /// The server's wait before a reconnect.
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// Takes the next piece and appends the events that are complete. After an error nothing more is to
    /// be read.
    pub fn feed(&mut self, piece: &[u8], events: &mut Vec<Event>) -> Result<(), TooLarge> {
        let mut rest = piece;
        if std::mem::take(&mut self.after_cr) {
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            self.after_cr = piece.is_empty();
        }
        while let Some(at) = memchr::memchr2(b'\r', b'\n', rest) {
            self.extend(&rest[..at])?;
            let (end, after) = (rest[at], &rest[at + 1..]);
            rest = after;
            if end == b'\r' {
                self.after_cr = after.is_empty();
                rest = after.strip_prefix(b"\n").unwrap_or(after);
            }
            self.end_line(events)?;
        }
        self.extend(rest)
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), TooLarge> {
        if self.line.len() + bytes.len() + self.data.len() > self.cap {
            return Err(TooLarge { cap: self.cap });
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self, events: &mut Vec<Event>) -> Result<(), TooLarge> {
        let line = std::mem::take(&mut self.line);
        let mut bytes = &line[..];
        if std::mem::take(&mut self.first_line) {
            bytes = bytes.strip_prefix(BOM).unwrap_or(bytes);
        }
        if bytes.is_empty() {
            self.dispatch(events);
        } else {
            self.field(&String::from_utf8_lossy(bytes));
        }
        // Replacement characters may have made it longer.
        if self.data.len() > self.cap {
            return Err(TooLarge { cap: self.cap });
        }
        self.line = line;
        self.line.clear();
        Ok(())
    }

    fn field(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "event" => value.clone_into(&mut self.event),
            "id" if !value.contains('\0') && value.len() <= ID_CAP => value.clone_into(&mut self.id),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.retry = value.parse().ok().map(Duration::from_millis).or(self.retry);
            }
            // A comment, or a field that is to be ignored.
            _ => {}
        }
    }

    fn dispatch(&mut self, events: &mut Vec<Event>) {
        self.last_event_id.clone_from(&self.id);
        let event = std::mem::take(&mut self.event);
        let mut data = std::mem::take(&mut self.data);
        // One line end stands behind each line of data; without any there was no data at all.
        if data.pop().is_some() {
            events.push(Event { event, data });
        }
    }
}

/// An event to be written. What would end a line in `event` and `id` is left out.
#[derive(Clone, Copy, Default, Debug)]
pub struct Outgoing<'a> {
    pub event: Option<&'a str>,
    pub id: Option<&'a str>,
    pub retry: Option<Duration>,
    /// Text of any number of lines; none for an event without data, which no client dispatches.
    pub data: Option<&'a str>,
}

/// Appends an event.
pub fn write(out: &mut Vec<u8>, event: &Outgoing<'_>) {
    if let Some(name) = event.event {
        line(out, "event: ", name);
    }
    if let Some(id) = event.id {
        line(out, "id: ", id);
    }
    if let Some(retry) = event.retry {
        line(out, "retry: ", &retry.as_millis().to_string());
    }
    if let Some(mut rest) = event.data {
        loop {
            let end = rest.find(['\r', '\n']).unwrap_or(rest.len());
            line(out, "data: ", &rest[..end]);
            let Some(after) = rest.get(end..).filter(|after| !after.is_empty()) else { break };
            rest = after.strip_prefix("\r\n").unwrap_or(&after[1..]);
        }
    }
    out.push(b'\n');
}

/// Appends a comment, which keeps a connection open and means nothing.
pub fn comment(out: &mut Vec<u8>, text: &str) {
    line(out, ": ", text);
    out.push(b'\n');
}

fn line(out: &mut Vec<u8>, head: &str, value: &str) {
    out.extend_from_slice(head.as_bytes());
    out.extend(value.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n' | b'\0')));
    out.push(b'\n');
}

#[cfg(test)]
#[path = "sse_tests.rs"]
mod tests;
