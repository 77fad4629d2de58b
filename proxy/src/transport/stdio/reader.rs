//! Reader of a child's standard output. The reader waits for no caller, and slows down for a child that sends
//! no answers.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use super::connection::StdioConnection;
use super::envelope;
use super::lines::{LineBuffer, LineTooLong};
use super::outbox::PipeOutbox;
use super::split::Split;
use crate::peer::duplex::Incoming;
use crate::peer::message::{self, Message, Messages, Nesting, excerpt};
use crate::upstream::UpstreamAnswer;

/// Time for the rest of the output, after the child ended or closed its input.
const OUTPUT_REST: Duration = Duration::from_millis(250);
/// The number of bytes without an answer that causes a pause.
const NOISE_BYTES: usize = 64 << 10;
const NOISE_PAUSE: Duration = Duration::from_millis(5);
/// Time for the end of a line, or of a message over several lines, before an incomplete one is examined.
const QUIET: Duration = Duration::from_millis(200);

/// Reason for the end of reading.
#[derive(Debug)]
pub enum ReadEnd {
    /// The child closed its output, ended, or takes no more input.
    Over,
    LineTooLong,
    Failed(std::io::Error),
}

pub struct Reader {
    incoming: Incoming<PipeOutbox>,
    /// A message whose first lines were read.
    split: Option<Split>,
}

impl Reader {
    pub fn new(connection: Arc<StdioConnection>) -> Self {
        Self { incoming: Incoming::new(connection), split: None }
    }

    /// Reads until the end of the output.
    pub async fn run(&mut self, stdout: pipe::Receiver, cap: usize) -> ReadEnd {
        let mut buffer = LineBuffer::new(cap);
        let end = self.read_lines(stdout, &mut buffer).await;
        self.take_rest(&mut buffer);
        self.incoming.end();
        end
    }

    async fn read_lines(&mut self, mut stdout: pipe::Receiver, buffer: &mut LineBuffer) -> ReadEnd {
        let connection = self.incoming.connection.clone();
        let input_closed = connection.shared.lock().outbox.input_closed.clone();
        let output_rest = async {
            tokio::select! {
                _ = connection.process.handle.ended() => {}
                () = input_closed.cancelled() => {}
            }
            tokio::time::sleep(OUTPUT_REST).await;
        };
        let mut output_rest = std::pin::pin!(output_rest);
        let (mut noise, mut looked) = (0, true);
        loop {
            let unfinished = !looked && (self.split.is_some() || !buffer.rest().is_empty());
            let quiet = unfinished.then(|| Instant::now() + QUIET);
            let Ok(space) = buffer.space() else { return ReadEnd::LineTooLong };
            let read = tokio::select! {
                biased;
                read = stdout.read(space) => read,
                () = &mut output_rest => return ReadEnd::Over,
                () = sleep_until(quiet), if quiet.is_some() => {
                    looked = true;
                    self.take_rest(buffer);
                    continue;
                }
            };
            looked = false;
            match read {
                Ok(0) => return ReadEnd::Over,
                Ok(read) => {
                    buffer.filled(read);
                    noise += read;
                }
                Err(error) => return ReadEnd::Failed(error),
            }
            match self.take_lines(buffer) {
                Ok(true) => noise = 0,
                Ok(false) => {}
                Err(LineTooLong) => return ReadEnd::LineTooLong,
            }
            if noise >= NOISE_BYTES {
                noise = 0;
                tokio::time::sleep(NOISE_PAUSE).await;
            }
        }
    }

    /// Handles every whole line in the buffer; returns true if answers were among them.
    fn take_lines(&mut self, buffer: &mut LineBuffer) -> Result<bool, LineTooLong> {
        let outcome = loop {
            match buffer.next_line() {
                Ok(Some(line)) => self.take_line(buffer, line),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let answered = self.incoming.deliver();
        outcome.map(|()| answered)
    }

    fn take_line(&mut self, buffer: &mut LineBuffer, range: std::ops::Range<usize>) {
        let whole = buffer.bytes(range.clone());
        let line = message::trimmed(whole);
        if self.split.is_some() {
            return self.take_more(line);
        }
        // Position of a part of the line in the buffer.
        let place = |part: &str| {
            let start = range.start + (part.as_ptr() as usize - whole.as_ptr() as usize);
            start..start + part.len()
        };
        match envelope::read(line) {
            Messages::One(Message::Result { id, result }) => {
                let place = place(result);
                let result = buffer.take(place);
                self.incoming.replies.push((id, Ok(UpstreamAnswer::Result(result))));
            }
            Messages::One(Message::Error { id, error: Cow::Borrowed(error) }) => {
                let place = place(error);
                let error = buffer.take(place);
                self.incoming.replies.push((id, Ok(UpstreamAnswer::Error(error))));
            }
            others => {
                self.split = Split::begin(line, &others);
                if self.split.is_none() {
                    others.into_iter().for_each(|message| self.take_other(message, line));
                }
            }
        }
    }
}

/// Waits until then; for ever without a time.
async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// Handling of lines other than single messages.
impl Reader {
    /// Takes a line after an incomplete one.
    fn take_more(&mut self, line: &[u8]) {
        let read = envelope::read(line);
        if Split::is_left_by(line, &read) {
            self.end_split();
            return read.into_iter().for_each(|message| self.take_other(message, line));
        }
        if let Some(split) = &mut self.split {
            split.push(line);
            if split.is_over() {
                self.end_split();
            }
        }
    }

    /// Reads the lines so far of a split message.
    fn end_split(&mut self) {
        let Some(split) = self.split.take() else { return };
        let text = split.into_text();
        self.incoming.violation(|| format!("a message over several lines: {}", excerpt(&text)));
        message::read(&text).into_iter().for_each(|message| self.take_other(message, &text));
    }

    /// Examines bytes without a line end after a pause: takes a complete message, and leaves an incomplete
    /// one in the buffer.
    fn take_rest(&mut self, buffer: &mut LineBuffer) {
        let rest = message::trimmed(buffer.rest());
        match &mut self.split {
            Some(split) => {
                if split.would_end_with(rest) {
                    split.push(rest);
                    buffer.take_rest();
                }
                self.end_split();
            }
            None if message::begins_message(rest) && !Nesting::of(rest).is_open() => {
                let text = buffer.take_rest();
                self.incoming.violation(|| format!("a line without its end: {}", excerpt(&text)));
                message::read(&text).into_iter().for_each(|message| self.take_other(message, &text));
            }
            None => {}
        }
        self.incoming.deliver();
    }
}

impl Reader {
    /// Takes any message but the usual answer.
    fn take_other(&mut self, message: Message<'_>, line: &[u8]) {
        self.incoming.take_message(message, line, &|part| Bytes::copy_from_slice(part.as_bytes()));
    }
}
