//! Standard input as lines, read by a thread of its own, which waits while nobody takes the lines.

use std::io::{BufRead, Read};

use bytes::Bytes;
use tokio::sync::mpsc;

/// The lines that are read ahead.
const AHEAD: usize = 8;

pub enum Input {
    /// A line without its end; never blank.
    Line(Bytes),
    /// A line over the cap, which was not kept.
    TooLong,
}

/// Starts to read lines of at most `cap` bytes. The receiver ends with the input.
pub fn start(cap: usize) -> mpsc::Receiver<Input> {
    let (lines, receiver) = mpsc::channel(AHEAD);
    // The thread may wait for input for ever, so nothing waits for the thread.
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

/// Returns the next line that is not blank; none at the end.
fn next(input: &mut impl BufRead, cap: usize) -> std::io::Result<Option<Input>> {
    loop {
        let mut line = Vec::new();
        input.take(cap as u64 + 1).read_until(b'\n', &mut line)?;
        if line.pop_if(|last| *last == b'\n').is_none() {
            if line.len() > cap {
                input.skip_until(b'\n')?;
                return Ok(Some(Input::TooLong));
            }
            if line.is_empty() {
                return Ok(None);
            }
        }
        if !line.trim_ascii().is_empty() {
            return Ok(Some(Input::Line(line.into())));
        }
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
