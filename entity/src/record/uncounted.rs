//! Texts of finished calls that wait for the feeder to count their tokens: few and short, in memory only, as they
//! were sent.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::Durability;
use crate::tokens::Tokenizer;

/// Longest text whose tokens are counted, in bytes.
const COUNTED: usize = 4096;
/// Bytes that wait at the same time, which bounds the counting of one round to a few milliseconds.
const WAITING: usize = 64 << 10;
/// Bytes under `strict`, where calls wait for a round.
const WAITING_STRICT: usize = 8 << 10;

/// Bytes that may wait, and those that do.
pub(super) struct Room {
    most: usize,
    taken: AtomicUsize,
}

/// Arguments and result of one call.
pub(super) struct Texts {
    both: Box<[u8]>,
    argument_bytes: usize,
}

/// Exact numbers of tokens.
#[derive(Clone, Copy)]
pub(super) struct Tokens {
    pub arguments: u32,
    pub result: u32,
}

impl Room {
    pub fn new(durability: Durability) -> Self {
        let most = match durability {
            Durability::Process | Durability::Interval(_) => WAITING,
            Durability::Strict => WAITING_STRICT,
        };
        Self { most, taken: AtomicUsize::new(0) }
    }

    /// Copies the texts of a call if they are short, there is room, and something can count them.
    pub fn copy(&self, arguments: &[u8], result: &[u8]) -> Option<Texts> {
        let bytes = arguments.len() + result.len();
        if arguments.len() > COUNTED || result.len() > COUNTED || Tokenizer::if_loaded().is_none() {
            return None;
        }
        if self.taken.fetch_add(bytes, Ordering::Relaxed) + bytes > self.most {
            self.taken.fetch_sub(bytes, Ordering::Relaxed);
            return None;
        }
        let mut both = Vec::with_capacity(bytes);
        both.extend_from_slice(arguments);
        both.extend_from_slice(result);
        Some(Texts { both: both.into(), argument_bytes: arguments.len() })
    }

    /// Counts the tokens of texts, which takes them out of the room.
    pub fn count(&self, texts: &Texts) -> Option<Tokens> {
        self.taken.fetch_sub(texts.both.len(), Ordering::Relaxed);
        let tokenizer = Tokenizer::if_loaded()?;
        let count = |text: &[u8]| tokenizer.count(std::str::from_utf8(text).ok()?);
        let (arguments, result) = texts.both.split_at(texts.argument_bytes);
        Some(Tokens { arguments: count(arguments)?, result: count(result)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_short_texts_wait() {
        Tokenizer::load().unwrap();
        let room = Room::new(Durability::Process);
        assert!(room.copy(&[b'x'; 4097], b"").is_none() && room.copy(b"", &[b'x'; 4097]).is_none());
        let text = "Hello, world!".as_bytes();
        let texts = room.copy(text, b"{}").unwrap();
        let tokens = room.count(&texts).unwrap();
        assert_eq!((tokens.arguments, tokens.result), (4, 1));
        let waiting: Vec<Texts> = std::iter::from_fn(|| room.copy(&[b'x'; 4096], &[b'y'; 4096])).collect();
        assert_eq!(waiting.len(), 8, "64 KiB wait");
        assert!(room.copy(b"x", b"").is_none());
        assert!(room.count(&waiting[0]).is_some() && room.copy(b"x", b"").is_some());
        let strict = Room::new(Durability::Strict);
        assert!(strict.copy(&[b'x'; 4096], &[b'y'; 4096]).is_some() && strict.copy(b"x", b"").is_none());
        let broken = room.copy(b"\xff", b"").unwrap();
        assert!(room.count(&broken).is_none(), "no text");
    }
}
