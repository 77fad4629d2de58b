//! Host of a request: the header `Host` (RFC 9110, section 7.2), or the authority of an absolute request
//! target (RFC 9112, section 3.2.2). Knows its form, not which hosts are allowed.

use axum::http::{HeaderMap, Uri, header};
use protocol::{Code, Refusal};

use crate::http::headers;

/// `name` or `name:port`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Host<'a> {
    /// The host as it was sent.
    pub text: &'a str,
    /// The host without the port; an IPv6 address is in brackets.
    pub name: &'a str,
}

impl<'a> Host<'a> {
    /// Reads `uri-host [ ":" port ]` (RFC 9110, section 7.2); a given port is 1 to 65535.
    pub fn parse(text: &'a str) -> Option<Self> {
        let end = match text.strip_prefix('[') {
            Some(rest) => rest.find(']')? + 2,
            None => text.find(':').unwrap_or(text.len()),
        };
        let (name, port) = text.split_at(end);
        let in_brackets = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let is_name = match in_brackets {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !name.is_empty() && name.bytes().all(may_stand_in_a_name),
        };
        (is_name && (port.is_empty() || is_port(&port[1..]))).then_some(Self { text, name })
    }
}

/// Returns true for letters, digits, `.`, `-` and `_` (RFC 3986, section 3.2.2, allows more that no resolver
/// knows).
fn may_stand_in_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}

fn is_port(text: &str) -> bool {
    let digits = (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    digits && text.parse::<u16>().is_ok_and(|port| port != 0)
}

/// Finds the host of a request.
///
/// # Errors
/// Refuses a request without a host, with several, and with a malformed one (RFC 9112, section 3.2).
pub fn named<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Result<Host<'a>, Refusal> {
    let header = headers::single(headers, &header::HOST)?;
    let target = uri.authority().map(|authority| authority.as_str());
    let refuse = |reason| Refusal::new(Code::BadRequest, reason).rule("RFC 9112, section 3.2");
    let text = match (header, target) {
        (Some(header), target) => {
            let text = header.to_str().map_err(|_| refuse("the header Host is not text"))?;
            if target.is_some_and(|target| !target.eq_ignore_ascii_case(text)) {
                return Err(refuse(
                    "the header Host and the address in the request line name different hosts",
                ));
            }
            text
        }
        (None, Some(target)) => target,
        (None, None) => return Err(refuse("the request has no Host header")),
    };
    Host::parse(text).ok_or_else(|| {
        refuse("the header Host is not a host name or address with at most a port")
            .hint("send `Host: name` or `Host: name:port`, without a user, and with a port from 1 to 65535")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_host() {
        for (text, name) in [
            ("localhost", "localhost"),
            ("LOCALHOST:8100", "LOCALHOST"),
            ("127.0.0.1:1", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("[::1]:65535", "[::1]"),
            ("my_service.internal:080", "my_service.internal"),
        ] {
            assert_eq!(Host::parse(text), Some(Host { text, name }), "{text}");
        }
        for bad in [
            "",
            ":",
            ":80",
            "localhost:",
            "localhost:abc",
            "localhost:0",
            "localhost:99999",
            "localhost:+1",
            "localhost:1:2",
            "localhost: 80",
            "user@localhost",
            "user:pass@localhost:80",
            "localhost@evil:80",
            "::1",
            "[::1",
            "[::1]x",
            "[::1]:",
            "[localhost]",
            "[]",
            "a b",
            "localhost/",
            "localhost?x",
            "localhost#x",
            "loc%61lhost",
            "a,b",
            "localhost\\",
        ] {
            assert_eq!(Host::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_request_names_one_host() {
        let with = |hosts: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, host.parse().unwrap());
            }
            headers
        };
        let path: Uri = "/mcp".parse().unwrap();
        let whole: Uri = "http://localhost:8100/mcp".parse().unwrap();
        assert_eq!(named(&with(&["a"]), &path).unwrap().name, "a");
        assert_eq!(named(&with(&["LocalHost:8100"]), &whole).unwrap().name, "LocalHost");
        assert_eq!(named(&with(&[]), &whole).unwrap().text, "localhost:8100");
        for (headers, uri) in [
            (with(&[]), &path),
            (with(&["a", "a"]), &path),
            (with(&["a", "b"]), &path),
            (with(&["a"]), &whole),
        ] {
            assert_eq!(named(&headers, uri).unwrap_err().code, Code::BadRequest, "{headers:?} {uri}");
        }
    }
}
