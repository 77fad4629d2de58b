//! Message split over several lines, which the transport forbids (MCP, "stdio": no newlines inside) but
//! pretty-printing servers send. The lines are joined, bounded in bytes and, by the reader, in time.

use crate::peer::message::{self, Message, Messages, Nesting};

/// The most bytes of a split message.
const MOST: usize = 1 << 20;

#[derive(Default)]
pub struct Split {
    text: Vec<u8>,
    nesting: Nesting,
}

impl Split {
    /// Begins a split message with an incomplete line; returns `None` for other lines.
    pub fn begin(line: &[u8], read: &Messages<'_>) -> Option<Split> {
        let unnamed = match read {
            Messages::One(Message::Noise) => true,
            Messages::One(Message::Unreadable { meant, .. }) => {
                matches!(meant, message::Meant::Unnamed { .. })
            }
            Messages::One(_) | Messages::Several(_) => false,
        };
        if !unnamed || !message::begins_message(line) {
            return None;
        }
        let mut split = Split::default();
        split.push(line);
        split.nesting.is_open().then_some(split)
    }

    /// Returns true if a line is a message of its own, so that the split one stays incomplete.
    pub fn is_left_by(line: &[u8], read: &Messages<'_>) -> bool {
        let whole = |message: &Message<'_>| match message {
            Message::Result { .. }
            | Message::Error { .. }
            | Message::Request { .. }
            | Message::Notification { .. } => true,
            Message::Unreadable { .. } => line.starts_with(br#"{"jsonrpc""#),
            Message::Noise => false,
        };
        match read {
            Messages::One(one) => whole(one),
            Messages::Several(several) => several.iter().any(whole),
        }
    }

    pub fn push(&mut self, line: &[u8]) {
        self.nesting.feed(line);
        self.nesting.feed(b"\n");
        self.text.extend_from_slice(line);
        self.text.push(b'\n');
    }

    /// Returns true if a piece would complete the message.
    pub fn would_end_with(&self, piece: &[u8]) -> bool {
        let mut nesting = self.nesting.clone();
        nesting.feed(piece);
        !nesting.is_open()
    }

    /// Returns true if complete or too long.
    pub fn is_over(&self) -> bool {
        !self.nesting.is_open() || self.text.len() > MOST
    }

    pub fn into_text(self) -> Vec<u8> {
        self.text
    }
}
