//! Slash commands: a line such as `/mcp-github list-issues --label=bug`, cut into a service and its items, and
//! written from them. Nothing in a line is substituted, and nothing of it reaches a shell.

use serde_json::Value;

use crate::strict::Strict;

/// Beginning of every line.
pub const PREFIX: &str = "/mcp-";

/// Longest line, bytes.
pub const MAX_LINE: usize = 64 << 10;

/// A line in its parts.
#[derive(Clone, PartialEq, Debug)]
pub struct Line {
    pub service: String,
    pub items: Vec<Item>,
}

/// A part of a line after the service.
#[derive(Clone, PartialEq, Debug)]
pub enum Item {
    Given(Given),
    /// `--name`, or `--name=value`.
    Flag {
        name: String,
        value: Option<Given>,
    },
}

/// A value of a line.
#[derive(Clone, PartialEq, Debug)]
pub enum Given {
    /// A text. Quotes say that it is no number and no name of an operation.
    Word { text: String, is_quoted: bool },
    /// An object or an array.
    Json(Value),
}

/// A mistake in a line, and its place: the number of characters before it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("at character {}: {reason}", .at + 1)]
pub struct Mistake {
    pub at: usize,
    pub reason: String,
}

/// Reads a line.
///
/// # Errors
/// The first mistake.
pub fn read(line: &str) -> Result<Line, Mistake> {
    let mut reader = Reader { line, at: 0 };
    if line.len() > MAX_LINE {
        return Err(reader.mistake(format!("a command has at most {MAX_LINE} bytes")));
    }
    if let Some(at) = line.find(|c: char| c < ' ' && !matches!(c, '\t' | '\n')) {
        reader.at = at;
        return Err(reader.mistake("a control character stands here; write it as \\u…, in double quotes"));
    }
    reader.skip_space();
    if !reader.take(PREFIX) {
        return Err(reader.mistake(format!("a command begins with {PREFIX} and the name of a service")));
    }
    let service = reader.name();
    let is_small = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !service.starts_with(|first: char| first.is_ascii_lowercase()) || !service.chars().all(is_small) {
        return Err(reader.mistake("the name of a service has small letters, digits and `-`"));
    }
    reader.end_of_item()?;
    let (mut items, mut takes_flags) = (Vec::new(), true);
    while reader.skip_space() {
        if takes_flags && reader.rest().starts_with("--") {
            reader.at += 2;
            match reader.rest().chars().next() {
                None | Some(' ' | '\t' | '\n') => takes_flags = false,
                Some(_) => items.push(reader.flag()?),
            }
        } else {
            items.push(Item::Given(reader.given()?));
        }
        reader.end_of_item()?;
    }
    Ok(Line { service: service.to_owned(), items })
}

struct Reader<'a> {
    line: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.line[self.at..]
    }

    fn mistake(&self, reason: impl Into<String>) -> Mistake {
        let before = self.line.get(..self.at).unwrap_or(self.line);
        Mistake { at: before.chars().count(), reason: reason.into() }
    }

    fn take(&mut self, text: &str) -> bool {
        let is_next = self.rest().starts_with(text);
        if is_next {
            self.at += text.len();
        }
        is_next
    }

    /// Skips white space; returns false at the end of the line.
    fn skip_space(&mut self) -> bool {
        self.at = self.line.len() - self.rest().trim_start_matches([' ', '\t', '\n']).len();
        self.at < self.line.len()
    }

    /// Takes letters, digits, `-` and `_`, as far as they go.
    fn name(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_'));
        let name = &rest[..end.unwrap_or(rest.len())];
        self.at += name.len();
        name
    }

    fn end_of_item(&self) -> Result<(), Mistake> {
        match self.rest().chars().next() {
            None | Some(' ' | '\t' | '\n') => Ok(()),
            Some(other) => Err(self.mistake(format!("a space is wanted before `{other}`"))),
        }
    }

    fn flag(&mut self) -> Result<Item, Mistake> {
        let name = self.name();
        if name.is_empty() {
            return Err(self.mistake("the name of an option has letters, digits, `-` and `_`"));
        }
        let value = if self.take("=") { Some(self.given()?) } else { None };
        Ok(Item::Flag { name: name.to_owned(), value })
    }

    fn given(&mut self) -> Result<Given, Mistake> {
        match self.rest().chars().next() {
            Some('{' | '[') => self.json().map(|Strict(value)| Given::Json(value)),
            _ => self.word(),
        }
    }

    /// Takes one JSON value (RFC 8259).
    fn json<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, Mistake> {
        let mut values = serde_json::Deserializer::from_str(self.rest()).into_iter::<T>();
        match values.next() {
            Some(Ok(value)) => {
                self.at += values.byte_offset();
                Ok(value)
            }
            Some(Err(error)) => Err(self.mistake(format!("this is no JSON: {error}"))),
            None => Err(self.mistake("a value is missing")),
        }
    }

    /// Takes a word: quoted and bare pieces, one after the other.
    fn word(&mut self) -> Result<Given, Mistake> {
        let (mut text, mut is_quoted) = (String::new(), false);
        while let Some(next) = self.rest().chars().next() {
            match next {
                ' ' | '\t' | '\n' => break,
                '"' => {
                    text.push_str(&self.json::<String>()?);
                    is_quoted = true;
                }
                '\'' => {
                    let Some(end) = self.rest()[1..].find('\'') else {
                        return Err(self.mistake("this quote is not closed"));
                    };
                    text.push_str(&self.rest()[1..=end]);
                    self.at += end + 2;
                    is_quoted = true;
                }
                '\\' => {
                    let Some(escaped) = self.rest()[1..].chars().next() else {
                        return Err(self.mistake("a character is wanted after the backslash"));
                    };
                    text.push(escaped);
                    self.at += 1 + escaped.len_utf8();
                    is_quoted = true;
                }
                bare => {
                    text.push(bare);
                    self.at += bare.len_utf8();
                }
            }
        }
        Ok(Given::Word { text, is_quoted })
    }
}

/// Returns the line of an operation with named parameters. Read and bound, it gives the same parameters.
pub fn write(service: &str, operation: &str, params: &serde_json::Map<String, Value>) -> String {
    let mut line = format!("{PREFIX}{service} {operation}");
    for (name, value) in params {
        // Texts are quoted, in JSON's way; numbers, truth values and null are bare words.
        line.push_str(&format!(" --{name}={value}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn word(text: &str) -> Item {
        Item::Given(Given::Word { text: text.to_owned(), is_quoted: false })
    }

    fn quoted(text: &str) -> Item {
        Item::Given(Given::Word { text: text.to_owned(), is_quoted: true })
    }

    fn flag(name: &str, value: &str) -> Item {
        let value = Some(Given::Word { text: value.to_owned(), is_quoted: false });
        Item::Flag { name: name.to_owned(), value }
    }

    #[test]
    fn lines_are_cut_into_their_parts() {
        for (line, service, items) in [
            (
                "/mcp-postgres kids-ascension-db list tables",
                "postgres",
                vec![word("kids-ascension-db"), word("list"), word("tables")],
            ),
            (
                r#"/mcp-postgres db query "SELECT * FROM videos LIMIT 10""#,
                "postgres",
                vec![word("db"), word("query"), quoted("SELECT * FROM videos LIMIT 10")],
            ),
            (
                "/mcp-github list-issues --label=bug",
                "github",
                vec![word("list-issues"), flag("label", "bug")],
            ),
            (
                r#"/mcp-n8n execute workflow_123 {"data": "payload"}"#,
                "n8n",
                vec![
                    word("execute"),
                    word("workflow_123"),
                    Item::Given(Given::Json(json!({ "data": "payload" }))),
                ],
            ),
            ("  /mcp-n8n\tlist-workflows\n", "n8n", vec![word("list-workflows")]),
            ("/mcp-n8n", "n8n", vec![]),
            (
                "/mcp-x #12 tail $HOME * | ;",
                "x",
                vec![word("#12"), word("tail"), word("$HOME"), word("*"), word("|"), word(";")],
            ),
            (r#"/mcp-x a'b c'"d\n\u00e9"\ e"#, "x", vec![quoted("ab cd\né e")]),
            (r#"/mcp-x '' """#, "x", vec![quoted(""), quoted("")]),
            ("/mcp-x --a -- --b", "x", vec![Item::Flag { name: "a".into(), value: None }, word("--b")]),
            (
                r#"/mcp-x --a=[1,"]"] -5"#,
                "x",
                vec![Item::Flag { name: "a".into(), value: Some(Given::Json(json!([1, "]"]))) }, word("-5")],
            ),
            ("/mcp-x --a=", "x", vec![flag("a", "")]),
        ] {
            assert_eq!(read(line), Ok(Line { service: service.to_owned(), items }), "{line}");
        }
    }

    #[test]
    fn mistakes_have_a_place() {
        for (line, at, part) in [
            ("", 0, "begins with /mcp-"),
            ("/github list", 0, "begins with /mcp-"),
            ("/mcp-GitHub list", 11, "small letters"),
            ("/mcp-", 5, "small letters"),
            ("/mcp-git_hub", 12, "small letters"),
            (r#"/mcp-x {"a":1}x"#, 14, "a space is wanted before `x`"),
            ("/mcp-x {bad}", 7, "no JSON"),
            (r#"/mcp-x {"a":1,"a":2}"#, 7, "no JSON"),
            ("/mcp-x {\"a\":", 7, "no JSON"),
            ("/mcp-x 'open", 7, "not closed"),
            ("/mcp-x é \"open", 9, "no JSON"),
            ("/mcp-x a\\", 8, "after the backslash"),
            ("/mcp-x --=1", 9, "name of an option"),
            ("/mcp-x a\0b", 8, "control character"),
            ("/mcp-x/../y", 6, "a space is wanted"),
        ] {
            let mistake = read(line).unwrap_err();
            assert!((mistake.at, mistake.reason.contains(part)) == (at, true), "{line}: {mistake:?}");
        }
        let deep = format!("/mcp-x {}", "[".repeat(200));
        assert!(read(&deep).unwrap_err().reason.contains("no JSON"));
        assert!(read(&format!("/mcp-x {}", "a".repeat(MAX_LINE))).unwrap_err().reason.contains("bytes"));
    }
}
