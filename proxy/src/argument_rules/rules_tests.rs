//! Unit tests of what a rule accepts, refuses and says.

use serde_json::json;

use super::*;

fn rule(written: Value) -> ArgumentRule {
    serde_json::from_value(written).unwrap()
}

/// Applies one rule for the tool `write` to arguments; returns the reason of a refusal.
fn judge(mut written: Value, arguments: &str) -> Result<(), String> {
    written["tools"] = json!("wr*");
    let written = rule(written);
    check_written(&written).unwrap();
    let rules = ArgumentRules::read(&[written]).unwrap();
    rules.check("write", parse(arguments.as_bytes()).as_ref()).map_err(|broken| broken.reason)
}

#[test]
fn each_condition_accepts_and_refuses() {
    for (condition, good, bad, says) in [
        (json!({"pattern": "^src/.*$"}), r#""src/a""#, r#""/etc""#, "as a whole"),
        (json!({"pattern": "a|ab"}), r#""ab""#, r#""abc""#, "as a whole"),
        (json!({"pattern": "a$"}), r#""a""#, r#""a\nb""#, "as a whole"),
        (json!({"pattern": "(?m)^a$"}), r#""a""#, r#""a\nb""#, "as a whole"),
        (json!({"notPattern": r"\.\."}), r#""a.b""#, r#""a/../b""#, "matches `notPattern`"),
        (json!({"oneOf": [1, "x", null, {"a": [2]}]}), r#"{"a":[2.0]}"#, r#""y""#, "none of `oneOf`"),
        (json!({"oneOf": [1]}), "1.0", r#""1""#, "none of `oneOf`"),
        (json!({"minimum": 2}), "2", "1.99", "below"),
        (json!({"maximum": 9_007_199_254_740_992_u64}), "9007199254740992", "9007199254740993", "above"),
        (json!({"maximum": 0.5}), "-3", "1e300", "above"),
        (json!({"maxLength": 2}), r#""äö""#, r#""abc""#, "length of 3"),
        (json!({"maxLength": 1}), "[1]", "[1,2]", "length of 2"),
        (json!({"pattern": ".*"}), r#""5""#, "5", "is a number, and the rule judges a text"),
        (json!({"notPattern": "x"}), r#""5""#, "null", "is null"),
        (json!({"minimum": 1}), "1", r#""1""#, "is a text, and the rule judges a number"),
        (json!({"maxLength": 1}), r#""""#, "{}", "is an object"),
    ] {
        let with = |value: &str| {
            let mut written = condition.clone();
            written["argument"] = json!("/a");
            judge(written, &format!(r#"{{"a":{value}}}"#))
        };
        assert_eq!(with(good), Ok(()), "{condition} {good}");
        let reason = with(bad).unwrap_err();
        assert!(reason.starts_with("its argument `/a` ") && reason.contains(says), "{condition}: {reason}");
        let mut written = condition.clone();
        written["argument"] = json!("/a");
        assert_eq!(judge(written, "{}"), Ok(()), "{condition} does not hold where nothing is given");
    }
}

#[test]
fn arguments_are_wanted_or_forbidden() {
    let required = json!({"argument": "/a", "required": true, "reason": "say which"});
    assert_eq!(judge(required.clone(), r#"{"a":null}"#), Ok(()));
    for absent in ["{}", "", r#"{"b":1}"#] {
        assert_eq!(
            judge(required.clone(), absent).unwrap_err(),
            "its argument `/a` is missing; say which",
            "{absent}"
        );
    }
    let forbidden = json!({"argument": "/a", "forbidden": true});
    assert_eq!(judge(forbidden.clone(), "{}"), Ok(()));
    assert!(judge(forbidden, r#"{"a":null}"#).unwrap_err().contains("may not be given"));
}

#[test]
fn pointers_lead_through_objects_and_lists() {
    let at = |pointer: &str, arguments: &str| judge(json!({"argument": pointer, "oneOf": [1]}), arguments);
    assert_eq!(at("/a~1b/m~0n/1", r#"{"a/b":{"m~n":[2,1]}}"#), Ok(()));
    assert!(at("/a~1b/m~0n/1", r#"{"a/b":{"m~n":[1,2]}}"#).is_err());
    assert_eq!(at("/a/1", r#"{"a":[2]}"#), Ok(()), "not given");
    assert_eq!(at("/a/b", r#"{"a":null}"#), Ok(()), "not given");
    assert!(at("/a/b", r#"{"a":"{\"b\":2}"}"#).unwrap_err().contains("lies in a text"));
    assert!(at("/a/b", r#"{"a":[{"b":2}]}"#).unwrap_err().contains("lies in a list"));
    assert!(at("/a/01", r#"{"a":[1,2]}"#).unwrap_err().contains("lies in a list"));
    assert!(at("/", r#"{"":2}"#).is_err());
    assert!(at("/a", "[").unwrap_err().contains("cannot be read in one way"));
}

#[test]
fn no_second_spelling_of_a_name_passes() {
    let judge = |arguments: &str| judge(json!({"argument": "/path", "pattern": "ok"}), arguments);
    assert_eq!(judge(r#"{"path":"ok"}"#), Ok(()));
    for attack in [
        r#"{"\u0070ath":"/etc"}"#,
        r#"{"path":"ok","path":"/etc"}"#,
        r#"{"path":"/etc","path":"ok"}"#,
        r#"{"path":"ok","\u0070ath":"/etc"}"#,
        r#"{"path":"ok","more":{"x":1,"x":2}}"#,
        r#"{"path":"ok","Path":"/etc"}"#,
        r#"{"PATH":"/etc"}"#,
        "{\"path\":\"ok\",\"\\ud800\":1}",
    ] {
        assert!(judge(attack).is_err(), "{attack}");
    }
    let list = ArgumentRules::read(&[rule(json!({"tools": "k*", "argument": "/k", "forbidden": true}))]);
    let list = list.unwrap();
    let folded = parse("{\"\u{212a}\":1}".as_bytes());
    assert!(list.check("kill", folded.as_ref()).is_err(), "the Kelvin sign is a k to some readers");
    assert!(list.check("other", Err(&String::new())).is_ok(), "no rule, nothing read");
}

#[test]
fn a_rule_that_says_nothing_or_cannot_be_read_is_refused() {
    let problem = |written: Value| check_written(&rule(written)).unwrap_err();
    let wrong = |mut written: Value| {
        written["tools"] = json!("t");
        written["argument"] = json!("/a");
        problem(written)
    };
    assert!(wrong(json!({})).contains("has no condition"));
    assert!(wrong(json!({"forbidden": true, "required": true})).contains("beside `forbidden`"));
    assert!(wrong(json!({"minimum": 2, "maximum": 1})).contains("above its `maximum`"));
    for (pattern, says) in [
        ("a(ä[", "unclosed character class, at character 4"),
        ("a)|(b", "unopened group, at character 2"),
        ("(?=a)", "look-around"),
        (r"\p{Nonsense}", "at character 1"),
        ("(?x)a # b", "flag `x`"),
        (r"\w{500}", "too large"),
    ] {
        let said = wrong(json!({"pattern": pattern}));
        assert!(said.starts_with("has a `pattern` that ") && said.contains(says), "{pattern}: {said}");
    }
    let bounded = json!({"tools": "t", "argument": "/a", "pattern": "[^/]{1,255}"});
    assert_eq!(check_written(&rule(bounded)), Ok(()), "not too large");
    assert!(wrong(json!({"notPattern": "["})).starts_with("has a `notPattern` that is no regular"));
    for (pointer, says) in [("a", "begin with `/`"), ("", "begin with `/`"), ("/a~2", "neither `~0`")] {
        let said = problem(json!({"tools": "t", "argument": pointer, "required": true}));
        assert!(said.contains(says), "{pointer}: {said}");
    }
    let said = problem(json!({"tools": "[a", "argument": "/a", "required": true}));
    assert!(said.contains("`[a`"), "{said}");
}

#[test]
fn long_texts_are_not_matched() {
    let text = |bytes: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes));
    let written = json!({"argument": "/a", "pattern": "x*"});
    assert_eq!(judge(written.clone(), &text(65_536)), Ok(()));
    assert!(judge(written, &text(65_537)).unwrap_err().contains("at most 65536"));
}
