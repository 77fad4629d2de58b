//! Fast parser for the usual answer of a stdio server, in front of the full parser `message`.

use serde_json::value::RawValue;

use crate::peer::message::{self, Message, Messages};

/// Reads one line.
pub fn read(line: &[u8]) -> Messages<'_> {
    match usual_answer(line) {
        Some((id, result)) => Messages::One(Message::Result { id, result }),
        None => message::read(line),
    }
}

/// Reads `{"jsonrpc":"2.0","id":N,"result":R}`, the form of almost every line, and parses only R.
fn usual_answer(line: &[u8]) -> Option<(u64, &str)> {
    let rest = line.strip_prefix(br#"{"jsonrpc":"2.0","id":"#)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    // 18 digits cannot overflow, and ids of the gateway are shorter.
    let padded = digits > 1 && rest[0] == b'0';
    if digits == 0 || digits > 18 || padded {
        return None;
    }
    let (number, rest) = rest.split_at(digits);
    let result = rest.strip_prefix(br#","result":"#)?.strip_suffix(b"}")?;
    let result: &RawValue = serde_json::from_slice(result).ok()?;
    Some((number.iter().fold(0, |id, digit| id * 10 + u64::from(digit - b'0')), result.get()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_way_takes_no_more_than_the_slow_one() {
        let usual = br#"{"jsonrpc":"2.0","id":7,"result":{"a": 1.0}}"#;
        assert_eq!(read(usual), message::read(usual));
        assert_eq!(read(usual), Messages::One(Message::Result { id: 7, result: r#"{"a": 1.0}"# }));
        // Rules of the fuzz target `envelope`.
        for line in [
            &br#"{"jsonrpc":"2.0","id":007,"result":{}}"#[..],
            br#"{"jsonrpc":"2.0","id":7,"result":{},"result":{}}"#,
            br#" [7,"method",{}]"#,
        ] {
            assert!(usual_answer(line).is_none());
        }
    }
}
