//! Replacement of one string inside raw JSON that keeps every other byte.

use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Raw JSON in three pieces: before the replaced value, the value, and after it.
#[derive(Clone, Copy, Debug)]
pub struct Spliced<'a> {
    pub head: &'a str,
    pub tail: &'a str,
}

/// Cuts `whole` around `part`, which must be a slice of it.
pub fn around<'a>(whole: &'a str, part: &str) -> Spliced<'a> {
    let start = (part.as_ptr() as usize)
        .checked_sub(whole.as_ptr() as usize)
        .filter(|start| start + part.len() <= whole.len())
        .expect("the part was borrowed from the whole");
    Spliced { head: &whole[..start], tail: &whole[start + part.len()..] }
}

/// Returns whether this string, of ASCII letters and `_`, may be somewhere in raw JSON, at less cost than
/// parsing. Letters can be written with escapes; hardly anybody does.
pub fn may_have(json: &[u8], text: &str) -> bool {
    let letter = |at: usize| matches!(json.get(at + 4), Some(b'4'..=b'7'));
    memmem::find(json, format!("\"{text}\"").as_bytes()).is_some()
        || memmem::find_iter(json, br"\u00").any(letter)
}

/// Naming member of a list item: `name`, `uri` or `uriTemplate`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key {
    Name,
    Uri,
    UriTemplate,
}

/// Reads the naming member of an item: its decoded text, and the cut around its raw form. Refuses an item
/// without one, or with two, and returns the reason.
pub fn named(item: &RawValue, key: Key) -> Result<(String, Spliced<'_>), String> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        name: Option<&'a RawValue>,
        #[serde(borrow)]
        uri: Option<&'a RawValue>,
        #[serde(borrow, rename = "uriTemplate")]
        uri_template: Option<&'a RawValue>,
    }
    let members: Named<'_> = serde_json::from_str(item.get()).map_err(|error| error.to_string())?;
    let raw = match key {
        Key::Name => members.name,
        Key::Uri => members.uri,
        Key::UriTemplate => members.uri_template,
    }
    .ok_or_else(|| format!("{key:?} is missing"))?;
    let text: String = serde_json::from_str(raw.get()).map_err(|_| format!("{key:?} is not a string"))?;
    Ok((text, around(item.get(), raw.get())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_seen_however_it_is_written() {
        for (json, seen) in [
            (r#"{"_meta":1}"#, true),
            (r#"{"\u005fmeta":1}"#, true),
            (r#"{"_met\u0061":1}"#, true),
            (r#"{"a":"\u00e9_meta"}"#, false),
            (r#"{"a":"\u00"#, false),
        ] {
            assert_eq!(may_have(json.as_bytes(), "_meta"), seen, "{json}");
        }
    }

    #[test]
    fn only_the_name_changes() {
        let raw: &RawValue =
            serde_json::from_str(r#"{"x": 1.0, "name" : "a\u0062", "n":{"name":"c"}}"#).unwrap();
        let (name, cut) = named(raw, Key::Name).unwrap();
        assert_eq!(name, "ab");
        assert_eq!(
            format!("{}\"s__ab\"{}", cut.head, cut.tail),
            r#"{"x": 1.0, "name" : "s__ab", "n":{"name":"c"}}"#
        );
        assert!(named(serde_json::from_str(r#"{"name":3}"#).unwrap(), Key::Name).is_err());
        assert!(named(serde_json::from_str(r#"{"name":"a","name":"b"}"#).unwrap(), Key::Name).is_err());
    }
}
