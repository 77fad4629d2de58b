//! Media type of an answer (RFC 9110, 8.3) and the text that its bytes are: the charset is taken from a byte
//! order mark, the header, the document, or found (WHATWG Encoding, HTML 13.2.3).

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

/// Bytes in which a document says its charset.
const PRESCAN: usize = 1024;

/// Value of `Content-Type`.
#[derive(Clone, Debug, PartialEq)]
pub struct Media {
    /// Type and subtype in lower case; empty when the answer has none.
    pub essence: String,
    pub charset: Option<String>,
}

impl Media {
    pub fn parse(value: &[u8]) -> Self {
        let text = String::from_utf8_lossy(value);
        let mut parts = text.split(';');
        let essence: String = parts.next().unwrap_or_default().trim().chars().take(100).collect();
        let charset = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            let value = value.trim().trim_matches(['"', '\'']);
            (name.trim().eq_ignore_ascii_case("charset") && !value.is_empty()).then(|| value.to_owned())
        });
        Self { essence: essence.to_ascii_lowercase(), charset }
    }

    /// Returns whether a page of this type is read: text, JSON, XML, or no type at all.
    pub fn is_text(&self) -> bool {
        let essence = self.essence.as_str();
        let of_application = essence.strip_prefix("application/").is_some_and(|name| {
            matches!(name, "json" | "xml") || name.ends_with("+json") || name.ends_with("+xml")
        });
        essence.is_empty() || essence.starts_with("text/") || of_application
    }

    pub fn is_html(&self) -> bool {
        matches!(self.essence.as_str(), "text/html" | "application/xhtml+xml")
    }

    fn is_xml(&self) -> bool {
        self.essence.ends_with("/xml") || self.essence.ends_with("+xml")
    }
}

/// Text of an answer.
pub struct Decoded {
    pub text: String,
    pub charset: &'static str,
    /// True if bytes that mean nothing in this charset became U+FFFD.
    pub replaced: bool,
}

/// Decodes bytes; none when they are no text.
pub fn decode(bytes: &[u8], media: &Media) -> Option<Decoded> {
    let charset = Encoding::for_bom(bytes)
        .map(|(encoding, _)| encoding)
        .or_else(|| Encoding::for_label(media.charset.as_deref()?.as_bytes()))
        .or_else(|| named_in(bytes, media))
        .unwrap_or(if std::str::from_utf8(bytes).is_ok() { UTF_8 } else { WINDOWS_1252 });
    let (text, charset, replaced) = charset.decode(bytes);
    (!text.contains('\0')).then(|| Decoded { text: text.into_owned(), charset: charset.name(), replaced })
}

/// Returns the charset that a document names in its first bytes.
fn named_in(bytes: &[u8], media: &Media) -> Option<&'static Encoding> {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(PRESCAN)]).to_ascii_lowercase();
    let label = if media.is_html() || media.essence.is_empty() {
        let metas = head.split("<meta").skip(1).map(|rest| rest.split('>').next().unwrap_or_default());
        metas.filter_map(|attributes| value_of(attributes, "charset")).next()
    } else {
        None
    };
    let is_xml = media.is_xml() || media.essence.is_empty();
    let label = label.or_else(|| {
        let declaration = head.strip_prefix("<?xml").filter(|_| is_xml)?;
        value_of(declaration.split("?>").next()?, "encoding")
    })?;
    // A document that can be read so far is not in UTF-16.
    Encoding::for_label(label.as_bytes())
        .map(|encoding| if encoding == UTF_16BE || encoding == UTF_16LE { UTF_8 } else { encoding })
}

/// Returns the value behind `name=`, with or without quotes.
fn value_of<'a>(attributes: &'a str, name: &str) -> Option<&'a str> {
    attributes.match_indices(name).find_map(|(at, _)| {
        let value = attributes[at + name.len()..].trim_start().strip_prefix('=')?.trim_start();
        let value = value.trim_start_matches(['"', '\'']);
        let end = value.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ';' | '/' | '>'));
        Some(&value[..end.unwrap_or(value.len())]).filter(|value| !value.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_are_read() {
        for (value, essence, charset, is_text) in [
            ("text/html; charset=ISO-8859-1", "text/html", Some("ISO-8859-1"), true),
            ("Text/HTML;Charset=\"utf-8\"", "text/html", Some("utf-8"), true),
            ("application/ld+json", "application/ld+json", None, true),
            ("application/xhtml+xml;x=y", "application/xhtml+xml", None, true),
            ("application/pdf", "application/pdf", None, false),
            ("image/svg+xml", "image/svg+xml", None, false),
            ("", "", None, true),
        ] {
            let media = Media::parse(value.as_bytes());
            let expected = Media { essence: essence.to_owned(), charset: charset.map(str::to_owned) };
            assert_eq!((media.is_text(), media), (is_text, expected), "{value}");
        }
    }

    #[test]
    fn the_charset_is_found() {
        let latin = b"caf\xe9";
        for (bytes, kind, charset, text) in [
            (latin.as_slice(), "text/plain; charset=latin1", "windows-1252", "café"),
            (latin, "text/plain", "windows-1252", "café"),
            ("café".as_bytes(), "text/plain", "UTF-8", "café"),
            (b"\xef\xbb\xbfx", "text/plain; charset=latin1", "UTF-8", "x"),
            (b"\xff\xfex\0", "text/plain", "UTF-16LE", "x"),
            (b"<META charset='ISO-8859-2'>\xb1", "text/html", "ISO-8859-2", "<META charset='ISO-8859-2'>ą"),
            (
                b"<meta http-equiv=\"content-type\" content=\"text/html; charset=koi8-r\">\xc1",
                "text/html",
                "KOI8-R",
                "<meta http-equiv=\"content-type\" content=\"text/html; charset=koi8-r\">а",
            ),
            (
                b"<?xml version='1.0' encoding='iso-8859-5'?>\xd0",
                "application/xml",
                "ISO-8859-5",
                "<?xml version='1.0' encoding='iso-8859-5'?>а",
            ),
            (b"<meta charset=utf-16>x", "text/html", "UTF-8", "<meta charset=utf-16>x"),
            (b"<meta charset=nothing>x", "text/html", "UTF-8", "<meta charset=nothing>x"),
        ] {
            let decoded = decode(bytes, &Media::parse(kind.as_bytes())).expect("text");
            assert_eq!((decoded.charset, &*decoded.text), (charset, text));
            assert!(!decoded.replaced, "{text}");
        }
        assert!(decode(b"a\0b", &Media::parse(b"text/plain")).is_none());
        assert!(decode(b"a\xff", &Media::parse(b"text/plain; charset=utf-8")).expect("text").replaced);
    }
}
