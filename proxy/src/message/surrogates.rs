//! Halves of surrogate pairs in JSON text (`"\ud83d"`), which programs write that cut a text within a
//! character. The grammar allows them and strict readers refuse the whole message (RFC 8259, section 8.2).

use bytes::Bytes;
use memchr::memmem;

/// What stands for a character that is none.
const REPLACEMENT: &[u8] = br"\ufffd";
/// The length of an escape like `\ud83d`.
const ESCAPE: usize = 6;

/// Replaces each half that has no other half by U+FFFD. Text without one is returned as it is.
pub fn replaced(json: Bytes) -> Bytes {
    let mut out: Option<Vec<u8>> = None;
    let (mut copied, mut from) = (0, 0);
    while let Some(found) = memmem::find(&json[from..], br"\u") {
        let at = from + found;
        let is_escaped = json[from..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1;
        let Some(half) = half(&json[at..]).filter(|_| !is_escaped) else {
            from = at + 2;
            continue;
        };
        let paired = half < 0xdc00 && self::half(&json[at + ESCAPE..]).is_some_and(|low| low >= 0xdc00);
        from = at + if paired { 2 * ESCAPE } else { ESCAPE };
        if !paired {
            let out = out.get_or_insert_default();
            out.extend_from_slice(&json[copied..at]);
            out.extend_from_slice(REPLACEMENT);
            copied = from;
        }
    }
    match out {
        Some(mut out) => {
            out.extend_from_slice(&json[copied..]);
            out.into()
        }
        None => json,
    }
}

/// Returns the half of a pair that a text begins with as an escape.
fn half(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(br"\u")?.get(..4)?;
    let value = u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    (0xd800..0xe000).contains(&value).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_replaced_and_pairs_are_kept() {
        for (text, expected) in [
            (r#""\ud83d""#, r#""\ufffd""#),
            (r#""a\uDE00b\ud83d\ud83d\ude00\u00e9""#, r#""a\ufffdb\ufffd\ud83d\ude00\u00e9""#),
            (r#""\ud83d\ude00\ude00""#, r#""\ud83d\ude00\ufffd""#),
            (r#""\\ud83d""#, r#""\\ud83d""#),
            (r#""\\\ud83d""#, r#""\\\ufffd""#),
            (r#""\\u00\\ud83d\ud83d""#, r#""\\u00\\ud83d\ufffd""#),
            ("{}", "{}"),
        ] {
            let replaced = replaced(Bytes::copy_from_slice(text.as_bytes()));
            assert_eq!(std::str::from_utf8(&replaced).unwrap(), expected, "{text}");
            assert!(serde_json::from_slice::<serde_json::Value>(&replaced).is_ok(), "{text}");
        }
    }
}
