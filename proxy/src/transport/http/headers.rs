//! The headers of a request to a remote server: those of its registration, checked, and those that the
//! transport wants. Nothing of a caller's own is ever among them.

use std::collections::BTreeMap;

use protocol::mcp::{MODERN, header as names, method};
use serde::Deserialize;

use crate::egress::header::{self, HeaderMap, HeaderName, HeaderValue};
use crate::header_params::encode;

/// Headers of the connection or the transport, which a registration cannot set.
const RESERVED: [HeaderName; 17] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::EXPECT,
    HeaderName::from_static(names::LAST_EVENT_ID),
];
const RESERVED_BEGINNINGS: [&str; 2] = [names::OURS, "sec-websocket-"];

/// The headers of a registration as they are sent, or a sentence about the first that cannot be.
pub fn own(headers: &BTreeMap<String, String>) -> Result<HeaderMap, String> {
    let mut map = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let parsed = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| format!("{name:?} is not the name of a header"))?;
        let reserved = RESERVED.contains(&parsed)
            || RESERVED_BEGINNINGS.iter().any(|start| parsed.as_str().starts_with(start));
        if reserved {
            return Err(format!("the header {name:?} is the transport's own and cannot be set"));
        }
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| format!("the value of the header {name:?} holds what a header cannot"))?;
        value.set_sensitive(true);
        if map.insert(parsed, value).is_some() {
            return Err(format!("the header {name:?} is given twice"));
        }
    }
    Ok(map)
}

/// The headers of a modern request: version, method, name, mirrored parameters.
pub fn modern(asked: &str, params: &[u8], mirrored: &[(String, String)]) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(3 + mirrored.len());
    map.insert(names::PROTOCOL_VERSION, HeaderValue::from_static(MODERN));
    put(&mut map, names::METHOD, asked);
    if let Some(name) = name(asked, params) {
        put(&mut map, names::NAME, &name);
    }
    for (name, value) in mirrored {
        put(&mut map, name, value);
    }
    map
}

fn put(map: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) =
        (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&encode(value)))
    {
        map.insert(name, value);
    }
}

/// The value of `Mcp-Name`: the tool, prompt, resource or task that the request is about.
fn name(asked: &str, params: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    #[derive(Deserialize)]
    struct Located {
        uri: String,
    }
    #[derive(Deserialize)]
    struct OfTask {
        #[serde(rename = "taskId")]
        task: String,
    }
    match asked {
        method::TOOLS_CALL | method::PROMPTS_GET => {
            serde_json::from_slice::<Named>(params).ok().map(|params| params.name)
        }
        method::RESOURCES_READ => serde_json::from_slice::<Located>(params).ok().map(|params| params.uri),
        _ if asked.starts_with("tasks/") => {
            serde_json::from_slice::<OfTask>(params).ok().map(|params| params.task)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registration_may_set() {
        let own = |name: &str, value: &str| own(&BTreeMap::from([(name.to_owned(), value.to_owned())]));
        let map = own("Authorization", "Bearer secret").unwrap();
        assert_eq!(map["authorization"], "Bearer secret");
        assert!(!format!("{map:?}").contains("secret"));
        for name in ["Host", "content-length", "Mcp-Session-Id", "MCP-Name", "Connection", "TE", "Upgrade"] {
            let error = own(name, "x").unwrap_err();
            assert!(error.contains("the transport's own"), "{name}: {error}");
        }
        for name in ["Sec-WebSocket-Protocol", "Last-Event-ID", "a b", "", "a:b"] {
            assert!(own(name, "x").is_err(), "{name}");
        }
        let error = own("X-Key", "secret\r\nHost: x").unwrap_err();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn what_a_modern_request_says() {
        let name = |asked: &str, params: &str| {
            let map =
                modern(asked, params.as_bytes(), &[("mcp-param-Region".to_owned(), "münchen".to_owned())]);
            assert_eq!(
                (&map["mcp-method"], &map["mcp-protocol-version"]),
                (&asked.parse().unwrap(), &MODERN.parse().unwrap())
            );
            assert_eq!(map["mcp-param-region"], "=?base64?bcO8bmNoZW4=?=");
            map.get("mcp-name").map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(
            name("tools/call", r#"{"arguments":{"name":"no"},"name":"echo"}"#).as_deref(),
            Some("echo")
        );
        assert_eq!(name("prompts/get", r#"{"name":" ü"}"#).as_deref(), Some("=?base64?IMO8?="));
        assert_eq!(name("resources/read", r#"{"uri":"file:///x"}"#).as_deref(), Some("file:///x"));
        assert_eq!(name("tasks/get", r#"{"taskId":"7"}"#).as_deref(), Some("7"));
        assert_eq!(name("tools/list", r#"{"name":"x"}"#), None);
        assert_eq!(name("tools/call", "{}"), None);
    }
}
