//! JSON-RPC message of the client: its kind, and its era as the gateway would judge it.

use bytes::Bytes;
use protocol::Refusal;
use protocol::jsonrpc::{self, Body, Incoming};
use protocol::mcp::{header, method};
use proxy::egress::header::{HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A line, and the parts of it that were read.
pub struct Message {
    pub line: Bytes,
    /// The `params` as they were written; empty without them.
    pub params: Bytes,
    pub kind: Kind,
    /// The ids that wait for an answer, as they were written.
    pub ids: Vec<Box<str>>,
    /// Empty for a response and for a batch.
    pub method: Box<str>,
    /// Has the members of `_meta` that every modern request has.
    says_modern: bool,
    /// The revision that `_meta` names.
    revision: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    Request,
    Notification,
    /// Cancels a request; the id is as it was written.
    Cancelled {
        request: Box<str>,
    },
    /// Answers a request of the server.
    Response,
    /// Several messages (revision 2025-03-26).
    Batch,
}

impl Message {
    /// Reads a line.
    ///
    /// # Errors
    /// The refusal, and the id for it.
    pub fn read(line: Bytes) -> Result<Message, (Option<Box<str>>, Refusal)> {
        let read = |kind, ids| Message {
            line: line.clone(),
            params: Bytes::new(),
            kind,
            ids,
            method: "".into(),
            says_modern: false,
            revision: None,
        };
        match jsonrpc::parse(&line, usize::MAX) {
            Err(malformed) => Err((malformed.id.map(|id| id.get().into()), malformed.refusal)),
            Ok(Body::Batch(elements)) => Ok(read(Kind::Batch, requests(&elements))),
            Ok(Body::Single(Incoming::Response(_))) => Ok(read(Kind::Response, Vec::new())),
            Ok(Body::Single(Incoming::Message(message))) => {
                let params = params(message.params);
                let kind = match (message.id, params.request_id) {
                    (Some(_), _) => Kind::Request,
                    (None, Some(request)) if message.method == method::CANCELLED => {
                        Kind::Cancelled { request: request.get().into() }
                    }
                    (None, _) => Kind::Notification,
                };
                let meta = params.meta.and_then(|meta| serde_json::from_str::<Meta<'_>>(meta.get()).ok());
                let meta = meta.unwrap_or_default();
                let written = message.params.map_or(&[][..], |params| params.get().as_bytes());
                Ok(Message {
                    params: line.slice_ref(written),
                    method: message.method.into(),
                    says_modern: meta.version.is_some() || meta.capabilities.is_some(),
                    revision: meta.version.and_then(|version| serde_json::from_str(version.get()).ok()),
                    ..read(kind, message.id.map(|id| id.get().into()).into_iter().collect())
                })
            }
        }
    }

    /// Returns whether the message belongs to the modern era. A notification, which need not say so, belongs
    /// to the legacy era where there is a session.
    pub fn is_modern(&self, has_session: bool) -> bool {
        self.says_modern || self.kind == Kind::Notification && !has_session
    }

    /// Returns the headers of a modern message: revision, method, name and the given parameters.
    pub fn headers(&self, params: &[(String, String)]) -> HeaderMap {
        let mut headers = proxy::http::modern_headers(&self.method, &self.params, params);
        // The gateway refuses a revision that it does not speak.
        if let Some(Ok(revision)) = self.revision.as_deref().map(HeaderValue::from_str) {
            headers.insert(header::PROTOCOL_VERSION, revision);
        }
        headers
    }
}

#[derive(Deserialize, Default)]
struct Meta<'a> {
    #[serde(borrow, rename = "io.modelcontextprotocol/protocolVersion")]
    version: Option<&'a RawValue>,
    #[serde(borrow, rename = "io.modelcontextprotocol/clientCapabilities")]
    capabilities: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct Params<'a> {
    #[serde(borrow, rename = "_meta")]
    meta: Option<&'a RawValue>,
    #[serde(borrow, rename = "requestId")]
    request_id: Option<&'a RawValue>,
}

/// Reads `params`; those that cannot be read are for the gateway to refuse.
fn params(params: Option<&RawValue>) -> Params<'_> {
    params.and_then(|params| serde_json::from_str(params.get()).ok()).unwrap_or_default()
}

/// Returns the ids of the requests in a batch.
fn requests(elements: &[&RawValue]) -> Vec<Box<str>> {
    let id = |element: &&RawValue| match jsonrpc::parse_message(element) {
        Ok(Incoming::Message(message)) => message.id.map(|id| id.get().into()),
        Ok(Incoming::Response(_)) => None,
        Err(malformed) => malformed.id.map(|id| id.get().into()),
    };
    elements.iter().filter_map(id).collect()
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
        assert_eq!(modern.ids, [Box::<str>::from("\"a\"")]);
        let legacy =
            read(r#"{"jsonrpc":"2.0","id":0,"method":"tools/list","params":{"_meta":{"progressToken":1}}}"#);
        assert!(!legacy.is_modern(false) && legacy.ids == [Box::<str>::from("0")]);
        assert_eq!(legacy.params, &br#"{"_meta":{"progressToken":1}}"#[..]);
        let notice = read(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        assert!(notice.is_modern(false) && !notice.is_modern(true));
        let cancelled =
            read(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#);
        assert_eq!(cancelled.kind, Kind::Cancelled { request: "7".into() });
        let batch = read(r#"[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","method":"x"}]"#);
        assert_eq!(batch.ids, [Box::<str>::from("1")]);
        assert_eq!(read(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).kind, Kind::Response);
        let (id, refusal) = Message::read(Bytes::from_static(b"{}")).err().unwrap();
        assert_eq!((id, refusal.code), (None, protocol::Code::InvalidRequest));
    }
}
