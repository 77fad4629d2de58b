//! Slugs, and the names under which a caller sees a server's tools: `slug__tool`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// Separator of slug and tool. A slug has no underscore, so the first separator decides.
pub const SEPARATOR: &str = "__";

/// Longest exposed name that MCP clients and model vendors accept (`^[A-Za-z0-9_-]{1,64}$`).
pub const MAX_EXPOSED: usize = 64;

/// A short local name: `[a-z][a-z0-9-]{0,19}`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Slug(Arc<str>);

#[derive(Debug, thiserror::Error)]
#[error("a slug is a lower-case letter and at most 19 more of a-z, 0-9 and '-'")]
pub struct InvalidSlug;

impl Slug {
    pub const PATTERN: &'static str = "^[a-z][a-z0-9-]{0,19}$";

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the text, shared instead of copied.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl FromStr for Slug {
    type Err = InvalidSlug;

    fn from_str(text: &str) -> Result<Self, InvalidSlug> {
        let starts = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
        let rest = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if starts && rest && text.len() <= 20 { Ok(Self(text.into())) } else { Err(InvalidSlug) }
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for Slug {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for Slug {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Slug {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Returns the part of an exposed name after `slug__`. Characters that clients refuse become `_`, and a
/// name that had to change or is too long ends in six hexadecimal digits of its SHA-256, so that two
/// different tools never share a name.
pub fn exposed_tail(slug: &Slug, tool: &str) -> String {
    let room = MAX_EXPOSED - slug.as_str().len() - SEPARATOR.len();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if tool.len() <= room && !tool.is_empty() && tool.bytes().all(plain) {
        return tool.to_owned();
    }
    let digest = Sha256::digest(tool.as_bytes());
    let kept: String =
        tool.chars().map(|c| if c.is_ascii() && plain(c as u8) { c } else { '_' }).take(room - 7).collect();
    format!("{kept}_{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2])
}

/// Returns the name under which callers of all servers list and call a tool: `slug__tail`.
pub fn exposed_tool(slug: &Slug, tool: &str) -> String {
    format!("{slug}{SEPARATOR}{}", exposed_tail(slug, tool))
}

/// Splits an exposed name at the first separator into slug and tail.
pub fn split_exposed(name: &str) -> Option<(&str, &str)> {
    name.split_once(SEPARATOR).filter(|(slug, tail)| !slug.is_empty() && !tail.is_empty())
}

/// Returns the URI under which callers of all servers read a resource: `slug+uri`; for `ui://` resources,
/// whose scheme means something to clients, `ui://slug/…`.
pub fn exposed_resource(slug: &Slug, uri: &str) -> String {
    match uri.strip_prefix(UI) {
        Some(rest) => format!("{UI}{slug}/{rest}"),
        None => format!("{slug}+{uri}"),
    }
}

/// Splits an exposed URI into the slug and the server's own URI. The caller checks that such a server
/// exists.
pub fn split_resource(exposed: &str) -> Option<(&str, Cow<'_, str>)> {
    match exposed.strip_prefix(UI) {
        Some(rest) => rest.split_once('/').map(|(slug, rest)| (slug, format!("{UI}{rest}").into())),
        None => exposed.split_once('+').map(|(slug, uri)| (slug, uri.into())),
    }
}

/// Scheme of user interfaces (extension `io.modelcontextprotocol/ui`).
pub const UI: &str = "ui://";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exposed_names_fit_and_stay_apart() {
        let slug: Slug = "time".parse().unwrap();
        assert_eq!(exposed_tail(&slug, "get_time"), "get_time");
        let dotted = exposed_tail(&slug, "a.b");
        let slashed = exposed_tail(&slug, "a/b");
        assert_ne!(dotted, slashed);
        let long = exposed_tail(&slug, &"é".repeat(200));
        assert!(slug.as_str().len() + SEPARATOR.len() + long.len() <= MAX_EXPOSED);
    }

    #[test]
    fn resources_keep_their_scheme_where_it_means_something() {
        let slug: Slug = "s".parse().unwrap();
        for uri in ["file:///a+b", "ui://host/page", "test://x"] {
            let exposed = exposed_resource(&slug, uri);
            let (found, own) = split_resource(&exposed).unwrap();
            assert_eq!((found, &*own), ("s", uri));
        }
        assert_eq!(exposed_resource(&slug, "ui://host/page"), "ui://s/host/page");
    }

    #[test]
    fn a_slug_is_narrow() {
        for bad in ["", "A", "1a", "a_b", "a b", "abcdefghijklmnopqrstu", "ä"] {
            assert!(bad.parse::<Slug>().is_err(), "{bad:?}");
        }
        assert!("abcdefghij-123456789".parse::<Slug>().is_ok());
    }
}
