//! A line of the client: what kind of message it is, and of which era, as the gateway would judge it.

use axum::http::{HeaderMap, HeaderValue};
use bytes::Bytes;
use protocol::Refusal;
use protocol::jsonrpc::{self, Body, Incoming};
use protocol::mcp::{header as names, method};
use serde::Deserialize;
use serde_json::value::RawValue;

/// One line, and what was read of it.
pub struct Message {
    pub line: Bytes,
    pub kind: Kind,
    /// True if its `_meta` says so.
    says_modern: bool,
    /// The revision that its `_meta` names.
    pub revision: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The id is as it was written.
    Request {
        id: Box<str>,
        method: Box<str>,
    },
    Notification {
        method: Box<str>,
    },
    /// A request is not wanted any more; its id as it was written.
    Cancelled {
        request: Box<str>,
    },
    /// An answer to a question of the server.
    Response,
    /// The ids of its requests (revision 2025-03-26).
    Batch {
        ids: Vec<Box<str>>,
    },
}

impl Message {
    /// Reads a line, or says why not, and under which id.
    pub fn read(line: Bytes) -> Result<Message, (Option<Box<str>>, Refusal)> {
        let read = |kind| Message { line: line.clone(), kind, says_modern: false, revision: None };
        match jsonrpc::parse(&line, usize::MAX) {
            Err(malformed) => Err((malformed.id.map(|id| id.get().into()), malformed.refusal)),
            Ok(Body::Batch(elements)) => Ok(read(Kind::Batch { ids: requests(&elements) })),
            Ok(Body::Single(Incoming::Response(_))) => Ok(read(Kind::Response)),
            Ok(Body::Single(Incoming::Message(message))) => {
                let about = about(message.params);
                let method = Box::from(&*message.method);
                let kind = match message.id {
                    Some(id) => Kind::Request { id: id.get().into(), method },
                    None if message.method == method::CANCELLED => match cancelled(message.params) {
                        Some(request) => Kind::Cancelled { request },
                        None => Kind::Notification { method },
                    },
                    None => Kind::Notification { method },
                };
                let says_modern = about.version.is_some() || about.capabilities.is_some();
                let revision = about.version.and_then(|version| serde_json::from_str(version.get()).ok());
                Ok(Message { says_modern, revision, ..read(kind) })
            }
        }
    }

    /// Returns true if a message belongs to the modern era. What need not say it is judged by whether there is a
    /// session for it.
    pub fn is_modern(&self, has_session: bool) -> bool {
        let need_not_say = matches!(self.kind, Kind::Notification { .. });
        self.says_modern || need_not_say && !has_session
    }

    /// The ids that wait for an answer.
    pub fn ids(&self) -> Vec<&str> {
        match &self.kind {
            Kind::Request { id, .. } => vec![id],
            Kind::Batch { ids } => ids.iter().map(|id| &**id).collect(),
            Kind::Notification { .. } | Kind::Cancelled { .. } | Kind::Response => Vec::new(),
        }
    }

    pub fn method(&self) -> &str {
        match &self.kind {
            Kind::Request { method, .. } | Kind::Notification { method } => method,
            Kind::Cancelled { .. } => method::CANCELLED,
            Kind::Response | Kind::Batch { .. } => "",
        }
    }

    /// Its `params` as they were written.
    pub fn params(&self) -> &[u8] {
        match jsonrpc::parse(&self.line, usize::MAX) {
            Ok(Body::Single(Incoming::Message(message))) => {
                message.params.map(|params| params.get().as_bytes()).unwrap_or_default()
            }
            Ok(_) | Err(_) => &[],
        }
    }
}

#[derive(Deserialize, Default)]
struct About<'a> {
    #[serde(borrow, rename = "io.modelcontextprotocol/protocolVersion")]
    version: Option<&'a RawValue>,
    #[serde(borrow, rename = "io.modelcontextprotocol/clientCapabilities")]
    capabilities: Option<&'a RawValue>,
}

/// An unreadable message is for the gateway to refuse.
fn about(params: Option<&RawValue>) -> About<'_> {
    #[derive(Deserialize)]
    struct Params<'a> {
        #[serde(borrow, rename = "_meta")]
        meta: Option<&'a RawValue>,
    }
    let meta = params
        .and_then(|params| serde_json::from_str::<Params<'_>>(params.get()).ok())
        .and_then(|params| params.meta);
    meta.and_then(|meta| serde_json::from_str(meta.get()).ok()).unwrap_or_default()
}

fn cancelled(params: Option<&RawValue>) -> Option<Box<str>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Params<'a> {
        #[serde(borrow)]
        request_id: &'a RawValue,
    }
    let params: Params<'_> = serde_json::from_str(params?.get()).ok()?;
    Some(params.request_id.get().into())
}

fn requests(elements: &[&RawValue]) -> Vec<Box<str>> {
    let id = |element: &&RawValue| match jsonrpc::parse_message(element) {
        Ok(Incoming::Message(message)) => message.id.map(|id| id.get().into()),
        Ok(Incoming::Response(_)) => None,
        Err(malformed) => malformed.id.map(|id| id.get().into()),
    };
    elements.iter().filter_map(id).collect()
}

/// The headers that a body wants.
pub fn modern_headers(message: &Message, param_headers: &[(String, String)]) -> HeaderMap {
    let mut headers = proxy::http::modern_headers(message.method(), message.params(), param_headers);
    // One that the gateway does not speak is for the gateway to refuse.
    if let Some(revision) = message.revision.as_deref().and_then(|text| HeaderValue::from_str(text).ok()) {
        headers.insert(names::PROTOCOL_VERSION, revision);
    }
    headers
}

/// The error of a message whose id is null or missing.
pub fn unnamed_error(text: &[u8]) -> Option<Box<RawValue>> {
    #[derive(serde::Deserialize)]
    struct Unnamed<'a> {
        #[serde(borrow)]
        error: &'a RawValue,
    }
    let unnamed: Unnamed<'_> = serde_json::from_slice(text).ok()?;
    Some(unnamed.error.to_owned())
}

/// The code of the one error that a text is.
pub fn error_code(text: &Bytes) -> Option<i64> {
    #[derive(serde::Deserialize)]
    struct Shape {
        code: i64,
    }
    let error = unnamed_error(text)?;
    serde_json::from_str::<Shape>(error.get()).ok().map(|shape| shape.code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &'static str) -> Message {
        Message::read(Bytes::from_static(line.as_bytes())).ok().unwrap()
    }

    #[test]
    fn lines_are_told_apart() {
        let modern = read(
            r#"{"jsonrpc":"2.0","id":"a","method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"x"}}}"#,
        );
        assert!(modern.is_modern(true) && modern.revision.as_deref() == Some("x"));
        assert_eq!(modern.ids(), ["\"a\""]);
        let legacy =
            read(r#"{"jsonrpc":"2.0","id":0,"method":"tools/list","params":{"_meta":{"progressToken":1}}}"#);
        assert!(!legacy.is_modern(false) && legacy.ids() == ["0"]);
        assert_eq!(legacy.params(), br#"{"_meta":{"progressToken":1}}"#);
        let notice = read(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        assert!(notice.is_modern(false) && !notice.is_modern(true));
        let cancelled =
            read(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#);
        assert_eq!(cancelled.kind, Kind::Cancelled { request: "7".into() });
        let batch = read(r#"[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","method":"x"}]"#);
        assert_eq!(batch.ids(), ["1"]);
        assert_eq!(read(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).kind, Kind::Response);
        let (id, refusal) = Message::read(Bytes::from_static(b"{}")).err().unwrap();
        assert_eq!((id, refusal.code), (None, protocol::Code::InvalidRequest));
    }
}
