//! Reads everything a child says and sends it where it belongs. It never waits for a caller, and a
//! child that only makes noise is read slowly, so that it harms nobody but itself.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::Refusal;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use super::ears::Ears;
use super::envelope;
use super::lines::{LineBuffer, LineTooLong};
use super::oddities::excerpt;
use super::pending::Reply;
use super::split::Split;
use super::wire::Wire;
use crate::child::ChildHandle;
use crate::message::{self, Meant, Message, Messages, Nesting};
use crate::upstream::{Failure, UpstreamAnswer};

/// After the child ended or closed its input, how long the rest of its output is waited for.
const LAST_WORDS: Duration = Duration::from_millis(250);
/// The pause after this many bytes without a single answer among them.
const NOISE_BYTES: usize = 64 << 10;
const NOISE_PAUSE: Duration = Duration::from_millis(5);
/// How long the end of a line, or of a message over several lines, is waited for before what is there is
/// looked at.
const QUIET: Duration = Duration::from_millis(200);

/// Why reading stopped.
#[derive(Debug)]
pub enum ReadEnd {
    /// The child closed its output, ended, or takes no more input.
    Over,
    LineTooLong,
    Failed(std::io::Error),
}

pub struct Reader {
    pub wire: Arc<Wire>,
    ears: Ears,
    replies: Vec<(u64, Reply)>,
    unclaimed: Vec<u64>,
    /// Whether answers were delivered before the end of what was read at once.
    answered: bool,
    /// A message whose first lines were read.
    split: Option<Split>,
    /// An answer that named no request, and the one that waited alone then.
    unnamed: Option<Unnamed>,
}

struct Unnamed {
    /// When the right answer is not waited for any longer.
    until: Instant,
    waiting: u64,
    refusal: Refusal,
}

impl Reader {
    pub fn new(wire: Arc<Wire>, ears: Ears) -> Self {
        Self {
            wire,
            ears,
            replies: Vec::new(),
            unclaimed: Vec::new(),
            answered: false,
            split: None,
            unnamed: None,
        }
    }

    /// Runs until nothing more is to be read.
    pub async fn run(&mut self, stdout: pipe::Receiver, handle: &ChildHandle, cap: usize) -> ReadEnd {
        let mut buffer = LineBuffer::new(cap);
        let end = self.read_lines(stdout, handle, &mut buffer).await;
        self.take_rest(&mut buffer);
        self.end_unnamed();
        end
    }

    async fn read_lines(
        &mut self,
        mut stdout: pipe::Receiver,
        handle: &ChildHandle,
        buffer: &mut LineBuffer,
    ) -> ReadEnd {
        let wire = self.wire.clone();
        let last_words = async {
            tokio::select! {
                _ = handle.ended() => {}
                () = wire.input_closed.cancelled() => {}
            }
            tokio::time::sleep(LAST_WORDS).await;
        };
        let mut last_words = std::pin::pin!(last_words);
        let (mut noise, mut looked) = (0, true);
        loop {
            let unfinished = !looked && (self.split.is_some() || !buffer.rest().is_empty());
            let quiet = unfinished.then(|| Instant::now() + QUIET);
            let until = self.unnamed.as_ref().map(|unnamed| unnamed.until);
            let due = quiet.into_iter().chain(until).min();
            let Ok(space) = buffer.space() else { return ReadEnd::LineTooLong };
            let read = tokio::select! {
                biased;
                read = stdout.read(space) => read,
                () = &mut last_words => return ReadEnd::Over,
                () = sleep_until(due), if due.is_some() => {
                    if due == quiet {
                        looked = true;
                        self.take_rest(buffer);
                    }
                    if due == until {
                        self.end_unnamed();
                    }
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

    /// Handles every whole line in the buffer; true if an answer was among them.
    fn take_lines(&mut self, buffer: &mut LineBuffer) -> Result<bool, LineTooLong> {
        let outcome = loop {
            match buffer.next_line() {
                Ok(Some(line)) => self.take_line(buffer, line),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let answered = std::mem::take(&mut self.answered) || !self.replies.is_empty();
        self.deliver();
        outcome.map(|()| answered)
    }

    fn take_line(&mut self, buffer: &mut LineBuffer, range: std::ops::Range<usize>) {
        let whole = buffer.bytes(range.clone());
        let line = message::trimmed(whole);
        if self.split.is_some() {
            return self.take_more(line);
        }
        // Where a part of the line lies in the buffer.
        let place = |part: &str| {
            let start = range.start + (part.as_ptr() as usize - whole.as_ptr() as usize);
            start..start + part.len()
        };
        match envelope::read(line) {
            Messages::One(Message::Result { id, result }) => {
                let place = place(result);
                let result = buffer.take(place);
                self.replies.push((id, Ok(UpstreamAnswer::Result(result))));
            }
            Messages::One(Message::Error { id, error: Cow::Borrowed(error) }) => {
                let place = place(error);
                let error = buffer.take(place);
                self.replies.push((id, Ok(UpstreamAnswer::Error(error))));
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

/// What is not one message in one line.
impl Reader {
    /// Takes a line after one that goes on.
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

    /// Reads what there is of a message over several lines.
    fn end_split(&mut self) {
        let Some(split) = self.split.take() else { return };
        let text = split.into_text();
        self.ears.oddities.note(|| format!("a message over several lines: {}", excerpt(&text)));
        message::read(&text).into_iter().for_each(|message| self.take_other(message, &text));
    }

    /// Looks at what has no line end, when nothing more comes: a message that is complete is taken, for
    /// one that is not the rest may still come.
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
                self.ears.oddities.note(|| format!("a line without its end: {}", excerpt(&text)));
                message::read(&text).into_iter().for_each(|message| self.take_other(message, &text));
            }
            None => {}
        }
        self.deliver();
    }
}

impl Reader {
    /// Everything that is not the usual answer.
    fn take_other(&mut self, message: Message<'_>, line: &[u8]) {
        match message {
            Message::Result { id, result } => {
                let result = UpstreamAnswer::Result(result.as_bytes().to_vec().into());
                self.replies.push((id, Ok(result)));
            }
            Message::Error { id, error } => {
                // One that is as it should be was taken before.
                self.ears.oddities.note(|| format!("an odd `error`: {}", excerpt(line)));
                self.replies.push((id, Ok(UpstreamAnswer::Error(error.into_owned().into()))));
            }
            Message::Request { id, method, params } => {
                self.deliver_first();
                self.ears.asked(id, &method, params);
            }
            Message::Notification { method, params } => {
                self.deliver_first();
                self.ears.told(&method, params);
            }
            Message::Unreadable { meant, fault, original } => self.take_unreadable(meant, &fault, &original),
            Message::Noise if line.is_empty() => {}
            Message::Noise => {
                self.ears
                    .oddities
                    .note(|| format!("a line on stdout that is not JSON-RPC: {}", excerpt(line)));
            }
        }
    }

    /// An answer that no client can read fails the requests that it was meant for. Where it names none,
    /// that is the only one that waits, unless its own answer comes soon.
    fn take_unreadable(&mut self, meant: Meant, fault: &str, original: &str) {
        self.ears.oddities.note(|| format!("{fault}: {}", excerpt(original.as_bytes())));
        let wire = self.wire.clone();
        let refusal = |shown: bool| message::unreadable(wire.who(), fault, shown.then_some(original));
        match meant {
            Meant::Ids(ids) => {
                // What is for several requests is shown to none.
                let refusal = refusal(ids.len() == 1);
                let failure = || Failure { refusal: refusal.clone(), sent: true };
                self.replies.extend(ids.into_iter().map(|id| (id, Err(failure()))));
            }
            Meant::Unnamed { about_notification: true } => {}
            Meant::Unnamed { about_notification: false } => {
                self.deliver_first();
                if let Some(only) = self.wire.only_waiting().filter(|_| self.unnamed.is_none()) {
                    let (until, waiting) = (Instant::now() + message::GRACE, only.id);
                    self.unnamed = Some(Unnamed { until, waiting, refusal: refusal(only.since_ever) });
                }
            }
        }
    }

    /// Fails the request that an answer without a name must have been for.
    fn end_unnamed(&mut self) {
        let Some(Unnamed { waiting, refusal, .. }) = self.unnamed.take() else { return };
        if self.wire.is_waiting(waiting) {
            self.replies.push((waiting, Err(Failure { refusal, sent: true })));
            self.deliver();
        }
    }

    /// Gives the answers that were read so far to those who wait, so that what follows is heard by those
    /// who wait still.
    fn deliver_first(&mut self) {
        if !self.replies.is_empty() {
            self.answered = true;
            self.deliver();
        }
    }

    fn deliver(&mut self) {
        self.wire.deliver(&mut self.replies, &mut self.unclaimed);
        for id in self.unclaimed.drain(..) {
            self.ears
                .oddities
                .note(|| format!("an answer under id {id}, for which nobody waits (late or repeated)"));
        }
    }
}
