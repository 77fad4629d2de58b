//! Line buffer for a child's output. A line over the cap is an error, which bounds memory.

use std::ops::Range;

use bytes::Bytes;

/// Initial size in bytes. Small messages use only the first pages.
const CAPACITY: usize = 256 << 10;

/// A buffer that is filled at its end and emptied from its start.
pub struct LineBuffer {
    data: Vec<u8>,
    /// Start of the unread bytes.
    start: usize,
    /// Start of the free bytes.
    end: usize,
    /// End of the bytes that were searched for a line end.
    searched: usize,
    cap: usize,
}

/// Error for a line longer than the cap.
#[derive(Debug, PartialEq, Eq)]
pub struct LineTooLong;

impl LineBuffer {
    pub fn new(cap: usize) -> Self {
        Self { data: vec![0; CAPACITY], start: 0, end: 0, searched: 0, cap }
    }

    /// Returns space to read into, never empty.
    pub fn space(&mut self) -> Result<&mut [u8], LineTooLong> {
        if self.start == self.end {
            self.reset();
        } else if self.end == self.data.len() {
            self.make_room()?;
        }
        Ok(&mut self.data[self.end..])
    }

    /// Counts bytes that were read into the space.
    pub fn filled(&mut self, bytes: usize) {
        self.end += bytes;
    }

    /// Returns the next whole line without its end, as a range for [`LineBuffer::bytes`].
    pub fn next_line(&mut self) -> Result<Option<Range<usize>>, LineTooLong> {
        let Some(offset) = memchr::memchr(b'\n', &self.data[self.searched..self.end]) else {
            self.searched = self.end;
            return if self.end - self.start > self.cap { Err(LineTooLong) } else { Ok(None) };
        };
        let (from, to) = (self.start, self.searched + offset);
        self.start = to + 1;
        self.searched = self.start;
        if to - from > self.cap { Err(LineTooLong) } else { Ok(Some(from..to)) }
    }

    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.data[range]
    }

    /// Takes a part of the line that was found last. A small part is copied, so that the whole buffer is not
    /// kept alive; a large part takes the buffer with it.
    pub fn take(&mut self, range: Range<usize>) -> Bytes {
        if range.len() < self.data.len() / 2 {
            return Bytes::copy_from_slice(&self.data[range]);
        }
        let rest = self.end - self.start;
        let mut fresh = vec![0; CAPACITY.max(rest + 1)];
        fresh[..rest].copy_from_slice(&self.data[self.start..self.end]);
        let mut taken = std::mem::replace(&mut self.data, fresh);
        (self.start, self.end, self.searched) = (0, rest, 0);
        taken.truncate(range.end);
        Bytes::from(taken).slice(range)
    }

    /// Returns the bytes after the last whole line.
    pub fn rest(&self) -> &[u8] {
        &self.data[self.start..self.end]
    }

    /// Takes the bytes after the last whole line.
    pub fn take_rest(&mut self) -> Vec<u8> {
        let rest = self.rest().to_vec();
        (self.start, self.searched) = (self.end, self.end);
        rest
    }

    fn reset(&mut self) {
        (self.start, self.end, self.searched) = (0, 0, 0);
        if self.data.len() > CAPACITY {
            self.data = vec![0; CAPACITY];
        }
    }

    fn make_room(&mut self) -> Result<(), LineTooLong> {
        let held = self.end - self.start;
        if held > self.cap {
            return Err(LineTooLong);
        }
        if self.start > 0 && held <= self.data.len() / 2 {
            self.data.copy_within(self.start..self.end, 0);
        } else {
            let room = (self.data.len() * 2).min(self.cap + CAPACITY).max(held + 1);
            let mut larger = vec![0; room];
            larger[..held].copy_from_slice(&self.data[self.start..self.end]);
            self.data = larger;
        }
        self.searched -= self.start;
        (self.start, self.end) = (0, held);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the lines of an input fed in pieces of this size.
    fn lines(input: &[u8], piece: usize, cap: usize, take: bool) -> Result<Vec<Vec<u8>>, LineTooLong> {
        let mut buffer = LineBuffer::new(cap);
        let mut found = Vec::new();
        for part in input.chunks(piece) {
            let mut part = part;
            while !part.is_empty() {
                let space = buffer.space()?;
                let n = part.len().min(space.len());
                space[..n].copy_from_slice(&part[..n]);
                buffer.filled(n);
                part = &part[n..];
                while let Some(range) = buffer.next_line()? {
                    let line = if take { buffer.take(range).to_vec() } else { buffer.bytes(range).to_vec() };
                    found.push(line);
                }
            }
        }
        Ok(found)
    }

    #[test]
    fn every_line_comes_out_whole() {
        let mut input = Vec::new();
        let mut expected = Vec::new();
        for size in [0, 1, 70_000, 300_000, 5, 1_000_000, 255 << 10, 2, 140_000] {
            let line = vec![b'a' + (size % 20) as u8; size];
            input.extend_from_slice(&line);
            input.push(b'\n');
            expected.push(line);
        }
        for piece in [1000, 65_536, 1 << 20, usize::MAX] {
            for take in [false, true] {
                assert_eq!(lines(&input, piece, 2 << 20, take).unwrap(), expected);
            }
        }
    }

    #[test]
    fn a_line_over_the_cap_is_an_error_and_not_memory() {
        let flood = vec![b'x'; 4 << 20];
        assert_eq!(lines(&flood, 65_536, 1 << 20, false), Err(LineTooLong));
        let mut ended = vec![b'x'; 1001];
        ended.push(b'\n');
        assert_eq!(lines(&ended, usize::MAX, 1000, false), Err(LineTooLong));
    }
}
