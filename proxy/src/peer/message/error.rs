//! Valid JSON-RPC errors, made from errors of servers and from unreadable answers. `code` is an integer and
//! `message` a text (JSON-RPC 2.0, section 5.1).

use std::borrow::Cow;

use memchr::memmem;
use protocol::{Code, Refusal};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::trimmed;
use protocol::jsonrpc::kind_of;

/// The most bytes of an unreadable answer in its error.
const ORIGINAL_BYTES: usize = 4096;
/// The most characters of a server's message in a repaired error.
const SAID_CHARS: usize = 1000;
/// Member of `data` that marks a repaired error.
const MARK: &[u8] = br#""code":"unreadable_answer""#;

const HINT: &str = "this is a mistake of the server; `original` is what it sent";
const HIDDEN: &str = "this is a mistake of the server; what it sent is not shown, since it may not be for \
                      this caller";

/// Returns an error, unchanged or repaired: with the server's code if that is an integer, its message, the
/// fault, and the original in `data`. Codes have 32 bits, since typed clients read no others.
pub fn well_formed(error: &str) -> Cow<'_, str> {
    #[derive(Deserialize)]
    struct Shape<'a> {
        #[serde(rename = "code")]
        _code: i32,
        #[serde(borrow, rename = "message")]
        _message: Cow<'a, str>,
    }
    if serde_json::from_str::<Shape<'_>>(error).is_ok() {
        return Cow::Borrowed(error);
    }
    let original: Value = serde_json::from_str(error).unwrap_or(Value::Null);
    let reason = format!("the server's answer has an `error` {}", fault(error, &original));
    let code = original["code"].as_f64().filter(|code| code.fract() == 0.0).map(|code| code as i64);
    let code = code.and_then(|code| i32::try_from(code).ok());
    let said = original["message"].as_str().or(original.as_str()).filter(|said| !said.is_empty());
    let message = said.map_or_else(
        || reason.clone(),
        |said| format!("{} ({reason})", said.chars().take(SAID_CHARS).collect::<String>()),
    );
    let repaired = json!({
        "code": code.unwrap_or(Code::UnreadableAnswer.rpc()),
        "message": message,
        "data": {
            "code": Code::UnreadableAnswer.as_str(),
            "reason": reason,
            "hint": HINT,
            "original": held(error),
        },
    });
    Cow::Owned(repaired.to_string())
}

/// Describes the fault of an `error`.
fn fault(error: &str, read: &Value) -> String {
    let Value::Object(members) = read else {
        return format!("that is {}", kind_of(error.as_bytes()));
    };
    let kind = |value: &Value| kind_of(value.to_string().as_bytes());
    match (members.get("code"), members.get("message")) {
        (None, _) => "without a `code`".to_owned(),
        (Some(Value::Number(code)), _) if code.as_i64().is_none_or(|code| i32::try_from(code).is_err()) => {
            "whose `code` is not an integer of 32 bits".to_owned()
        }
        (Some(code), _) if !code.is_number() => format!("whose `code` is {}", kind(code)),
        (Some(_), None) => "without a `message`".to_owned(),
        (Some(_), Some(Value::String(_))) => "with a member that is there twice".to_owned(),
        (Some(_), Some(message)) => format!("whose `message` is {}", kind(message)),
    }
}

/// Returns the refusal of an unreadable answer, without the original if that may belong to another caller.
pub fn unreadable(server: &str, fault: &str, original: Option<&str>) -> Refusal {
    let reason = format!("`{server}` gave an answer that no client can read: {fault}");
    let refusal = Refusal::new(Code::UnreadableAnswer, reason);
    match original {
        Some(original) => holding(refusal.hint(HINT), original.as_bytes()),
        None => refusal.hint(HIDDEN),
    }
}

/// Adds the server's original to a refusal.
pub fn holding(refusal: Refusal, original: &[u8]) -> Refusal {
    refusal.fact("original", held(&String::from_utf8_lossy(original)))
}

/// Returns the original as JSON if small and valid, else the beginning of its text.
fn held(original: &str) -> Value {
    if original.len() <= ORIGINAL_BYTES {
        return serde_json::from_str(original).unwrap_or_else(|_| original.into());
    }
    let shown: String = original.chars().take(ORIGINAL_BYTES / 4).collect();
    format!("{shown}… ({} bytes)", original.len()).into()
}

/// Returns true for an error repaired here.
pub fn is_repaired(error: &[u8]) -> bool {
    memmem::find(error, MARK).is_some()
}

/// Adds the request's id to a repaired error, as refusals have it.
pub fn with_request<'a>(error: &'a [u8], request: &dyn std::fmt::Display) -> Cow<'a, [u8]> {
    if !is_repaired(error) {
        return Cow::Borrowed(error);
    }
    let Ok(mut read) = serde_json::from_slice::<Value>(error) else { return Cow::Borrowed(error) };
    let ours = read["data"]["code"] == Code::UnreadableAnswer.as_str() && read["data"]["hint"] == HINT;
    if !ours {
        return Cow::Borrowed(error);
    }
    read["data"]["requestId"] = request.to_string().into();
    Cow::Owned(read.to_string().into_bytes())
}

/// Returns the error of an answer and its id, if that is one of ours.
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

/// Returns the code of an `error` object.
pub fn code(error: &[u8]) -> Option<i64> {
    #[derive(Deserialize)]
    struct Shape {
        code: i64,
    }
    serde_json::from_slice::<Shape>(error).ok().map(|shape| shape.code)
}
