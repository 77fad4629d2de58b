//! Numbers and JSON documents of a database as JSON values from which nothing is lost: a number that a 64-bit
//! floating-point number cannot hold exactly becomes a string.

use std::collections::HashSet;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// Largest whole number that every reader of JSON keeps exactly (RFC 8259, 6): 2^53 - 1.
const MOST_EXACT: u64 = (1 << 53) - 1;

/// Deepest document that is taken apart; a deeper one becomes a string.
const MOST_DEPTH: usize = 60;

/// Returns a whole number, as a string beyond 2^53 - 1.
pub fn whole(number: i64) -> Value {
    match number.unsigned_abs() <= MOST_EXACT {
        true => number.into(),
        false => number.to_string().into(),
    }
}

/// Returns a floating-point number, or its name: `NaN`, `Infinity`, `-Infinity`.
pub fn float(number: f64) -> Value {
    let name = || match (number.is_nan(), number > 0.0) {
        (true, _) => "NaN",
        (false, true) => "Infinity",
        (false, false) => "-Infinity",
    };
    serde_json::Number::from_f64(number).map_or_else(|| name().into(), Value::Number)
}

/// Returns a decimal number as a number if that is exact, else its text.
pub fn decimal(text: &str) -> Value {
    if let Ok(number) = text.parse::<i64>() {
        return whole(number);
    }
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    let exact = number.filter(|number| {
        let given = Digits::of(text);
        given.is_some() && given == Digits::of(&format!("{number:e}"))
    });
    exact.map_or_else(|| text.into(), float)
}

/// Significant digits of a decimal number, and the power of ten of the last.
#[derive(PartialEq)]
struct Digits(String, i64);

impl Digits {
    fn of(text: &str) -> Option<Self> {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let exponent = exponent.parse::<i64>().ok()? - i64::try_from(fraction.len()).ok()?;
        let digits = format!("{whole}{fraction}");
        let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |digits| ("-", digits));
        let digits = digits.trim_start_matches('0');
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let kept = digits.trim_end_matches('0');
        if kept.is_empty() {
            return Some(Self(String::new(), 0));
        }
        Some(Self(format!("{sign}{kept}"), exponent + (digits.len() - kept.len()) as i64))
    }
}

/// Returns a JSON document as a value, or its text where a value would lose something: a repeated member, a
/// depth over [`MOST_DEPTH`].
pub fn document(text: &str) -> Value {
    let raw = serde_json::from_str::<&RawValue>(text).ok();
    raw.and_then(|raw| exact(raw, MOST_DEPTH)).unwrap_or_else(|| text.into())
}

fn exact(raw: &RawValue, depth: usize) -> Option<Value> {
    let text = raw.get();
    match text.as_bytes().first()? {
        b'{' => {
            let members = serde_json::Deserializer::from_str(text).deserialize_map(Members).ok()?;
            let mut names = HashSet::new();
            let member = |(name, value): (String, &RawValue)| {
                let is_new = names.insert(name.clone());
                is_new.then_some((name, exact(value, depth.checked_sub(1)?)?))
            };
            members.into_iter().map(member).collect::<Option<_>>().map(Value::Object)
        }
        b'[' => {
            let items = serde_json::from_str::<Vec<&RawValue>>(text).ok()?;
            let item = |item| exact(item, depth.checked_sub(1)?);
            items.into_iter().map(item).collect::<Option<_>>().map(Value::Array)
        }
        b'-' | b'0'..=b'9' => Some(decimal(text)),
        _ => serde_json::from_str(text).ok(),
    }
}

/// Reads the members of an object, repeated ones too.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_exact_or_text() {
        for (text, expected) in [
            ("9007199254740991", json!(9007199254740991_i64)),
            ("-9007199254740992", json!("-9007199254740992")),
            ("123456789012345678901234567890", json!("123456789012345678901234567890")),
            ("0.1", json!(0.1)),
            ("-1.50", json!(-1.5)),
            ("0.00", json!(0.0)),
            ("100.00", json!(100.0)),
            ("1e3", json!(1000.0)),
            ("0.12345678901234567890", json!("0.12345678901234567890")),
            ("2.34567890123457", json!(2.34567890123457)),
            ("1e400", json!("1e400")),
            ("NaN", json!("NaN")),
            ("-Infinity", json!("-Infinity")),
        ] {
            assert_eq!(decimal(text), expected, "{text}");
        }
    }

    #[test]
    fn documents_keep_everything() {
        for (text, expected) in [
            (
                r#"{"a": [1, 2.50, null, true, "é\n"], "b": {}}"#,
                json!({"a": [1, 2.5, null, true, "é\n"], "b": {}}),
            ),
            (r#"{"a": 12345678901234567890}"#, json!({"a": "12345678901234567890"})),
            (r#"{"a": 1, "a": 2}"#, json!(r#"{"a": 1, "a": 2}"#)),
            ("\"text\"", json!("text")),
        ] {
            assert_eq!(document(text), expected, "{text}");
        }
        let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
        assert_eq!(document(&deep), json!(deep));
    }
}
