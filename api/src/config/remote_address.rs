//! Addresses and headers of remote servers, as REST or the configuration file give them. A mistake is the end
//! of a sentence that begins with the member's name. Egress rules are not checked here.

use axum::http::{HeaderName, HeaderValue};
use entity::Transport;
use proxy::egress::Url;

use crate::http::headers;

/// Reads the address of a server of this transport.
pub fn url(text: &str, transport: Transport) -> Result<Url, String> {
    let schemes = match transport {
        Transport::Websocket => ["wss", "ws"],
        Transport::StreamableHttp | Transport::Builtin | Transport::Stdio => ["https", "http"],
    };
    let url = address(text, &schemes)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "has a user or a password in it, which would be shown; put credentials into `headers`".to_owned()
        );
    }
    if url.fragment().is_some() {
        return Err("has a fragment (`#…`), which is never sent".to_owned());
    }
    Ok(url)
}

/// Reads an absolute address of one of these schemes. Browsers' rules (WHATWG URL) make a host of a path
/// (`http:///mcp`, `http:mcp`) and pass over blanks; here an address is taken as it is written.
pub fn address(text: &str, schemes: &[&str; 2]) -> Result<Url, String> {
    let wanted = || format!("is an address that begins with {}:// or {}://", schemes[0], schemes[1]);
    let (scheme, rest) = text.split_once("://").ok_or_else(wanted)?;
    if !schemes.iter().any(|wanted| scheme.eq_ignore_ascii_case(wanted)) {
        return Err(wanted());
    }
    let no_host = || "has no host: after :// a host name or address is wanted".to_owned();
    let authority = rest.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    if authority.rsplit('@').next().is_none_or(|host| host.is_empty() || host.starts_with(':')) {
        return Err(no_host());
    }
    if text.contains('\\') || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("has a blank, a control character or a `\\` in it: percent-encode it".to_owned());
    }
    let url = Url::parse(text).map_err(|error| format!("cannot be read: {error}"))?;
    if url.host_str().is_none_or(str::is_empty) { Err(no_host()) } else { Ok(url) }
}

/// Checks a header: name and value must be valid in HTTP, and the gateway or the connection must not set the
/// header itself. The value never stands in a message.
pub fn header(name: &str, value: &str) -> Result<(), String> {
    let shown = || name.chars().take(64).collect::<String>();
    let Ok(read) = HeaderName::from_bytes(name.as_bytes()) else {
        return Err(format!("has a name that cannot be one: `{}`", shown()));
    };
    if headers::is_reserved_upstream(&read) {
        return Err(format!("has `{}`, which the gateway sets itself", shown()));
    }
    if HeaderValue::from_str(value).is_err() {
        return Err(format!("has in `{}` what is not visible ASCII", shown()));
    }
    Ok(())
}

/// Returns the first name that stands twice, since `A` and `a` are one header.
pub fn twice<'a>(names: impl Iterator<Item = &'a String>) -> Option<&'a str> {
    let mut seen = std::collections::HashSet::new();
    names.map(String::as_str).find(|name| !seen.insert(name.to_ascii_lowercase()))
}

/// Returns true if two addresses belong to one origin: scheme, host and port.
pub fn same_origin(one: &str, other: &str) -> bool {
    match (Url::parse(one), Url::parse(other)) {
        (Ok(one), Ok(other)) => one.origin() == other.origin(),
        (Err(_), _) | (_, Err(_)) => false,
    }
}

/// Returns the address for the outbound HTTP client: a WebSocket begins as an HTTP request.
pub fn as_http(url: &Url) -> Url {
    let mut url = url.clone();
    let scheme = match url.scheme() {
        "ws" => "http",
        "wss" => "https",
        _ => return url,
    };
    url.set_scheme(scheme).expect("WebSocket and HTTP addresses have one form");
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, transport) in [
            ("https://mcp.example/mcp?x=1", Transport::StreamableHttp),
            ("HTTP://mcp.example:8080", Transport::StreamableHttp),
            ("wss://mcp.example/mcp", Transport::Websocket),
        ] {
            assert!(url(text, transport).is_ok(), "{text}");
        }
        for (text, transport, said) in [
            ("mcp.example/mcp", Transport::StreamableHttp, "https:// or http://"),
            ("file:///etc/passwd", Transport::StreamableHttp, "https:// or http://"),
            ("https://mcp.example/mcp", Transport::Websocket, "wss:// or ws://"),
            ("wss://mcp.example/mcp", Transport::StreamableHttp, "https:// or http://"),
            ("https://u:p@mcp.example", Transport::StreamableHttp, "`headers`"),
            ("https://u@mcp.example", Transport::StreamableHttp, "`headers`"),
            ("https://mcp.example/#x", Transport::StreamableHttp, "fragment"),
            ("http:mcp.example", Transport::StreamableHttp, "https:// or http://"),
            ("http:/mcp.example", Transport::StreamableHttp, "https:// or http://"),
            (" https://mcp.example", Transport::StreamableHttp, "https:// or http://"),
            ("https://", Transport::StreamableHttp, "no host"),
            ("http:///mcp", Transport::StreamableHttp, "no host"),
            ("http://///mcp.example/", Transport::StreamableHttp, "no host"),
            ("http://\\mcp", Transport::StreamableHttp, "no host"),
            ("http://?x", Transport::StreamableHttp, "no host"),
            ("http://:8080/mcp", Transport::StreamableHttp, "no host"),
            ("http://u@/mcp", Transport::StreamableHttp, "no host"),
            ("ws://", Transport::Websocket, "no host"),
            ("ws:///mcp", Transport::Websocket, "no host"),
            ("wss://#x", Transport::Websocket, "no host"),
            ("https://mcp.example:99999", Transport::StreamableHttp, "cannot be read"),
            ("https://mcp.exa\tmple", Transport::StreamableHttp, "a blank"),
            ("https://mcp.example\\x", Transport::StreamableHttp, "a blank"),
            ("https://mcp.example/ ", Transport::StreamableHttp, "a blank"),
        ] {
            let mistake = url(text, transport).unwrap_err();
            assert!(mistake.contains(said), "{text}: {mistake}");
        }
        let socket = url("wss://mcp.example:8443/a", Transport::Websocket).unwrap();
        assert_eq!(as_http(&socket).as_str(), "https://mcp.example:8443/a");
    }

    #[test]
    fn headers_that_can_be_given() {
        for (name, value) in [("Authorization", "Bearer x"), ("Cookie", "a=b"), ("X-Api-Key", "")] {
            assert_eq!(header(name, value), Ok(()), "{name}");
        }
        for name in ["Host", "content-length", "Transfer-Encoding", "CONNECTION", "Mcp-Session-Id", "mcp-x"] {
            assert!(header(name, "x").unwrap_err().contains("sets itself"), "{name}");
        }
        for (name, value) in [("X Y", "x"), ("", "x"), ("X:", "x"), ("X-A", "hunter2\r\nHost: evil")] {
            assert!(!header(name, value).unwrap_err().contains("hunter2"), "{name}");
        }
        let names = ["A".to_owned(), "B".to_owned(), "a".to_owned()];
        assert_eq!((twice(names.iter()), twice(names[..2].iter())), (Some("a"), None));
    }
}
