//! Patterns of argument rules: regular expressions of bounded size, matched with texts of bounded length.

use std::sync::OnceLock;

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::values::not;

/// Largest compiled pattern, in bytes.
const COMPILED: usize = 1 << 19;
/// Longest text that patterns are matched with, in bytes: their worst case costs seconds for a megabyte.
const MATCHED: usize = 65_536;

/// A pattern that is compiled at its first use: a tenant's rules are read again at each change of its registry.
#[derive(Debug)]
pub struct Pattern {
    text: String,
    is_whole: bool,
    compiled: OnceLock<Result<Regex, String>>,
}

impl Pattern {
    /// Keeps a pattern, which is checked by [`Pattern::regex`].
    pub fn new(text: String, is_whole: bool) -> Self {
        Self { text, is_whole, compiled: OnceLock::new() }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns whether the pattern matches a value, which must be a text.
    pub fn finds(&self, value: &Value) -> Result<bool, String> {
        let Value::String(text) = value else { return Err(not("a text", value)) };
        if text.len() > MATCHED {
            return Err(format!(
                "has {} bytes, and patterns are matched with texts of at most {MATCHED}",
                text.len()
            ));
        }
        match self.regex() {
            Ok(regex) => Ok(regex.is_match(text)),
            Err(problem) => Err(format!("cannot be judged: the pattern `{}` {problem}", self.text)),
        }
    }

    /// Returns the compiled pattern.
    ///
    /// # Errors
    /// The end of a sentence that begins with the pattern.
    pub fn regex(&self) -> Result<&Regex, String> {
        self.compiled.get_or_init(|| compile(&self.text, self.is_whole)).as_ref().map_err(Clone::clone)
    }
}

/// Compiles a pattern, or says what is wrong with it.
fn compile(text: &str, is_whole: bool) -> Result<Regex, String> {
    // A pattern that is none by itself could be one within the group.
    if let Err(error) = regex_syntax::parse(text) {
        return Err(unreadable(text, &error));
    }
    let whole = if is_whole { format!(r"\A(?:{text})\z") } else { text.to_owned() };
    RegexBuilder::new(&whole).size_limit(COMPILED).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => format!(
            "is too large: it takes more than {COMPILED} bytes. `maxLength` limits lengths at no cost, and \
             `(?-u:\\w)` is smaller than `\\w`"
        ),
        _ => "cannot be matched with a whole text: it ends in a comment of the flag `x`".to_owned(),
    })
}

fn unreadable(text: &str, error: &regex_syntax::Error) -> String {
    let (kind, at) = match error {
        regex_syntax::Error::Parse(error) => (error.kind().to_string(), error.span().start.offset),
        regex_syntax::Error::Translate(error) => (error.kind().to_string(), error.span().start.offset),
        other => return format!("is no regular expression: {other}"),
    };
    let position = text.get(..at).map_or(1, |before| before.chars().count() + 1);
    format!("is no regular expression: {kind}, at character {position}")
}
