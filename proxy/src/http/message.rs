//! The envelope of JSON-RPC messages, read and written. What is inside `result`, `error` and `params` is
//! checked to be JSON and otherwise left alone.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::upstream::{Params, UpstreamAnswer};

/// A message of a server.
#[derive(Debug, PartialEq)]
pub enum Message<'a> {
    /// `id` is none where the server could not say, or says something that was never given.
    Result {
        id: Option<u64>,
        result: &'a str,
    },
    Error {
        id: Option<u64>,
        error: &'a str,
    },
    /// The id is as it was written.
    Request {
        id: &'a str,
        method: Cow<'a, str>,
        params: Option<&'a str>,
    },
    Notification {
        method: Cow<'a, str>,
        params: Option<&'a str>,
    },
}

/// The messages in a text: one, several (revision 2025-03-26 allowed it), or none.
pub fn read(text: &str) -> Vec<Message<'_>> {
    if text.trim_start().starts_with('[') {
        let batch: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
        return batch.into_iter().filter_map(|one| read_one(one.get())).collect();
    }
    read_one(text).into_iter().collect()
}

fn read_one(text: &str) -> Option<Message<'_>> {
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
    let message: Envelope<'_> = serde_json::from_str(text).ok()?;
    let id = message.id.map(RawValue::get);
    let params = message.params.map(RawValue::get);
    if let Some(method) = message.method {
        return Some(match id {
            Some(id) => Message::Request { id, method, params },
            None => Message::Notification { method, params },
        });
    }
    let id = id.and_then(|id| id.parse().ok());
    match (message.error, message.result) {
        (Some(error), _) => Some(Message::Error { id, error: error.get() }),
        (None, Some(result)) => Some(Message::Result { id, result: result.get() }),
        (None, None) => None,
    }
}

/// Keeps a `result` of null apart from none.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The code of an `error` object.
pub fn code(error: &[u8]) -> Option<i64> {
    #[derive(Deserialize)]
    struct Shape {
        code: i64,
    }
    serde_json::from_slice::<Shape>(error).ok().map(|shape| shape.code)
}

/// A request, ready to be sent.
pub fn request(id: u64, method: &str, params: Params<'_>) -> Vec<u8> {
    let head = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{}"#, quoted(method));
    message(&head, params)
}

pub fn notification(method: &str, params: Params<'_>) -> Vec<u8> {
    message(&format!(r#"{{"jsonrpc":"2.0","method":{}"#, quoted(method)), params)
}

/// The answer to a request of the server; `id` as it was written there.
pub fn answer(id: &str, answer: &UpstreamAnswer) -> Vec<u8> {
    let (member, value) = match answer {
        UpstreamAnswer::Result(result) => ("result", result),
        UpstreamAnswer::Error(error) => ("error", error),
    };
    let mut out = format!(r#"{{"jsonrpc":"2.0","id":{id},"{member}":"#).into_bytes();
    out.extend_from_slice(value);
    out.push(b'}');
    out
}

fn message(head: &str, params: Params<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(head.len() + params.len() + 16);
    out.extend_from_slice(head.as_bytes());
    if !params.is_empty() {
        out.extend_from_slice(br#","params":"#);
        params.slices().iter().for_each(|slice| out.extend_from_slice(slice));
    }
    out.push(b'}');
    out
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The beginning of something odd, for a log or a refusal.
pub fn excerpt(bytes: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(&bytes[..bytes.len().min(1000)]).chars().take(200).collect();
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_may_send() {
        assert_eq!(read(r#" {"result": null, "id": 7}"#), [Message::Result { id: Some(7), result: "null" }]);
        assert_eq!(
            read(r#"{"jsonrpc":"2.0","id":null,"error":{"code":-1}}"#),
            [Message::Error { id: None, error: r#"{"code":-1}"# }]
        );
        assert_eq!(
            read(r#"[{"id":"a","method":"ping"},{"method":"m\u0061","params":{}},3]"#),
            [
                Message::Request { id: "\"a\"", method: "ping".into(), params: None },
                Message::Notification { method: "ma".into(), params: Some("{}") },
            ]
        );
        for garbage in ["", "{}", "null", "<html>", "[1]", r#"{"id":1}"#] {
            assert_eq!(read(garbage), [], "{garbage}");
        }
    }

    #[test]
    fn what_is_sent() {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        assert_eq!(
            text(request(3, "a\"b", Params::spliced(b"{\"name\":", b"\"x\"", b"}"))),
            r#"{"jsonrpc":"2.0","id":3,"method":"a\"b","params":{"name":"x"}}"#
        );
        assert_eq!(text(notification("n", Params::none())), r#"{"jsonrpc":"2.0","method":"n"}"#);
        let result = UpstreamAnswer::Result(bytes::Bytes::from_static(b"{}"));
        assert_eq!(text(answer("\"q\"", &result)), r#"{"jsonrpc":"2.0","id":"q","result":{}}"#);
    }
}
