//! Redaction rules of a tenant: further names of members, and regular expressions, whose values and matches the
//! record does not keep.

use std::borrow::Cow;
use std::collections::HashSet;

use regex::{NoExpand, Regex, RegexBuilder};
use serde_json::Value;

use super::redact::{self, UNREADABLE};
use super::scan::plain_name;

/// Replacement of a match.
const MATCH: &str = "[redacted]";
/// Replacement of arguments that are not searched, since it would cost a call too much.
const TOO_LONG: &str = "\"[redacted: too long to be searched]\"";
/// Longest arguments that are searched, in bytes.
const SEARCHED: usize = 65_536;
/// Largest compiled expression, in bytes.
const COMPILED: usize = 1 << 20;

/// Compiled rules; the default has none, and replaces what names a secret.
#[derive(Debug, Default)]
pub struct Redaction {
    names: HashSet<String>,
    patterns: Vec<Regex>,
}

impl Redaction {
    /// Compiles the rules.
    ///
    /// # Errors
    /// A sentence that names the rule that cannot be one.
    pub fn new(names: &[String], patterns: &[String]) -> Result<Self, String> {
        let name = |name: &String| match plain_name(name) {
            plain if plain.is_empty() => Err(format!("`{name}` has neither a letter nor a digit")),
            plain => Ok(plain),
        };
        let names = names.iter().map(name).collect::<Result<_, _>>()?;
        let patterns = patterns.iter().map(|text| pattern(text)).collect::<Result<_, _>>()?;
        Ok(Self { names, patterns })
    }

    /// Returns the arguments (raw JSON) without secrets, at most `cap` bytes.
    ///
    /// Values under secret names become `"[redacted]"`, whatever they are, and so do texts, numbers and names of
    /// members as far as a pattern matches them. A text over the cap ends in `… [cut]`. With patterns, arguments
    /// that are not JSON or longer than 64 KiB are not kept.
    pub fn arguments(&self, arguments: &[u8], cap: usize) -> Box<str> {
        if self.patterns.is_empty() {
            return redact::redact(arguments, cap, &self.names);
        }
        if arguments.len() > SEARCHED {
            return TOO_LONG.into();
        }
        let kept = redact::redact(arguments, usize::MAX, &self.names);
        let Ok(mut value) = serde_json::from_str(&kept) else { return UNREADABLE.into() };
        self.search(&mut value);
        redact::cut(value.to_string(), cap)
    }

    /// Returns a text with its matches replaced.
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.patterns.iter().fold(Cow::Borrowed(text), |text, pattern| {
            match pattern.replace_all(&text, NoExpand(MATCH)) {
                Cow::Borrowed(_) => text,
                Cow::Owned(replaced) => Cow::Owned(replaced),
            }
        })
    }

    /// Replaces the matches in a value. The depth is bounded by the JSON reader.
    fn search(&self, value: &mut Value) {
        match value {
            Value::Null | Value::Bool(_) => {}
            Value::Number(number) => {
                let text = number.to_string();
                if self.patterns.iter().any(|pattern| pattern.is_match(&text)) {
                    *value = Value::from(MATCH);
                }
            }
            Value::String(text) => {
                if let Cow::Owned(replaced) = self.text(text) {
                    *text = replaced;
                }
            }
            Value::Array(elements) => elements.iter_mut().for_each(|element| self.search(element)),
            Value::Object(members) => {
                for (name, mut value) in std::mem::take(members) {
                    self.search(&mut value);
                    members.insert(self.text(&name).into_owned(), value);
                }
            }
        }
    }
}

fn pattern(text: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(text).size_limit(COMPILED).build();
    match built {
        Ok(pattern) if pattern.is_match("") => Err(format!("`{text}` matches the empty text")),
        Ok(pattern) => Ok(pattern),
        Err(regex::Error::CompiledTooBig(_)) => Err(format!("`{text}` is too large")),
        Err(_) => Err(format!(
            "`{text}` is not a regular expression (look-around and back-references are not known)"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(names: &[&str], patterns: &[&str]) -> Redaction {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        Redaction::new(&texts(names), &texts(patterns)).unwrap()
    }

    #[test]
    fn names_are_compared_without_case_and_marks() {
        let rules = rules(&["Date of birth", "straße"], &[]);
        let kept = rules.arguments(
            "{\"date_of_birth\":\"1970-01-01\",\"Straße\":{\"a\":1},\"stra\\u00dfe\":2,\"birth\":3,\"password\":\"x\"}"
                .as_bytes(),
            4096,
        );
        let expected = "{\"date_of_birth\":\"[redacted]\",\"Straße\":\"[redacted]\",\"stra\\u00dfe\":\"[redacted]\",\
                        \"birth\":3,\"password\":\"[redacted]\"}";
        assert_eq!(&*kept, expected);
    }

    #[test]
    fn patterns_match_decoded_texts_numbers_and_names() {
        let rules = rules(&[], &[r"\b\d{16}\b", "[a-z]+@[a-z.]+"]);
        let kept = rules.arguments(
            br#"{"card":4111111111111111,"note":"to ann\u0040example.org, 4111111111111111!","bob@example.org":[1],"token":"x"}"#,
            4096,
        );
        assert_eq!(
            &*kept,
            r#"{"[redacted]":[1],"card":"[redacted]","note":"to [redacted], [redacted]!","token":"[redacted]"}"#
        );
        assert_eq!(rules.text("no row for ann@example.org"), "no row for [redacted]");
        let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(SEARCHED));
        assert_eq!(&*rules.arguments(long.as_bytes(), 4096), TOO_LONG);
        let cut = rules.arguments(br#"{"text":"ann@example.org and more of it"}"#, 32);
        assert!(cut.len() <= 32 && cut.ends_with("[cut]") && !cut.contains("ann"), "{cut}");
    }

    #[test]
    fn a_rule_that_cannot_be_one_is_named() {
        for (names, patterns) in [(vec!["--"], vec![]), (vec![], vec!["(a"]), (vec![], vec!["x*"])] {
            let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
            let said = Redaction::new(&texts(&names), &texts(&patterns)).unwrap_err();
            let rule = names.iter().chain(&patterns).next().unwrap();
            assert!(said.contains(rule), "{said}");
        }
    }
}
