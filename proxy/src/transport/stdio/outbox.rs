//! Outgoing message queue of a child. One buffer holds all messages, so that concurrent callers cost one
//! write, which takes the whole buffer.

use std::future::Future;
use std::sync::Arc;

use memchr::memchr2;
use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;

use super::connection::ChildEnd;
use crate::child::Needed;
use crate::peer::duplex::outbox::OutboxFull;
use crate::peer::duplex::{DuplexConnection, Outbox};
use crate::upstream::{Params, UpstreamAnswer};

/// Capacity in bytes above which a buffer is freed.
const KEPT: usize = 256 << 10;

pub struct PipeOutbox {
    queue: Vec<u8>,
    /// Empty buffer for new messages while the other one is being written.
    spare: Vec<u8>,
    /// Bytes that a full pipe did not take.
    left_over: Vec<u8>,
    /// True while a writer writes, which looks for more at its end.
    writing: bool,
    /// Bytes that were ever queued.
    queued: u64,
    /// Bytes that the pipe has taken.
    written: u64,
    cap: usize,
    /// Number of requests in flight up to which the caller writes. Above it a task writes, which first lets
    /// concurrent callers queue their messages.
    direct_up_to: usize,
    /// Cancelled when the child takes no more input.
    pub input_closed: CancellationToken,
    pipe: Option<Arc<pipe::Sender>>,
    /// The value of `is_read` when the pipe was closed.
    was_read: bool,
}

impl PipeOutbox {
    /// Creates a queue of at most `cap` bytes, or one larger message.
    pub fn new(pipe: pipe::Sender, cap: usize, direct_up_to: usize) -> Self {
        Self {
            queue: Vec::new(),
            spare: Vec::new(),
            left_over: Vec::new(),
            writing: false,
            queued: 0,
            written: 0,
            cap,
            direct_up_to,
            input_closed: CancellationToken::new(),
            pipe: Some(Arc::new(pipe)),
            was_read: false,
        }
    }

    /// Returns true if the child has read everything, or had when its input was closed.
    pub fn is_read(&self) -> bool {
        let unread = |pipe: &Arc<pipe::Sender>| rustix::io::ioctl_fionread(&**pipe).unwrap_or(1);
        self.pipe.as_ref().map_or(self.was_read, |pipe| self.waiting() == 0 && unread(pipe) == 0)
    }

    fn push_rest(&mut self, method: &str, params: Params<'_>, before: usize) {
        self.queue.extend_from_slice(br#","method":"#);
        push_text(&mut self.queue, method);
        if !params.is_empty() {
            self.queue.extend_from_slice(br#","params":"#);
            for slice in params.slices() {
                push_on_one_line(&mut self.queue, slice);
            }
        }
        self.queue.extend_from_slice(b"}\n");
        self.queued += (self.queue.len() - before) as u64;
    }

    /// Takes the bytes reserved or left over.
    pub fn take_reserved(&mut self) -> Option<(Vec<u8>, Arc<pipe::Sender>)> {
        let pipe = self.pipe.clone().filter(|_| self.writing)?;
        if !self.left_over.is_empty() {
            return Some((std::mem::take(&mut self.left_over), pipe));
        }
        Some((std::mem::replace(&mut self.queue, std::mem::take(&mut self.spare)), pipe))
    }

    /// Stores the bytes that did not fit the pipe, for the writer task.
    pub fn leave_over(&mut self, rest: Vec<u8>) {
        self.left_over = rest;
    }

    /// Takes back a written buffer, and returns the next one if messages came meanwhile.
    pub fn next(&mut self, mut done: Vec<u8>) -> Option<Vec<u8>> {
        done.clear();
        if done.capacity() <= KEPT {
            self.spare = done;
        }
        if self.queue.is_empty() || self.pipe.is_none() {
            self.writing = false;
            return None;
        }
        Some(std::mem::replace(&mut self.queue, std::mem::take(&mut self.spare)))
    }

    /// Counts bytes that the pipe has taken.
    pub fn advance(&mut self, bytes: usize) {
        self.written += bytes as u64;
    }
}

impl Outbox for PipeOutbox {
    type Claimed = (Vec<u8>, Arc<pipe::Sender>);
    type Process = ChildEnd;

    fn position(&self) -> u64 {
        self.queued
    }

    fn written(&self) -> u64 {
        self.written
    }

    fn admit(&self, bytes: usize) -> Result<(), OutboxFull> {
        let waiting = self.waiting();
        if waiting > 0 && waiting + bytes > self.cap { Err(OutboxFull) } else { Ok(()) }
    }

    fn push_request(&mut self, id: u64, method: &str, params: Params<'_>) {
        let before = self.queue.len();
        self.queue.reserve(method.len() + params.len() + 80);
        self.queue.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
        push_number(&mut self.queue, id);
        self.push_rest(method, params, before);
    }

    fn push_notification(&mut self, method: &str, params: Params<'_>) {
        let before = self.queue.len();
        self.queue.extend_from_slice(br#"{"jsonrpc":"2.0""#);
        self.push_rest(method, params, before);
    }

    fn push_answer(&mut self, id: &str, answer: &UpstreamAnswer) {
        let (member, json) = match answer {
            UpstreamAnswer::Result(json) => ("result", json),
            UpstreamAnswer::Error(json) => ("error", json),
        };
        let before = self.queue.len();
        self.queue.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
        push_on_one_line(&mut self.queue, id.as_bytes());
        self.queue.extend_from_slice(b",\"");
        self.queue.extend_from_slice(member.as_bytes());
        self.queue.extend_from_slice(b"\":");
        push_on_one_line(&mut self.queue, json);
        self.queue.extend_from_slice(b"}\n");
        self.queued += (self.queue.len() - before) as u64;
    }

    fn claim(&mut self, in_flight: usize) -> Option<Self::Claimed> {
        if in_flight > self.direct_up_to || !self.reserve() {
            return None;
        }
        self.take_reserved()
    }

    fn write_now(connection: &DuplexConnection<Self>, (bytes, pipe): Self::Claimed) {
        connection.write_without_waiting(bytes, &pipe);
    }

    fn reserve(&mut self) -> bool {
        let wanted = !self.writing && !self.queue.is_empty() && self.pipe.is_some();
        self.writing |= wanted;
        wanted
    }

    fn close(&mut self) {
        // The child sees the end of its input once no writer holds the pipe.
        self.was_read = self.is_read();
        self.pipe = None;
        self.queue = Vec::new();
        self.left_over = Vec::new();
    }

    fn stop(process: &ChildEnd) -> impl Future<Output = Needed> + Send {
        process.stop()
    }
}

/// Appends JSON without line ends, which are white space there and would split the message.
fn push_on_one_line(out: &mut Vec<u8>, json: &[u8]) {
    let start = out.len();
    out.extend_from_slice(json);
    if memchr2(b'\n', b'\r', json).is_some() {
        for byte in &mut out[start..] {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    let plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if text.as_bytes().iter().all(plain) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        out.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
    }
}

fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_are_lines() {
        let (sender, _receiver) = pipe::pipe().unwrap();
        let mut outbox = PipeOutbox::new(sender, 100, 0);
        outbox.push_request(120, "tools/call", Params::spliced(b"{\n\"name\":\"", b"a", b"\"\r\n}"));
        outbox.push_notification("a\"b", Params::none());
        outbox.push_answer("\"x\"", &UpstreamAnswer::Result(b"{\n}".as_slice().into()));
        let (taken, _) = outbox.claim(0).unwrap();
        assert_eq!(
            String::from_utf8(taken.clone()).unwrap(),
            concat!(
                "{\"jsonrpc\":\"2.0\",\"id\":120,\"method\":\"tools/call\",\"params\":{ \"name\":\"a\"  }}\n",
                "{\"jsonrpc\":\"2.0\",\"method\":\"a\\\"b\"}\n",
                "{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"result\":{ }}\n",
            )
        );
        assert!(outbox.claim(0).is_none());
        assert_eq!(outbox.admit(1000), Err(OutboxFull));
        outbox.advance(taken.len());
        assert_eq!(outbox.admit(1000), Ok(()));
        assert!(outbox.next(taken).is_none());
    }
}
