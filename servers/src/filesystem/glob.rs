//! Patterns of names and paths for searches. Pure; looks at no file system.

use std::iter::Peekable;
use std::str::Chars;

use regex::{Regex, RegexBuilder};

/// A pattern: `*` matches any characters within a name and `?` one, `**` any number of names, `[a-c]` and
/// `[!a-c]` one character, `{a,b}` one of several patterns. `\` takes the meaning from the next character.
#[derive(Clone, Debug)]
pub struct Glob {
    regex: Regex,
    /// True for a pattern without `/`, which is one of the last name alone.
    is_of_names: bool,
}

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// The sentence that follows "the pattern … is refused:".
    pub fn new(pattern: &str, ignore_case: bool) -> Result<Self, String> {
        if pattern.contains(char::is_control) {
            return Err("it has a control character".to_owned());
        }
        if pattern.starts_with('/') || pattern.split('/').any(|name| matches!(name, "" | "." | "..")) {
            return Err("it has an empty name, `.` or `..`: a pattern is relative to the searched directory"
                .to_owned());
        }
        let mut reader = Reader { rest: pattern.chars().peekable(), regex: "^(?:".to_owned(), open: 0 };
        reader.read()?;
        let regex = RegexBuilder::new(&(reader.regex + ")$"))
            .case_insensitive(ignore_case)
            .build()
            .map_err(|_| "it is too large".to_owned())?;
        Ok(Self { regex, is_of_names: !pattern.contains('/') })
    }

    /// Returns whether a path, relative to the directory of the search, matches.
    pub fn is_match(&self, path: &str) -> bool {
        let last = path.rsplit('/').next().unwrap_or_default();
        self.regex.is_match(if self.is_of_names { last } else { path })
    }
}

/// Translator of a pattern into a regular expression.
struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    regex: String,
    /// Braces that are open.
    open: usize,
}

impl Reader<'_> {
    fn read(&mut self) -> Result<(), String> {
        let mut begins_name = true;
        while let Some(c) = self.rest.next() {
            let began_name = std::mem::replace(&mut begins_name, c == '/');
            match c {
                '*' if self.rest.next_if_eq(&'*').is_some() => begins_name = self.read_names(began_name)?,
                '*' => self.regex.push_str("[^/]*"),
                '?' => self.regex.push_str("[^/]"),
                '[' => self.read_set()?,
                '{' => {
                    self.open += 1;
                    self.regex.push_str("(?:");
                }
                '}' if self.open == 0 => return Err("a `}` has no `{`; write `\\}` for the character".into()),
                '}' => {
                    self.open -= 1;
                    self.regex.push(')');
                }
                ',' if self.open > 0 => self.regex.push('|'),
                '\\' => {
                    let c = self.rest.next().ok_or("it ends with `\\`")?;
                    self.push(c);
                }
                c => self.push(c),
            }
        }
        match self.open {
            0 => Ok(()),
            _ => Err("a `{` has no `}`; write `\\{` for the character".to_owned()),
        }
    }

    /// Reads what follows `**`. Returns whether a name begins then.
    fn read_names(&mut self, began_name: bool) -> Result<bool, String> {
        let is_last = self.rest.peek().is_none();
        let fits = self.open == 0 && began_name && (is_last || self.rest.next_if_eq(&'/').is_some());
        if !fits {
            return Err("`**` stands alone between slashes, and not in braces".to_owned());
        }
        self.regex.push_str(if is_last { ".+" } else { "(?:[^/]+/)*" });
        Ok(true)
    }

    /// Reads a set of characters after its `[`. A `]` directly behind the beginning belongs to the set.
    fn read_set(&mut self) -> Result<(), String> {
        const OPEN: &str = "a `[` has no `]`; write `\\[` for the character";
        let negated = self.rest.next_if(|c| matches!(c, '!' | '^')).is_some();
        self.regex.push_str(if negated { "[^/" } else { "[[" });
        let mut is_first = true;
        loop {
            let from = match self.rest.next().ok_or(OPEN)? {
                ']' if !is_first => break,
                '\\' => self.rest.next().ok_or(OPEN)?,
                c => c,
            };
            is_first = false;
            self.push(from);
            let mut ahead = self.rest.clone();
            if ahead.next() == Some('-') && ahead.next().is_some_and(|c| c != ']') {
                self.rest.next();
                let to = match self.rest.next().ok_or(OPEN)? {
                    '\\' => self.rest.next().ok_or(OPEN)?,
                    c => c,
                };
                if to < from {
                    return Err(format!("the range `{from}-{to}` is in the wrong order"));
                }
                self.regex.push('-');
                self.push(to);
            }
        }
        // No set has the separator, a range neither.
        self.regex.push_str(if negated { "]" } else { "]&&[^/]]" });
        Ok(())
    }

    /// Adds a character that means itself.
    fn push(&mut self, c: char) {
        self.regex.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_names_or_paths() {
        for (pattern, path, expected) in [
            ("*.rs", "main.rs", true),
            ("*.rs", "src/main.rs", true),
            ("*.rs", "src/main.rss", false),
            ("src/*.rs", "src/main.rs", true),
            ("src/*.rs", "src/a/main.rs", false),
            ("src/*.rs", "x/src/main.rs", false),
            ("**/src/*.rs", "x/src/main.rs", true),
            ("**/src/*.rs", "src/main.rs", true),
            ("**/src/*.rs", "xsrc/main.rs", false),
            ("src/**", "src/a/b", true),
            ("src/**", "src", false),
            ("**", "a/b", true),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("a/**/b", "ab", false),
            ("?.txt", "a.txt", true),
            ("?.txt", ".txt", false),
            ("[ab]*", "b1", true),
            ("[!ab]*", "b1", false),
            ("[^a-c]", "d", true),
            ("x/[+-0]", "x//", false),
            ("[]a]", "]", true),
            ("[a-]", "-", true),
            (r"[\]-\^]", "^", true),
            ("[&&a]", "&", true),
            ("[[:alpha:]]", "b]", false),
            ("*.{md,txt}", "docs/a.md", true),
            ("*.{md,txt}", "docs/a.rs", false),
            ("{src,docs/*}/*.md", "docs/x/a.md", true),
            ("a{,b{c,d}}", "abd", true),
            ("a{,b}", "a", true),
            ("a,b", "a,b", true),
            (r"\*", "*", true),
            (r"\*", "a", false),
            ("a.c", "abc", false),
            ("*", "日本", true),
            ("?", "日", true),
            ("[日-月]", "日", true),
        ] {
            let glob = Glob::new(pattern, false).unwrap();
            assert_eq!(glob.is_match(path), expected, "{pattern} {path}");
        }
        assert!(Glob::new("*.RS", true).unwrap().is_match("a/Main.rs"));
        assert!(!Glob::new("*.RS", false).unwrap().is_match("a/Main.rs"));
    }

    #[test]
    fn a_wrong_pattern_says_why() {
        for (pattern, part) in [
            ("[a", "`[`"),
            ("[]", "`[`"),
            ("{a", "`{`"),
            ("a}", "`}`"),
            ("[b-a]", "`b-a`"),
            ("a\\", "`\\`"),
            ("/a", "relative"),
            ("a//b", "relative"),
            ("../*", "relative"),
            ("**.rs", "`**`"),
            ("{**/a,b}", "`**`"),
            ("a\nb", "control"),
        ] {
            let reason = Glob::new(pattern, false).unwrap_err();
            assert!(reason.contains(part), "{pattern}: {reason}");
        }
    }
}
