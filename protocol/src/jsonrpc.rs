//! JSON-RPC 2.0 envelopes (<https://www.jsonrpc.org/specification>). Only the envelope is read:
//! `params` and `result` stay raw and pass through byte for byte.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::mcp::{Era, meta};
use crate::refusal::{Code, Refusal};

/// Longest id in bytes, since answers and some methods' messages repeat the id.
const MAX_ID: usize = 1024;

/// A body that was read as one message or as a batch.
pub enum Body<'a> {
    Single(Incoming<'a>),
    /// Raw elements, parsed one by one: a bad element spoils only itself.
    Batch(Vec<&'a RawValue>),
}

/// One envelope: a request, a notification or a response.
#[derive(Debug)]
pub enum Incoming<'a> {
    Message(Message<'a>),
    Response(Response<'a>),
}

/// A response to a request that the gateway sent.
#[derive(Debug)]
pub struct Response<'a> {
    /// Raw id of the request.
    pub id: &'a RawValue,
    /// `result`, or (the error) `error`.
    pub outcome: Result<&'a RawValue, &'a RawValue>,
}

/// A request or a notification.
#[derive(Debug)]
pub struct Message<'a> {
    /// Raw id of the request; none for a notification.
    pub id: Option<&'a RawValue>,
    pub method: Cow<'a, str>,
    pub params: Option<&'a RawValue>,
}

/// An invalid envelope, with the id to answer under when it could be read.
#[derive(Debug)]
pub struct Malformed<'a> {
    pub id: Option<&'a RawValue>,
    pub refusal: Refusal,
}

impl<'a> From<Refusal> for Malformed<'a> {
    fn from(refusal: Refusal) -> Self {
        Self { id: None, refusal }
    }
}

/// Reads a body. An empty batch is not a request; `max_batch` bounds the others.
pub fn parse(body: &[u8], max_batch: usize) -> Result<Body<'_>, Malformed<'_>> {
    // The parser does not check the UTF-8 of skipped members.
    let body = std::str::from_utf8(body)
        .map_err(|error| Refusal::new(Code::ParseError, format!("the body is not UTF-8: {error}")))?;
    let first = body.bytes().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(b'[') {
        if first != Some(b'{') {
            serde_json::from_str::<serde::de::IgnoredAny>(body).map_err(|error| broken_json(&error))?;
            return Err(invalid(None, "a message is a JSON object"));
        }
        let envelope = serde_json::from_str(body).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => not_a_request(&error),
            _ => broken_json(&error),
        })?;
        return read(envelope).map(Body::Single);
    }
    let elements: Vec<&RawValue> = serde_json::from_str(body).map_err(|error| broken_json(&error))?;
    if elements.is_empty() {
        return Err(Refusal::new(Code::InvalidRequest, "the batch is empty").into());
    }
    if elements.len() > max_batch {
        let reason =
            format!("the batch has {} messages; at most {max_batch} are taken at once", elements.len());
        return Err(Refusal::new(Code::InvalidRequest, reason).hint("send smaller batches").into());
    }
    Ok(Body::Batch(elements))
}

/// Reads one envelope. Refuses a duplicate member: two readers could take different ones.
pub fn parse_message(raw: &RawValue) -> Result<Incoming<'_>, Malformed<'_>> {
    if !raw.get().starts_with('{') {
        return Err(invalid(None, "a message is a JSON object"));
    }
    read(serde_json::from_str(raw.get()).map_err(|error| not_a_request(&error))?)
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    jsonrpc: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    error: Option<&'a RawValue>,
}

fn read(envelope: Envelope<'_>) -> Result<Incoming<'_>, Malformed<'_>> {
    let id = match envelope.id {
        Some(id) if !is_id(id.get()) => {
            return Err(invalid(None, "id is a string or a number"));
        }
        Some(id) if id.get().len() > MAX_ID => {
            return Err(invalid(None, format!("id has more than {MAX_ID} bytes")));
        }
        id => id,
    };
    if envelope.jsonrpc.as_deref() != Some("2.0") {
        return Err(invalid(id, r#"jsonrpc must be "2.0""#));
    }
    let Some(method) = envelope.method else {
        return match (id, envelope.result, envelope.error) {
            (Some(id), Some(result), None) => Ok(Incoming::Response(Response { id, outcome: Ok(result) })),
            (Some(id), None, Some(error)) => Ok(Incoming::Response(Response { id, outcome: Err(error) })),
            (_, None, None) => Err(invalid(id, "method is missing")),
            (_, _, _) => Err(invalid(id, "a response has an id, and either a result or an error")),
        };
    };
    let params = match envelope.params {
        Some(params) if params.get() == "null" => None,
        Some(params) if !params.get().starts_with(['{', '[']) => {
            return Err(invalid(id, "params is an object"));
        }
        params => params,
    };
    Ok(Incoming::Message(Message { id, method, params }))
}

/// Distinguishes `null` from an absent member: an `id` of null is invalid.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

fn is_id(raw: &str) -> bool {
    raw.starts_with('"') || raw.starts_with('-') || raw.as_bytes()[0].is_ascii_digit()
}

fn broken_json(error: &serde_json::Error) -> Refusal {
    Refusal::new(Code::ParseError, format!("the body is not JSON: {error}"))
}

fn not_a_request(error: &serde_json::Error) -> Refusal {
    Refusal::new(Code::InvalidRequest, format!("the message is not a JSON-RPC request: {error}"))
}

fn invalid<'a>(id: Option<&'a RawValue>, reason: impl Into<Cow<'static, str>>) -> Malformed<'a> {
    Malformed { id, refusal: Refusal::new(Code::InvalidRequest, reason) }
}

/// Writes the answer `{"jsonrpc":"2.0","id":…,"result":…}`.
pub fn write_result(out: &mut Vec<u8>, id: &str, result: &[u8]) {
    out.reserve(id.len() + result.len() + 40);
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(br#","result":"#);
    out.extend_from_slice(result);
    out.push(b'}');
}

/// Writes the answer `{"jsonrpc":"2.0","id":…,"error":…}`; `error` is a whole error object.
pub fn write_error(out: &mut Vec<u8>, id: &str, error: &[u8]) {
    out.reserve(id.len() + error.len() + 40);
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(br#","error":"#);
    out.extend_from_slice(error);
    out.push(b'}');
}

/// Returns the error object of a refusal.
pub fn error_object(refusal: &Refusal, request: &dyn std::fmt::Display) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct ErrorObject<'a> {
        code: i32,
        message: &'a str,
        data: crate::refusal::RefusalData<'a>,
    }
    let object =
        ErrorObject { code: refusal.code.rpc(), message: &refusal.reason, data: refusal.data(request) };
    serde_json::to_vec(&object).expect("a refusal is plain data")
}

/// Returns a refusal as the result of a tool: `isError`, a text with reason and hint, and the members of an
/// error's `data` in `_meta`.
pub fn refused_result(refusal: &Refusal, request: &dyn std::fmt::Display, era: Era) -> Vec<u8> {
    let hint = refusal.hint.as_deref().map(|hint| format!(" ({hint})")).unwrap_or_default();
    let mut result = serde_json::json!({
        "content": [{ "type": "text", "text": format!("{}{hint}", refusal.reason) }],
        "isError": true,
        "_meta": { meta::REFUSAL: refusal.data(request) },
    });
    if era == Era::Modern {
        result["resultType"] = "complete".into();
    }
    serde_json::to_vec(&result).expect("a refusal is plain data")
}

/// Returns the kind of a JSON value, for messages: `an array`, `a string` and so on.
pub fn kind_of(json: &[u8]) -> &'static str {
    match json.first() {
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        Some(_) | None => "a number",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> (Option<String>, Code) {
        match parse(body.as_bytes(), 100) {
            Ok(_) => panic!("taken: {body}"),
            Err(malformed) => (malformed.id.map(|id| id.get().to_owned()), malformed.refusal.code),
        }
    }

    #[test]
    fn envelopes_that_are_not() {
        assert_eq!(refused("{").1, Code::ParseError);
        assert_eq!(refused("").1, Code::ParseError);
        assert_eq!(refused("[]").1, Code::InvalidRequest);
        assert_eq!(refused("3").1, Code::InvalidRequest);
        assert_eq!(refused(r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#).1, Code::InvalidRequest);
        assert_eq!(
            refused(r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#),
            (Some("1".into()), Code::InvalidRequest)
        );
        assert_eq!(refused(r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#), (None, Code::InvalidRequest));
        assert_eq!(refused(r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#).1, Code::InvalidRequest);
        assert_eq!(refused(r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":3}"#).1, Code::InvalidRequest);
        assert_eq!(
            refused(r#"{"jsonrpc":"2.0","id":"a","result":{},"error":{}}"#),
            (Some("\"a\"".into()), Code::InvalidRequest)
        );
        assert!(parse(b"{\"a\":\"\xff\"}", 100).is_err());
        // The fuzz target `envelope` found this body.
        let ignored = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"x\":{\"\xff\":1}}";
        assert_eq!(parse(ignored, 100).err().map(|malformed| malformed.refusal.code), Some(Code::ParseError));
    }

    #[test]
    fn envelopes_that_are() {
        for id in ["0", "-1", "\"x\"", "1.5", "18446744073709551616"] {
            let body =
                format!(r#" {{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"a":1.0}}}}"#);
            let Ok(Body::Single(Incoming::Message(message))) = parse(body.as_bytes(), 100) else {
                panic!("{id}")
            };
            assert_eq!(message.id.unwrap().get(), id);
            assert_eq!(message.params.unwrap().get(), r#"{"a":1.0}"#);
        }
        let answer = br#"{"jsonrpc":"2.0","id":"a","result":{"a":1.0}}"#;
        let Ok(Body::Single(Incoming::Response(answer))) = parse(answer, 100) else { panic!() };
        assert_eq!((answer.id.get(), answer.outcome.unwrap().get()), ("\"a\"", r#"{"a":1.0}"#));
    }
}
