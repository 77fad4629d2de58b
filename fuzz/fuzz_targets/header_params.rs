//! Parameters that headers mirror: what is encoded is a header and decodes to itself, numbers are equal
//! when they are the same number, and what is found in a schema is what its `properties` lead to.

#![no_main]

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use protocol::mcp::header;
use protocol::members::raw;
use proxy::header_params::{Kind, decode, encode, equal, read, values};
use serde_json::Value;

const WORDS: &[&str] = &[
    "properties",
    "x-mcp-header",
    "type",
    "string",
    "integer",
    "boolean",
    "null",
    "items",
    "$defs",
    "oneOf",
    "default",
    "Region",
    "a",
    "b",
    "c",
];

fuzz_target!(|data: &[u8]| {
    if let Some(seed) = std::str::from_utf8(data).ok().filter(|seed| seed.starts_with('{')) {
        let (schema, arguments) = seed.split_once("\n---\n").unwrap_or((seed, "{}"));
        if fuzz::is_json(schema.as_bytes()) && fuzz::is_json(arguments.as_bytes()) {
            mirrored(schema.trim(), arguments.trim());
        }
        return;
    }
    let _ = made(&mut Unstructured::new(data));
});

fn made(u: &mut Unstructured<'_>) -> Result<()> {
    match u.int_in_range(0..=3)? {
        0 => coded(u.arbitrary()?),
        1 => {
            let inner: &str = u.arbitrary()?;
            coded(&format!("=?base64?{inner}?="));
            coded(&format!(" {inner}\t"));
        }
        2 => {
            let (a, b) = (fuzz::number(u)?, u.arbitrary::<i64>()?.to_string());
            let shifted = format!(
                "{b}{}.{}e-{}",
                u.int_in_range(0..=99)?,
                "0".repeat(u.int_in_range(0..=3)?),
                u.int_in_range(0..=3)?
            );
            let any: &str = u.arbitrary()?;
            for (left, right) in [(&*a, &*b), (&b, &shifted), (&shifted, &a), (any, &a), (any, any)] {
                numbers(left, right);
            }
        }
        _ => {
            let schema = schema(u, 4)?;
            mirrored(&schema, &fuzz::object(u, WORDS, 4)?);
        }
    }
    Ok(())
}

fn coded(text: &str) {
    let header = encode(text);
    assert!(header.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')), "no header: {header:?}");
    assert_eq!(header.trim_matches([' ', '\t']), header);
    assert_eq!(decode(&header).as_deref(), Ok(text));
    assert_eq!(decode(&format!(" \t{header} ")).as_deref(), Ok(text), "white space does not belong to it");
    if let Ok(plain) = decode(text) {
        assert_eq!(decode(&encode(&plain)), Ok(plain));
    }
}

fn numbers(left: &str, right: &str) {
    for kind in [Kind::String, Kind::Integer, Kind::Boolean] {
        let same = equal(kind, left, right);
        assert_eq!(same, equal(kind, right, left));
        assert!(equal(kind, left, left));
        assert!(kind == Kind::Integer || same == (left == right));
    }
    if let (Some(one), Some(other)) = (canonical(left), canonical(right)) {
        let small = |number: &(bool, String, i64)| number.1.len() as i64 + number.2.max(0) < 30;
        let whole = one.2 >= 0;
        match equal(Kind::Integer, left, right) {
            true => assert!(one == other || left == right, "{left} is not {right}"),
            false => assert!(one != other || !whole || !small(&one), "{left} is {right}"),
        }
    }
}

/// Sign, digits without zeros around them, and the power of ten of a JSON number.
fn canonical(text: &str) -> Option<(bool, String, i64)> {
    serde_json::from_str::<serde::de::IgnoredAny>(text).ok()?;
    text.starts_with(|c: char| c == '-' || c.is_ascii_digit()).then_some(())?;
    if text.trim() != text {
        return None;
    }
    let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut power = power.parse::<i64>().ok()?.checked_sub(fraction.len() as i64)?;
    let mut digits = format!("{whole}{fraction}").trim_start_matches('0').to_owned();
    while digits.ends_with('0') {
        digits.pop();
        power += 1;
    }
    Some(if digits.is_empty() { (false, digits, 0) } else { (sign, digits, power) })
}

/// A schema that may have annotations where they belong, and where they do not.
fn schema(u: &mut Unstructured<'_>, depth: usize) -> Result<String> {
    let mut members = Vec::new();
    if u.ratio(7, 8)? {
        let types =
            ["\"string\"", "\"integer\"", "\"boolean\"", "\"object\"", r#"["integer","null"]"#, "\"number\""];
        members.push(format!(r#""type":{}"#, u.choose(&types)?));
    }
    if depth < 4 && u.ratio(1, 2)? {
        let name = match u.ratio(7, 8)? {
            true => format!("\"H{}\"", u.int_in_range(0..=40)?),
            false => fuzz::string(u, WORDS)?,
        };
        let key = *u.choose(&["x-mcp-header", "x-mcp-header", r"x\u002dmcp-header"])?;
        members.push(format!(r#""{key}":{name}"#));
    }
    if depth > 0 && u.ratio(2, 3)? {
        let mut inner = Vec::new();
        for _ in 0..u.int_in_range(0..=3)? {
            inner.push(format!(
                "{}:{}",
                fuzz::string(u, &["a", "b", "c", "properties"])?,
                schema(u, depth - 1)?
            ));
        }
        members.push(format!(r#""properties":{{{}}}"#, inner.join(",")));
    }
    if u.ratio(1, 8)? {
        members.push(format!("{}:{}", fuzz::string(u, WORDS)?, fuzz::value(u, WORDS, 2)?));
    }
    Ok(format!("{{{}}}", members.join(",")))
}

fn mirrored(schema: &str, arguments: &str) {
    let Ok(found) = read(&raw(schema)) else { return };
    let tree: Value = serde_json::from_str(schema).unwrap_or_default();
    let mut expected = Vec::new();
    led_to(&tree, &mut Vec::new(), &mut expected);
    assert_eq!(found.len(), expected.len());
    for param in &found {
        assert!(param.header.starts_with(header::PARAM) && param.header == param.header.to_ascii_lowercase());
        assert_eq!(found.iter().filter(|other| other.header == param.header).count(), 1);
        let name = expected.iter().find(|(path, _)| *path == param.path).map(|(_, name)| name).unwrap();
        assert_eq!(param.header[header::PARAM.len()..], name.to_ascii_lowercase());
    }
    let said = values(&found, &raw(arguments));
    // Numbers beyond a double are no JSON to this reader.
    let Ok(arguments) = serde_json::from_str::<Value>(arguments) else { return };
    assert!(said.iter().map(|(header, _)| header).eq(found.iter().map(|param| &param.header)));
    for (param, (_, said)) in found.iter().zip(&said) {
        let value = param.path.iter().try_fold(&arguments, |value, name| value.get(name));
        match (value, said) {
            (Some(Value::String(text)), said) => assert_eq!(Some(text), said.as_ref()),
            (Some(Value::Bool(truth)), said) => assert_eq!(Some(truth.to_string()), *said),
            (Some(Value::Number(_)), said) => assert!(said.is_some()),
            (_, said) => assert_eq!(*said, None),
        }
        if let Some(said) = said {
            coded(said);
            assert!(equal(param.kind, said, &decode(&encode(said)).unwrap()));
        }
    }
}

/// Every annotation that `properties` alone lead to, with the way to it.
fn led_to(schema: &Value, path: &mut Vec<String>, found: &mut Vec<(Vec<String>, String)>) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    for (name, property) in properties {
        path.push(name.clone());
        if let Some(annotation) = property.get("x-mcp-header") {
            found.push((path.clone(), annotation.as_str().unwrap().to_owned()));
        }
        led_to(property, path, found);
        path.pop();
    }
}
