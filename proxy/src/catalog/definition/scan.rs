//! Properties of JSON text that make a client refuse the whole message: depth, lone surrogates, and very
//! long numbers.

/// Most levels of objects and arrays in a definition. With the message around it, it stays below the 128 of
/// clients that read with serde_json.
const MAX_DEPTH: usize = 120;

/// Most digits of a number: Python reads no longer integers.
const MAX_DIGITS: usize = 4300;

/// Checks text that is known to be JSON, in one pass and without recursion.
pub fn check(json: &str) -> Result<(), String> {
    let bytes = json.as_bytes();
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => at = string(bytes, at)?,
            b'-' | b'0'..=b'9' => at = number(bytes, at)?,
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(format!("it is nested deeper than {MAX_DEPTH} levels"));
        }
    }
    Ok(())
}

/// Returns the position after a string's closing quotation mark.
fn string(bytes: &[u8], mut at: usize) -> Result<usize, String> {
    while let Some(next) = memchr::memchr2(b'"', b'\\', &bytes[at..]) {
        at += next;
        if bytes[at] == b'"' {
            return Ok(at + 1);
        }
        at += match surrogate(bytes, at) {
            None => 2,
            // A high surrogate and a low one are one character.
            Some(0xD8..=0xDB) if matches!(surrogate(bytes, at + 6), Some(0xDC..=0xDF)) => 12,
            Some(_) => return Err("it has text with half of a surrogate pair, which is no Unicode".into()),
        };
    }
    Ok(bytes.len())
}

/// Returns the first byte of a surrogate that is written as `\uD8..` to `\uDF..` here.
fn surrogate(bytes: &[u8], at: usize) -> Option<u8> {
    let escape = bytes.get(at..at + 4)?.strip_prefix(br"\u")?;
    let first = u8::from_str_radix(str::from_utf8(escape).ok()?, 16).ok()?;
    matches!(first, 0xD8..=0xDF).then_some(first)
}

/// Returns the position after a number.
fn number(bytes: &[u8], at: usize) -> Result<usize, String> {
    let part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
    let length = bytes[at..].iter().take_while(|byte| part(byte)).count();
    match length < MAX_DIGITS {
        true => Ok(at + length),
        false => Err(format!("it has a number of more than {MAX_DIGITS} digits")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_surrogates_and_digits() {
        let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        let digits = |count: usize| format!("[{}]", "9".repeat(count));
        for (json, ok) in [
            (nested(MAX_DEPTH), true),
            (nested(MAX_DEPTH + 1), false),
            (format!("[{}]", vec!["[]"; 1000].join(",")), true),
            (r#"{"a":"[[\"{{"}"#.into(), true),
            (r#""\ud83d\ude00 \\ud83d""#.into(), true),
            (r#""\ud83d""#.into(), false),
            (r#""\uDE00\ud83d""#.into(), false),
            (r#""\ud83d\ud83d\ude00""#.into(), false),
            (digits(MAX_DIGITS), true),
            (digits(MAX_DIGITS + 1), false),
        ] {
            assert_eq!(check(&json).is_ok(), ok, "{}", &json[..json.len().min(40)]);
        }
    }
}
