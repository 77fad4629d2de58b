//! Reads the envelope of one line from a child: whose answer it is, or what it asks or tells.
//! What is inside `result`, `error` and `params` is checked to be JSON and otherwise left alone.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// One line.
#[derive(Debug, PartialEq)]
pub enum Line<'a> {
    Result {
        id: u64,
        result: &'a str,
    },
    Error {
        id: u64,
        error: &'a str,
    },
    /// An answer under an id that we never give.
    Stray(&'a str),
    /// The child asks something. The id is as it was written.
    Request {
        id: &'a str,
        method: Cow<'a, str>,
        params: Option<&'a str>,
    },
    Notification {
        method: Cow<'a, str>,
        params: Option<&'a str>,
    },
    /// Several messages in one line (revision 2025-03-26 allowed it).
    Batch(Vec<&'a str>),
    /// Not a message. The id is that of the request it meant to answer, if that much could be read.
    Garbage {
        id: Option<u64>,
    },
}

pub fn read(line: &[u8]) -> Line<'_> {
    if let Some((id, result)) = usual_answer(line) {
        return Line::Result { id, result };
    }
    if line.trim_ascii_start().starts_with(b"[")
        && let Ok(batch) = serde_json::from_slice::<Vec<&RawValue>>(line)
    {
        return Line::Batch(batch.into_iter().map(RawValue::get).collect());
    }
    any_message(line).unwrap_or_else(|| Line::Garbage { id: meant(line) })
}

/// Almost every line is `{"jsonrpc":"2.0","id":N,"result":R}`: then only R has to be parsed.
fn usual_answer(line: &[u8]) -> Option<(u64, &str)> {
    let (id, rest) = usual_head(line)?;
    let result = rest.strip_prefix(br#","result":"#)?.strip_suffix(b"}")?;
    let result: &RawValue = serde_json::from_slice(result).ok()?;
    Some((id, result.get()))
}

/// Whose answer it was meant to be; what has a method was a question of the child's own.
fn meant(line: &[u8]) -> Option<u64> {
    usual_head(line).filter(|(_, rest)| !rest.starts_with(br#","method""#)).map(|(id, _)| id)
}

fn usual_head(line: &[u8]) -> Option<(u64, &[u8])> {
    let rest = line.strip_prefix(br#"{"jsonrpc":"2.0","id":"#)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    // 18 digits cannot overflow, and ours are never longer.
    let padded = digits > 1 && rest[0] == b'0';
    if digits == 0 || digits > 18 || padded {
        return None;
    }
    let (number, rest) = rest.split_at(digits);
    Some((number.iter().fold(0, |id, digit| id * 10 + u64::from(digit - b'0')), rest))
}

fn any_message(line: &[u8]) -> Option<Line<'_>> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow, default)]
        id: Option<&'a RawValue>,
        #[serde(borrow, default)]
        method: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        params: Option<&'a RawValue>,
        #[serde(borrow, default, deserialize_with = "present")]
        result: Option<&'a RawValue>,
        #[serde(borrow, default)]
        error: Option<&'a RawValue>,
    }
    let message: Envelope<'_> = serde_json::from_slice(line).ok()?;
    let id = message.id.map(RawValue::get);
    if let Some(method) = message.method {
        let params = message.params.map(RawValue::get);
        return Some(match id {
            Some(id) => Line::Request { id, method, params },
            None => Line::Notification { method, params },
        });
    }
    let ours = id.and_then(|id| id.parse().ok());
    match (message.error, message.result, ours) {
        (None, None, _) => None,
        (Some(error), _, Some(id)) => Some(Line::Error { id, error: error.get() }),
        (None, Some(result), Some(id)) => Some(Line::Result { id, result: result.get() }),
        (_, _, None) => Some(Line::Stray(id.unwrap_or("null"))),
    }
}

/// Keeps a `result` of null apart from none.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_in_any_order_of_members() {
        for line in [
            r#"{"jsonrpc":"2.0","id":7,"result":{"a": 1.0}}"#,
            r#"{"result":{"a": 1.0},"jsonrpc":"2.0","id":7}"#,
            r#" { "jsonrpc" : "2.0", "id" : 7 , "result":{"a": 1.0} , "error": null, "x": [] } "#,
        ] {
            assert_eq!(read(line.as_bytes()), Line::Result { id: 7, result: r#"{"a": 1.0}"# }, "{line}");
        }
        assert_eq!(
            read(br#"{"jsonrpc":"2.0","id":7,"error":{"code":1}}"#),
            Line::Error { id: 7, error: r#"{"code":1}"# }
        );
        assert_eq!(read(br#"{"id":7,"result":null}"#), Line::Result { id: 7, result: "null" });
    }

    #[test]
    fn what_is_not_an_answer() {
        assert_eq!(
            read(br#"{"jsonrpc":"2.0","method":"m","params":{}}"#),
            Line::Notification { method: "m".into(), params: Some("{}") }
        );
        assert_eq!(
            read(br#"{"jsonrpc":"2.0","id":"a","method":"ping"}"#),
            Line::Request { id: "\"a\"", method: "ping".into(), params: None }
        );
        assert_eq!(read(br#"{"id":"x","result":{}}"#), Line::Stray("\"x\""));
        assert_eq!(read(br#"{"id":null,"error":{}}"#), Line::Stray("null"));
        assert!(matches!(read(br#"[{"id":1,"result":{}},{}]"#), Line::Batch(batch) if batch.len() == 2));
        for garbage in ["hello", "{", "{}", "3", "null", "\u{1b}[1mServer\u{1b}[0m"] {
            assert_eq!(read(garbage.as_bytes()), Line::Garbage { id: None }, "{garbage}");
        }
    }

    #[test]
    fn a_broken_answer_names_whom_it_was_for() {
        for broken in [
            &br#"{"jsonrpc":"2.0","id":7,"result":{"a":}}"#[..],
            br#"{"jsonrpc":"2.0","id":7,"result":{},"result":{}}"#,
            br#"{"jsonrpc":"2.0","id":7,"result":{}},{"jsonrpc":"2.0","id":8,"result":{}}"#,
            b"{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"a\":\"\xff\"}}",
        ] {
            assert_eq!(read(broken), Line::Garbage { id: Some(7) });
        }
    }

    #[test]
    fn the_quick_way_takes_no_more_than_the_slow_one() {
        // Rules of the fuzz target `envelope`.
        assert_eq!(read(br#"{"jsonrpc":"2.0","id":007,"result":{}}"#), Line::Garbage { id: None });
        assert_eq!(read(br#" [7,"method",{}]"#), Line::Batch(vec!["7", r#""method""#, "{}"]));
        let broken_request = br#"{"jsonrpc":"2.0","id":7,"method":"ping","params":{"a":}}"#;
        assert_eq!(read(broken_request), Line::Garbage { id: None });
    }
}
