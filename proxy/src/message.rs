//! JSON-RPC messages of a server, read and written. What is inside `result` and `params` is checked to be
//! JSON and otherwise left alone. An answer that no client can read becomes an error that holds it.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::Bytes;
use protocol::mcp::method;
use protocol::{Code, Refusal};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::upstream::{Params, UpstreamAnswer};

/// The most bytes of an unreadable answer that its error holds.
const ORIGINAL_BYTES: usize = 4096;

/// A message of a server.
#[derive(Debug, PartialEq)]
pub enum Message<'a> {
    Result {
        id: u64,
        result: &'a str,
    },
    /// An error object with an integer `code` and a `message`; what was none is in its `data`.
    Error {
        id: u64,
        error: Cow<'a, str>,
    },
    /// An answer that no client can read.
    Unreadable {
        /// The requests that it was meant for, as far as that can be told.
        ids: Vec<u64>,
        fault: String,
        original: Cow<'a, str>,
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
    /// No JSON-RPC at all.
    Noise,
}

/// The messages in a text.
#[derive(Debug, PartialEq)]
pub enum Messages<'a> {
    One(Message<'a>),
    /// A batch (revision 2025-03-26 allowed it), or several messages without a separator.
    Several(Vec<Message<'a>>),
}

impl<'a> IntoIterator for Messages<'a> {
    type Item = Message<'a>;
    type IntoIter = std::iter::Chain<std::option::IntoIter<Message<'a>>, std::vec::IntoIter<Message<'a>>>;

    fn into_iter(self) -> Self::IntoIter {
        match self {
            Messages::One(one) => Some(one).into_iter().chain(Vec::new()),
            Messages::Several(several) => None.into_iter().chain(several),
        }
    }
}

/// Removes a byte-order mark at the start, and white space around.
pub fn trimmed(text: &[u8]) -> &[u8] {
    let text = text.trim_ascii_start();
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text).trim_ascii()
}

/// Reads the messages in a text.
pub fn read(text: &[u8]) -> Messages<'_> {
    let text = trimmed(text);
    if text.starts_with(b"[")
        && let Ok(batch) = serde_json::from_slice::<Vec<&RawValue>>(text)
    {
        return Messages::Several(batch.into_iter().map(|raw| read_one(raw.get().as_bytes())).collect());
    }
    match read_one(text) {
        Message::Unreadable { .. } | Message::Noise => several(text),
        one => Messages::One(one),
    }
}

/// Several values one behind the other, or what cannot be read.
fn several(text: &[u8]) -> Messages<'_> {
    let values: Result<Vec<&RawValue>, _> = serde_json::Deserializer::from_slice(text).into_iter().collect();
    match values {
        Ok(values) if values.len() > 1 => {
            Messages::Several(values.into_iter().map(|raw| read_one(raw.get().as_bytes())).collect())
        }
        _ => Messages::One(read_one(text)),
    }
}

fn read_one(text: &[u8]) -> Message<'_> {
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
    let message: Envelope<'_> = match serde_json::from_slice(text) {
        Ok(message) => message,
        Err(error) => return broken(text, &error),
    };
    let id = message.id.map(RawValue::get);
    if let Some(method) = message.method {
        let params = message.params.map(RawValue::get);
        return match id {
            Some(id) => Message::Request { id, method, params },
            None => Message::Notification { method, params },
        };
    }
    let unreadable = |ids: Vec<u64>, fault: &str| {
        let original = String::from_utf8_lossy(text);
        Message::Unreadable { ids, fault: fault.to_owned(), original }
    };
    let own = match id.map(|id| (id, id.parse::<u64>())) {
        Some((_, Ok(own))) => own,
        Some((id, Err(_))) => {
            let meant: Vec<u64> = meant_by(id).into_iter().collect();
            return unreadable(meant, "its id was never given");
        }
        None if message.result.is_none() && message.error.is_none() => return Message::Noise,
        None => return unreadable(Vec::new(), "it has no id"),
    };
    match (message.error, message.result) {
        (Some(error), _) => Message::Error { id: own, error: well_formed(error.get()) },
        (None, Some(result)) => Message::Result { id: own, result: result.get() },
        (None, None) => unreadable(vec![own], "it has neither a `result` nor an `error`"),
    }
}

/// What is no JSON, or has a member twice or of a wrong type.
fn broken<'a>(text: &'a [u8], error: &serde_json::Error) -> Message<'a> {
    let ids = meant(text);
    if ids.is_empty() {
        return Message::Noise;
    }
    let fault = match error.classify() {
        serde_json::error::Category::Data => format!("it is no JSON-RPC message: {error}"),
        _ => format!("it is no JSON: {error}"),
    };
    Message::Unreadable { ids, fault, original: String::from_utf8_lossy(text) }
}

/// The request that an id of another type means: `"5"` and `5.0` for 5.
fn meant_by(id: &str) -> Option<u64> {
    let number = id.trim_matches('"');
    number.strip_suffix(".0").unwrap_or(number).parse().ok()
}

/// The requests that broken text answers: the numbers under `id` in its outermost objects, or those of a
/// broken batch, without a `method` beside them.
fn meant(text: &[u8]) -> Vec<u64> {
    let base = usize::from(text.starts_with(b"[")) + 1;
    let (mut ids, mut id, mut is_answer) = (Vec::new(), None, true);
    let (mut depth, mut at) = (0usize, 0);
    while let Some(byte) = text.get(at) {
        at += 1;
        match byte {
            // Python's `repr` of a message has single quotes.
            b'"' | b'\'' => {
                let Some(end) = end_of_string(text, at, *byte) else { break };
                let (key, after) = (&text[at..end], text[end + 1..].trim_ascii_start());
                at = end + 1;
                let Some(value) = after.strip_prefix(b":").filter(|_| depth == base) else { continue };
                match key {
                    b"method" => is_answer = false,
                    b"id" if id.is_none() => id = leading_number(value),
                    _ => {}
                }
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                if depth == base {
                    ids.extend(id.take().filter(|_| is_answer));
                    is_answer = true;
                }
                depth = depth.saturating_sub(1);
            }
            _ => {}
        }
    }
    ids.extend(id.filter(|_| is_answer));
    ids
}

fn end_of_string(text: &[u8], from: usize, quote: u8) -> Option<usize> {
    let mut at = from;
    loop {
        at += memchr::memchr2(quote, b'\\', text.get(at..)?)?;
        if text[at] == quote {
            return Some(at);
        }
        at += 2;
    }
}

/// The number that a value is, or that its string is.
fn leading_number(value: &[u8]) -> Option<u64> {
    let value = value.trim_ascii_start();
    let value = value.strip_prefix(b"\"").unwrap_or(value);
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&value[..digits]).ok()?.parse().ok()
}

/// An error that every client reads. `code` is an integer and `message` a text (JSON-RPC 2.0, section
/// 5.1); what the server said else is kept in `data.original`.
fn well_formed(error: &str) -> Cow<'_, str> {
    #[derive(Deserialize)]
    struct Shape<'a> {
        #[serde(rename = "code")]
        _code: i64,
        #[serde(borrow, rename = "message")]
        _message: Cow<'a, str>,
    }
    if serde_json::from_str::<Shape<'_>>(error).is_ok() {
        return Cow::Borrowed(error);
    }
    let original: Value = serde_json::from_str(error).unwrap_or_else(|_| error.into());
    let code = original["code"].as_i64();
    let reason =
        "the server gave an `error` that is not an object with an integer `code` and a text `message`";
    let said = original["message"].as_str().or(original.as_str()).filter(|said| !said.is_empty());
    let message = said.map_or_else(|| reason.to_owned(), |said| said.chars().take(1000).collect());
    let mended = json!({
        "code": code.unwrap_or(Code::UnreadableAnswer.rpc().into()),
        "message": message,
        "data": { "code": Code::UnreadableAnswer.as_str(), "reason": reason, "original": held(error) },
    });
    Cow::Owned(mended.to_string())
}

/// Says why no client can read the result of a request, if so: a result is an object, and what each
/// client looks for in it has its type. One whose member comes first as usual is not parsed.
pub fn fault_of_result(asked: &str, result: &[u8]) -> Option<String> {
    let (member, opening, needed) = match asked {
        method::TOOLS_CALL => ("content", '[', false),
        method::RESOURCES_READ => ("contents", '[', true),
        method::PROMPTS_GET => ("messages", '[', true),
        method::COMPLETE => ("completion", '{', true),
        method::TOOLS_LIST => ("tools", '[', true),
        method::PROMPTS_LIST => ("prompts", '[', true),
        method::RESOURCES_LIST => ("resources", '[', true),
        method::RESOURCE_TEMPLATES_LIST => ("resourceTemplates", '[', true),
        // What answers nothing is never read, and what is not known here passes as it is.
        _ => return None,
    };
    let usual = result.strip_prefix(b"{\"").and_then(|rest| rest.strip_prefix(member.as_bytes()));
    if usual.and_then(|rest| rest.strip_prefix(b"\":")).is_some_and(|rest| rest.starts_with(&[opening as u8]))
    {
        return None;
    }
    let Ok(members) = serde_json::from_slice::<HashMap<Cow<'_, str>, &RawValue>>(result) else {
        return Some(format!("its `result` is {}, not an object", kind_of(result)));
    };
    // A result that asks first, and the task that a call became, have other members (2026-07-28).
    let other = members.contains_key("task")
        || members.get("resultType").is_some_and(|kind| kind.get() != "\"complete\"");
    match members.get(member) {
        Some(value) if value.get().starts_with(opening) => None,
        Some(value) => Some(format!("`{member}` in its result is {}", kind_of(value.get().as_bytes()))),
        None if needed && !other => Some(format!("its result has no `{member}`")),
        None => None,
    }
}

fn kind_of(json: &[u8]) -> &'static str {
    match json.first() {
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        Some(_) | None => "a number",
    }
}

/// The refusal for an answer that no client can read.
pub fn unreadable(who: &str, fault: &str, original: &str) -> Refusal {
    Refusal::new(Code::UnreadableAnswer, format!("`{who}` gave an answer that no client can read: {fault}"))
        .hint("this is a mistake of the server; `original` is what it sent")
        .fact("original", held(original))
}

/// The original as JSON where it is JSON and small, else the beginning of its text.
fn held(original: &str) -> Value {
    if original.len() <= ORIGINAL_BYTES {
        return serde_json::from_str(original).unwrap_or_else(|_| original.into());
    }
    let shown: String = original.chars().take(ORIGINAL_BYTES / 4).collect();
    format!("{shown}… ({} bytes)", original.len()).into()
}

/// Keeps a `result` of null apart from none.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The error of an answer, whatever its id is: that of an HTTP answer can only be for its request.
pub fn error_of(text: &[u8]) -> Option<(Option<u64>, Cow<'_, str>)> {
    #[derive(Deserialize)]
    struct Shape<'a> {
        #[serde(borrow, default)]
        id: Option<&'a RawValue>,
        #[serde(borrow)]
        error: &'a RawValue,
    }
    let shape: Shape<'_> = serde_json::from_slice(trimmed(text)).ok()?;
    let id = shape.id.and_then(|id| id.get().parse().ok());
    (shape.error.get() != "null").then(|| (id, well_formed(shape.error.get())))
}

/// Whether an answer has no id, or null, and an error.
pub fn is_unnamed_error(original: &str) -> bool {
    #[derive(Deserialize)]
    struct Shape {
        id: Option<Value>,
        error: Option<Value>,
    }
    serde_json::from_str::<Shape>(original).is_ok_and(|shape| shape.id.is_none() && shape.error.is_some())
}

/// Whether an answer has no id, or null, and is a result or says that a message could not be read (-32700,
/// -32600). Other errors without an id may be about a notification.
pub fn is_about_nothing_read(original: &str) -> bool {
    #[derive(Deserialize)]
    struct Shape<'a> {
        #[serde(borrow, default)]
        id: Option<&'a RawValue>,
        #[serde(borrow, default)]
        error: Option<&'a RawValue>,
    }
    let Ok(shape) = serde_json::from_str::<Shape<'_>>(original) else { return false };
    let nothing_read = [Code::ParseError.rpc(), Code::InvalidRequest.rpc()].map(|code| Some(i64::from(code)));
    shape.id.is_none() && shape.error.is_none_or(|error| nothing_read.contains(&code(error.get().as_bytes())))
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

/// The bytes of an error: a slice of the text that it was read from, unless it was mended.
pub fn slice(text: &Bytes, error: Cow<'_, str>) -> Bytes {
    match error {
        Cow::Borrowed(part) => text.slice_ref(part.as_bytes()),
        Cow::Owned(own) => own.into(),
    }
}

/// The beginning of something odd, for a log or a refusal.
pub fn excerpt(bytes: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(&bytes[..bytes.len().min(1000)]).chars().take(200).collect();
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
