//! Messages to a server, and excerpts of messages.

use std::borrow::Cow;

use bytes::Bytes;

use crate::upstream::{Params, UpstreamAnswer};

/// Writes a request, ready to be sent.
pub fn request(id: u64, method: &str, params: Params<'_>) -> Vec<u8> {
    let head = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{}"#, quoted(method));
    message(&head, params)
}

/// Writes a notification.
pub fn notification(method: &str, params: Params<'_>) -> Vec<u8> {
    message(&format!(r#"{{"jsonrpc":"2.0","method":{}"#, quoted(method)), params)
}

/// Writes the answer to a server request, with the server's `id`.
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

/// Returns the bytes of an error: a slice of its text, unless the error was repaired.
pub fn slice(text: &Bytes, error: Cow<'_, str>) -> Bytes {
    match error {
        Cow::Borrowed(part) => text.slice_ref(part.as_bytes()),
        Cow::Owned(own) => own.into(),
    }
}

/// Returns the beginning of a faulty text, for a log or a refusal.
pub fn excerpt(bytes: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(&bytes[..bytes.len().min(1000)]).chars().take(200).collect();
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
