//! JSON-RPC messages of a server. `result` and `params` are checked to be JSON and otherwise unchanged. An
//! answer that no client can read becomes an error with the original.

mod broken;
mod error;
mod nesting;
mod result;
mod writing;

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

pub use error::{code, error_of, holding, is_repaired, unreadable, with_request};
pub use nesting::{Nesting, begins_message};
pub use result::fault_of_result;
pub use writing::{answer, excerpt, notification, request, slice};

/// A message of a server.
#[derive(Debug, PartialEq)]
pub enum Message<'a> {
    Result {
        id: u64,
        result: &'a str,
    },
    /// An error object with an integer `code` and a text `message`. A repaired error is owned, with the
    /// server's original in its `data`.
    Error {
        id: u64,
        error: Cow<'a, str>,
    },
    /// An answer that no client can read.
    Unreadable {
        meant: Meant,
        fault: String,
        original: Cow<'a, str>,
    },
    /// A request, with the server's `id`.
    Request {
        id: &'a str,
        method: Cow<'a, str>,
        params: Option<&'a str>,
    },
    Notification {
        method: Cow<'a, str>,
        params: Option<&'a str>,
    },
    /// Text that is no JSON-RPC.
    Noise,
}

/// Time for the right answer after one that names no request, before the only request in flight fails: some
/// servers also send unrequested messages.
pub const GRACE: Duration = Duration::from_millis(200);

/// The requests that an unreadable answer is for.
#[derive(Debug, PartialEq, Eq)]
pub enum Meant {
    /// Requests with these ids, some or all of which may not be in flight.
    Ids(Vec<u64>),
    /// No id, or one of a foreign type.
    Unnamed {
        /// True for a possible notification, or an answer to one, which some servers send against the rules.
        about_notification: bool,
    },
}

/// The messages in a text.
#[derive(Debug, PartialEq)]
pub enum Messages<'a> {
    One(Message<'a>),
    /// A batch (allowed in revision 2025-03-26), or several messages without a separator.
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

/// Reads several values in a row, and an unreadable rest.
fn several(text: &[u8]) -> Messages<'_> {
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<&RawValue>();
    let mut read = Vec::new();
    let mut end = 0;
    while let Some(Ok(value)) = values.next() {
        read.push(read_one(value.get().as_bytes()));
        end = values.byte_offset();
    }
    let rest = text[end..].trim_ascii();
    if read.is_empty() || read.len() == 1 && rest.is_empty() {
        return Messages::One(read_one(text));
    }
    if !rest.is_empty() {
        read.push(read_one(rest));
    }
    Messages::Several(read)
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    jsonrpc: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
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

/// Reads null as a value, unlike a missing member.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl<'a> Envelope<'a> {
    /// Returns the id, unless it is null.
    fn own_id(&self) -> Option<&'a str> {
        self.id.map(RawValue::get).filter(|id| *id != "null")
    }

    /// Returns the result, unless it is null.
    fn own_result(&self) -> Option<&'a RawValue> {
        self.result.filter(|result| result.get() != "null")
    }

    /// Returns true for members of an answer. Some servers repeat the `method` in answers.
    fn answers(&self) -> bool {
        self.own_result().is_some() || self.error.is_some()
    }
}

fn read_one(text: &[u8]) -> Message<'_> {
    let message: Envelope<'_> = match serde_json::from_slice(text) {
        Ok(message) => message,
        Err(error) => return broken::read(text, &error),
    };
    match &message.method {
        Some(method) if !message.answers() => {
            let (method, params) = (method.clone(), message.params.map(RawValue::get));
            match message.own_id() {
                Some(id) => Message::Request { id, method, params },
                None => Message::Notification { method, params },
            }
        }
        Some(_) | None => read_answer(text, &message),
    }
}

fn read_answer<'a>(text: &'a [u8], message: &Envelope<'a>) -> Message<'a> {
    let unreadable = |meant, fault: &str| {
        let original = String::from_utf8_lossy(text);
        Message::Unreadable { meant, fault: fault.to_owned(), original }
    };
    let id = match message.own_id() {
        Some(id) => match (id.parse(), meant_by(id)) {
            (Ok(own), _) => own,
            (Err(_), Some(own)) => {
                let fault = format!("its id is {id}, which is of another type than {own}");
                return unreadable(Meant::Ids(vec![own]), &fault);
            }
            (Err(_), None) if is_integer(id) => {
                return unreadable(Meant::Ids(Vec::new()), "its id was never given");
            }
            (Err(_), None) if message.jsonrpc.is_some() || message.answers() => {
                return unreadable(unnamed(message), "its id is of a type that is never given");
            }
            (Err(_), None) => return Message::Noise,
        },
        // Programs also print text for people and logs.
        None if message.jsonrpc.is_none() && (message.id.is_none() || !message.answers()) => {
            return Message::Noise;
        }
        None => return unreadable(unnamed(message), "it has no id"),
    };
    match (message.error, message.own_result(), message.result) {
        (Some(_), Some(_), _) => unreadable(
            Meant::Ids(vec![id]),
            "it has both a `result` and an `error`, and only one may be there",
        ),
        (Some(error), None, _) => Message::Error { id, error: error::well_formed(error.get()) },
        (None, _, Some(result)) => Message::Result { id, result: result.get() },
        (None, _, None) => unreadable(Meant::Ids(vec![id]), "it has neither a `result` nor an `error`"),
    }
}

/// Returns the request id that an id of another type means: 5 for `"5"` and `5.0`.
fn meant_by(id: &str) -> Option<u64> {
    let number = id.strip_prefix('"').and_then(|id| id.strip_suffix('"')).unwrap_or(id);
    number.strip_suffix(".0").unwrap_or(number).parse().ok()
}

fn is_integer(id: &str) -> bool {
    let digits = id.strip_prefix('-').unwrap_or(id);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Classifies an answer without an id of ours. Servers send "method not found" for unknown notifications.
fn unnamed(message: &Envelope<'_>) -> Meant {
    let code = message.error.and_then(|error| code(error.get().as_bytes()));
    Meant::Unnamed { about_notification: code == Some(protocol::Code::MethodNotFound.rpc().into()) }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
