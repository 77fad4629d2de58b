use serde_json::json;

use super::*;

fn read_json(schema: Value) -> Result<Vec<HeaderParam>, String> {
    read(&serde_json::value::to_raw_value(&schema).unwrap())
}

fn values_json(schema: Value, arguments: Value) -> Vec<(String, Option<String>)> {
    values(&read_json(schema).unwrap(), &serde_json::value::to_raw_value(&arguments).unwrap())
}

#[test]
fn found_at_the_top_and_below() {
    let schema = json!({ "type": "object", "properties": {
        "region": { "type": "string", "x-mcp-header": "Region" },
        "query": { "type": "string" },
        "deep": { "type": "object", "properties": { "n": { "type": ["integer", "null"], "x-mcp-header": "N" } } },
        "x-mcp-header": { "type": "boolean", "default": { "x-mcp-header": 3 } },
    }});
    let found = read_json(schema).unwrap();
    let shown: Vec<_> = found.iter().map(|one| (one.header.as_str(), one.path.join("."), one.kind)).collect();
    assert!(shown.contains(&("mcp-param-region", "region".to_owned(), Kind::String)), "{shown:?}");
    assert!(shown.contains(&("mcp-param-n", "deep.n".to_owned(), Kind::Integer)), "{shown:?}");
    assert_eq!(shown.len(), 2);
    assert_eq!(read_json(json!({ "type": "object" })).unwrap(), []);
}

#[test]
fn invalid_annotations() {
    let property = |annotation: Value, kind: Value| json!({ "properties": { "a": { "type": kind, "x-mcp-header": annotation } } });
    for (wrong, part) in [
        (property(json!(""), json!("string")), "not a name"),
        (property(json!("a b"), json!("string")), "not a name"),
        (property(json!("a\r\nb"), json!("string")), "not a name"),
        (property(json!("ä"), json!("string")), "not a name"),
        (property(json!("a:b"), json!("string")), "not a name"),
        (property(json!(7), json!("string")), "not a name"),
        (property(json!("A"), json!("number")), "a type other"),
        (property(json!("A"), json!("object")), "a type other"),
        (property(json!("A"), json!(["string", "integer"])), "a type other"),
        (property(json!("A"), json!(null)), "a type other"),
        (json!({ "x-mcp-header": "A", "type": "string" }), "not reached"),
        (
            json!({ "properties": { "a": { "items": { "type": "string", "x-mcp-header": "A" } } } }),
            "not reached",
        ),
        (
            json!({ "oneOf": [{ "properties": { "a": { "type": "string", "x-mcp-header": "A" } } }] }),
            "not reached",
        ),
        (json!({ "$defs": { "a": { "type": "string", "x-mcp-header": "A" } } }), "not reached"),
        (
            json!({ "if": { "properties": { "a": { "type": "string", "x-mcp-header": "A" } } } }),
            "not reached",
        ),
        (
            json!({ "properties": {
                "a": { "type": "string", "x-mcp-header": "Same" }, "b": { "type": "string", "x-mcp-header": "sAME" },
            }}),
            "second",
        ),
    ] {
        let error = read_json(wrong.clone()).unwrap_err();
        assert!(error.contains(part), "{wrong}: {error}");
    }
    let escaped =
        RawValue::from_string(r#"{"properties":{"a":{"\u0078-mcp-header":""}}}"#.to_owned()).unwrap();
    assert!(read(&escaped).is_err());
}

#[test]
fn values_of_arguments() {
    let schema = json!({ "properties": {
        "s": { "type": "string", "x-mcp-header": "S" },
        "o": { "properties": { "i": { "type": "integer", "x-mcp-header": "I" } } },
        "b": { "type": "boolean", "x-mcp-header": "B" },
    }});
    let of = |arguments: Value| {
        let mut values = values_json(schema.clone(), arguments);
        values.sort();
        values.into_iter().map(|(_, value)| value).collect::<Vec<_>>()
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(of(json!({ "s": "ü", "o": { "i": -7 }, "b": false })), [some("false"), some("-7"), some("ü")]);
    assert_eq!(of(json!({ "s": null, "o": { "i": 42.0 } })), [None, some("42"), None]);
    assert_eq!(of(json!({ "s": "", "o": 3, "b": [] })), [None, None, some("")]);
    assert_eq!(of(json!({})), [None, None, None]);
}

#[test]
fn encoded_where_a_header_could_not_hold_it() {
    for (plain, encoded) in [
        ("us-west1", "us-west1"),
        ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
        (" padded ", "=?base64?IHBhZGRlZCA=?="),
        ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
        ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
        ("=?BASE64?x?=", "=?BASE64?x?="),
        ("a\tb c", "a\tb c"),
        ("", ""),
    ] {
        assert_eq!(encode(plain), encoded);
        assert_eq!(decode(encoded).unwrap(), plain);
    }
    assert_eq!(decode("  x \t").unwrap(), "x");
    for wrong in ["=?base64?###?=", "=?base64?/w==?=", "ü", "a\u{1}"] {
        assert!(decode(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn integers_are_numbers() {
    for (body, header, same) in [
        ("42", "42.0", true),
        ("42", "4.2e1", true),
        ("42", "43", false),
        ("42", "", false),
        ("9007199254740993", "9007199254740992", false),
        ("-7", "-7", true),
    ] {
        assert_eq!(equal(Kind::Integer, body, header), same, "{body} {header}");
    }
    assert!(!equal(Kind::String, "42", "42.0") && equal(Kind::Boolean, "true", "true"));
}

#[test]
fn numbers_are_the_same_only_if_they_are() {
    // Rules of the fuzz target `header_params`; the first is about a number that no double holds.
    let far = RawValue::from_string(r#"{"a":1e400}"#.to_owned()).unwrap();
    let param = HeaderParam { header: "h".to_owned(), path: vec!["a".to_owned()], kind: Kind::Integer };
    assert_eq!(values(&[param], &far), [("h".to_owned(), Some("1e400".to_owned()))]);
    for (body, header) in [("1", "1.00000000000000000001"), ("9007199254740992", "9007199254740993.0")] {
        assert!(!equal(Kind::Integer, body, header), "{body} is not {header}");
    }
    for (body, header) in
        [("42", "42.0"), ("10", "100e-1"), ("100", "1E+2"), ("0", "-0.0"), ("1e20", "100000000000000000000")]
    {
        assert!(equal(Kind::Integer, body, header), "{body} is {header}");
    }
    for odd in ["1e-400", "1e400", "1e99999999999", "-", ".", "1.+5", "e1", "inf", "0.1"] {
        assert!(!equal(Kind::Integer, "1", odd) && !equal(Kind::Integer, "0", odd), "{odd}");
    }
}
