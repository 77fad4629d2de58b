//! Standard input as lines. A thread of its own reads it, and stands still while nobody takes its lines.

use std::io::BufRead;

use bytes::Bytes;
use tokio::sync::mpsc;

/// Lines that are read ahead.
const AHEAD: usize = 8;

pub enum Input {
    /// A line without its end; never blank.
    Line(Bytes),
    /// A line over the cap, which was not kept.
    TooLong,
}

/// Starts to read. The receiver ends with the input.
pub fn start(cap: usize) -> mpsc::Receiver<Input> {
    let (lines, receiver) = mpsc::channel(AHEAD);
    // It may wait for input for ever, so nothing waits for it.
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            let mut input = std::io::stdin().lock();
            while let Ok(Some(line)) = next(&mut input, cap) {
                if lines.blocking_send(line).is_err() {
                    return;
                }
            }
        })
        .expect("the system starts a thread");
    receiver
}

/// The next line that is not blank; none at the end.
fn next(input: &mut impl BufRead, cap: usize) -> std::io::Result<Option<Input>> {
    let mut line = Vec::new();
    let mut too_long = false;
    loop {
        let piece = match input.fill_buf() {
            Ok(piece) => piece,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = memchr::memchr(b'\n', piece);
        let taken = &piece[..end.unwrap_or(piece.len())];
        if line.len() + taken.len() > cap {
            too_long = true;
            line = Vec::new();
        }
        if !too_long {
            line.extend_from_slice(taken);
        }
        let (used, at_end) = (taken.len() + usize::from(end.is_some()), piece.is_empty());
        input.consume(used);
        if end.is_none() && !at_end {
            continue;
        }
        if too_long {
            return Ok(Some(Input::TooLong));
        }
        if !line.trim_ascii().is_empty() {
            return Ok(Some(Input::Line(line.into())));
        }
        if at_end {
            return Ok(None);
        }
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_any_length() {
        let mut input =
            std::io::BufReader::with_capacity(3, &b"one\n\n \r\ntoo long a line\ntwo\r\nlast"[..]);
        let mut read = || match next(&mut input, 5).unwrap() {
            Some(Input::Line(line)) => String::from_utf8_lossy(&line).into_owned(),
            Some(Input::TooLong) => "too long".to_owned(),
            None => "end".to_owned(),
        };
        let found: Vec<String> = std::iter::repeat_with(&mut read).take(5).collect();
        assert_eq!(found, ["one", "too long", "two\r", "last", "end"]);
    }
}
