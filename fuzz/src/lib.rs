//! What several targets use: JSON that is made, and a second, slower reading of JSON to compare with.
//! The reading shares no code with the gateway except serde_json's tokens.

use std::fmt;

use arbitrary::{Result, Unstructured};
use serde_json::value::RawValue;

/// An input as text where it begins as a hand-written seed does, else JSON that is made of it.
pub fn text(data: &[u8], words: &[&str]) -> Option<String> {
    match data.first()? {
        b'{' | b'[' | b' ' => String::from_utf8(data.to_vec()).ok(),
        _ => object(&mut Unstructured::new(&data[1..]), words, 4).ok(),
    }
}

/// A JSON object with any white space, escapes, numbers, and members that may be given twice.
pub fn object(u: &mut Unstructured<'_>, words: &[&str], depth: usize) -> Result<String> {
    let mut out = String::from("{");
    for index in 0..u.int_in_range(0..=7)? {
        if index > 0 {
            out.push(',');
        }
        out += space(u)?;
        out += &string(u, words)?;
        out += space(u)?;
        out.push(':');
        out += space(u)?;
        out += &value(u, words, depth.saturating_sub(1))?;
        out += space(u)?;
    }
    out.push('}');
    Ok(out)
}

/// Any JSON value.
pub fn value(u: &mut Unstructured<'_>, words: &[&str], depth: usize) -> Result<String> {
    Ok(match u.int_in_range(0..=9)? {
        0..=3 if depth > 0 => object(u, words, depth)?,
        4 if depth > 0 => {
            let mut items = Vec::new();
            for _ in 0..u.int_in_range(0..=4)? {
                items.push(value(u, words, depth - 1)?);
            }
            format!("[{}]", items.join(","))
        }
        5 => u.choose(&["null", "true", "false", "{}", "[]", " [ ]", "\"\""])?.to_string(),
        6 => number(u)?,
        7 => u.choose(NUMBERS)?.to_string(),
        _ => string(u, words)?,
    })
}

const NUMBERS: &[&str] = &[
    "-32002",
    "-32042",
    "-32021",
    "-32020",
    "-32022",
    "-32050",
    "-32601",
    "1.0",
    "-0",
    "1e3",
    "1E-400",
    "18446744073709551616",
    "9007199254740993",
    "9007199254740992.0",
    "0.1e1",
    "1e400",
];

/// A number of JSON.
pub fn number(u: &mut Unstructured<'_>) -> Result<String> {
    Ok(match u.int_in_range(0..=3)? {
        0 => u.arbitrary::<u8>()?.to_string(),
        1 => u.arbitrary::<i64>()?.to_string(),
        2 => format!("{}.{:03}", u.arbitrary::<i8>()?, u.int_in_range(0..=999)?),
        _ => format!("{}.{}e{}", u.arbitrary::<i8>()?, u.arbitrary::<u8>()?, u.arbitrary::<i8>()?),
    })
}

/// A string of JSON: mostly a word, sometimes with escapes where none are needed.
pub fn string(u: &mut Unstructured<'_>, words: &[&str]) -> Result<String> {
    let plain: String = match u.int_in_range(0..=5)? {
        0 => u.arbitrary::<&str>()?.chars().take(40).collect(),
        _ => u.choose(words)?.to_string(),
    };
    let escaped = u.ratio(1, 8)?;
    let mut out = String::from("\"");
    for c in plain.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' || (escaped && c.is_ascii() && u.ratio(1, 3)?) => {
                out += &format!("\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    Ok(out)
}

fn space(u: &mut Unstructured<'_>) -> Result<&'static str> {
    Ok(if u.ratio(7, 8)? { "" } else { u.choose(&[" ", "\n", "\t", "\r\n "])? })
}

pub fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}

/// All members of an object as they were written, those given twice too; none if it is no object.
pub fn members(object: &str) -> Option<Vec<(String, String)>> {
    serde_json::from_str::<All>(object).ok().map(|all| all.0)
}

/// The one member of that name; none if there is none, or several.
pub fn one<'a>(members: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut found = members.iter().filter(|(known, _)| known == name);
    found.next().filter(|_| found.next().is_none()).map(|(_, value)| value.as_str())
}

/// Whether some member is given twice.
pub fn doubled(members: &[(String, String)]) -> bool {
    members.iter().any(|(name, _)| members.iter().filter(|(other, _)| name == other).count() > 1)
}

/// Whether `part` lies in `whole`, and is not only equal to a piece of it.
pub fn lies_in(whole: &[u8], part: &str) -> bool {
    let (whole, part) = (whole.as_ptr_range(), part.as_bytes().as_ptr_range());
    whole.start <= part.start && part.end <= whole.end
}

struct All(Vec<(String, String)>);

impl<'de> serde::Deserialize<'de> for All {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Read;

        impl<'de> serde::de::Visitor<'de> for Read {
            type Value = All;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<All, A::Error> {
                let mut all = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    all.push((name, value.get().to_owned()));
                }
                Ok(All(all))
            }
        }

        deserializer.deserialize_map(Read)
    }
}
