//! Values of PostgreSQL in their text form as JSON, by type. A type that is not known here stays text.

use serde_json::Value;
use tokio_postgres::types::{Kind, Type};

use crate::sql::json::{base64, decimal, document, float, whole};

/// Returns a value as JSON.
pub fn json(text: &str, of: &Type) -> Value {
    let as_text = || Value::from(text);
    match of.kind() {
        Kind::Domain(base) => return json(text, base),
        // Boxes stand between semicolons.
        Kind::Array(_) if *of == Type::BOX_ARRAY => return as_text(),
        Kind::Array(element) => return array(text, element).unwrap_or_else(as_text),
        _ => {}
    }
    match *of {
        Type::BOOL => match text {
            "t" => true.into(),
            "f" => false.into(),
            _ => as_text(),
        },
        Type::INT2 | Type::INT4 | Type::INT8 | Type::OID => text.parse().map_or_else(|_| as_text(), whole),
        Type::FLOAT4 | Type::FLOAT8 => text.parse().map_or_else(|_| as_text(), float),
        Type::NUMERIC => decimal(text),
        Type::JSON | Type::JSONB => document(text),
        Type::BYTEA => bytes(text).map_or_else(as_text, |bytes| base64(&bytes).into()),
        Type::TIMESTAMP | Type::TIMESTAMPTZ => moment(text).into(),
        _ => as_text(),
    }
}

/// Reads `\x` and hexadecimal digits.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x")?;
    let pair = |at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    (0..digits.len()).step_by(2).map(pair).collect()
}

/// Returns the form of RFC 3339 of `2026-01-02 03:04:05.6+00`. Infinity and years before Christ stay as they are.
fn moment(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_digit()) && !text.ends_with("BC");
    let Some((date, time)) = text.split_once(' ').filter(|_| is_plain) else { return text.to_owned() };
    // An offset has two digits of hours, and minutes only where they are not zero.
    let has_hours_only = time.len() > 3 && matches!(time.as_bytes()[time.len() - 3], b'+' | b'-');
    format!("{date}T{time}{}", if has_hours_only { ":00" } else { "" })
}

/// Reads `{1,NULL,"a b",{2}}`. Returns none for other forms, such as bounds that do not begin at 1.
fn array(text: &str, element: &Type) -> Option<Value> {
    let mut reader = ArrayReader { rest: text };
    let value = reader.array(element)?;
    reader.rest.is_empty().then_some(value)
}

struct ArrayReader<'a> {
    rest: &'a str,
}

impl ArrayReader<'_> {
    fn array(&mut self, element: &Type) -> Option<Value> {
        self.take('{')?;
        let mut items = Vec::new();
        if self.take('}').is_some() {
            return Some(Value::Array(items));
        }
        loop {
            items.push(match self.rest.chars().next()? {
                '{' => self.array(element)?,
                '"' => json(&self.quoted()?, element),
                _ => self.plain(element)?,
            });
            if self.take('}').is_some() {
                return Some(Value::Array(items));
            }
            self.take(',')?;
        }
    }

    fn take(&mut self, expected: char) -> Option<()> {
        self.rest = self.rest.strip_prefix(expected)?;
        Some(())
    }

    fn plain(&mut self, element: &Type) -> Option<Value> {
        let end = self.rest.find([',', '}'])?;
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(if text == "NULL" { Value::Null } else { json(text, element) })
    }

    fn quoted(&mut self) -> Option<String> {
        self.take('"')?;
        let (mut text, mut is_escaped) = (String::new(), false);
        for (at, character) in self.rest.char_indices() {
            match character {
                '\\' if !is_escaped => is_escaped = true,
                '"' if !is_escaped => {
                    self.rest = &self.rest[at + 1..];
                    return Some(text);
                }
                character => {
                    text.push(character);
                    is_escaped = false;
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json as j;

    use super::*;

    #[test]
    fn texts_become_json_by_type() {
        for (of, text, expected) in [
            (Type::BOOL, "t", j!(true)),
            (Type::INT8, "9007199254740993", j!("9007199254740993")),
            (Type::OID, "4294967295", j!(4294967295_u32)),
            (Type::FLOAT4, "0.1", j!(0.1)),
            (Type::FLOAT8, "NaN", j!("NaN")),
            (Type::FLOAT8, "-Infinity", j!("-Infinity")),
            (Type::NUMERIC, "12.30", j!(12.3)),
            (Type::BYTEA, "\\x0001ff", j!("AAH/")),
            (Type::BYTEA, "\\001", j!("\\001")),
            (Type::JSONB, "{\"a\": 1}", j!({"a": 1})),
            (Type::TIMESTAMPTZ, "2026-01-02 03:04:05.6+00", j!("2026-01-02T03:04:05.6+00:00")),
            (Type::TIMESTAMPTZ, "2026-01-02 03:04:05+05:30", j!("2026-01-02T03:04:05+05:30")),
            (Type::TIMESTAMP, "2026-01-02 03:04:05", j!("2026-01-02T03:04:05")),
            (Type::TIMESTAMP, "infinity", j!("infinity")),
            (Type::TIMESTAMP, "0044-03-15 00:00:00 BC", j!("0044-03-15 00:00:00 BC")),
            (Type::DATE, "2026-01-02", j!("2026-01-02")),
            (Type::MONEY, "$1.00", j!("$1.00")),
            (Type::INT4_ARRAY, "{}", j!([])),
            (Type::INT4_ARRAY, "{{1,2},{3,NULL}}", j!([[1, 2], [3, null]])),
            (Type::INT4_ARRAY, "[0:1]={1,2}", j!("[0:1]={1,2}")),
            (Type::TEXT_ARRAY, r#"{a,"NULL","b,}\"\\",NULL,""}"#, j!(["a", "NULL", "b,}\"\\", null, ""])),
            (Type::JSONB_ARRAY, r#"{"{\"a\": [1]}"}"#, j!([{"a": [1]}])),
            (Type::INT2_VECTOR, "1 2", j!("1 2")),
            (Type::TEXT_ARRAY, "{a", j!("{a")),
        ] {
            assert_eq!(json(text, &of), expected, "{of}: {text}");
        }
    }
}
