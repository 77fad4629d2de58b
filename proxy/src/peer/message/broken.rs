//! Text that is no JSON-RPC message, and the requests that it may answer: cut off, with syntax unknown to
//! JSON, or with a duplicate member.

use serde_json::error::Category;

use super::{Meant, Message};

/// Reads text that is no JSON, or has a duplicate or mistyped member.
pub fn read<'a>(text: &'a [u8], error: &serde_json::Error) -> Message<'a> {
    let Some(meant) = meant(text) else { return Message::Noise };
    let fault = match error.classify() {
        Category::Data => format!("it is no JSON-RPC message: {error}"),
        Category::Eof => format!("it is cut off: {error}"),
        Category::Syntax | Category::Io => format!("it is no JSON: {error}"),
    };
    Message::Unreadable { meant, fault, original: String::from_utf8_lossy(text) }
}

/// Members of one outermost object.
#[derive(Default)]
struct Seen {
    id: Option<u64>,
    /// True if there is an `id`, of any type.
    has_id: bool,
    jsonrpc: bool,
    method: bool,
    /// True for a `result` or `error`.
    answer: bool,
}

/// Summary of all outermost objects.
#[derive(Default)]
struct Found {
    ids: Vec<u64>,
    /// True for an answer without a readable id.
    unnamed: bool,
    /// True for a message cut off before its kind shows.
    begun: bool,
}

impl Found {
    fn add(&mut self, seen: &Seen) {
        match seen.id {
            _ if seen.method && !seen.answer => {}
            Some(id) => self.ids.push(id),
            None => {
                self.unnamed |= seen.jsonrpc && (seen.answer || seen.has_id);
                self.begun |= seen.jsonrpc;
            }
        }
    }
}

/// Returns the requests that broken text answers, by the members of its outermost objects or those of a
/// broken batch; `None` for other messages.
fn meant(text: &[u8]) -> Option<Meant> {
    let base = usize::from(text.starts_with(b"[")) + 1;
    let (mut found, mut seen) = (Found::default(), Seen::default());
    let (mut depth, mut at) = (0usize, 0);
    while let Some(byte) = text.get(at) {
        at += 1;
        match byte {
            // Python's `repr` of a message has single quotes.
            b'"' | b'\'' => {
                let Some(end) = end_of_string(text, at, *byte) else { break };
                let (key, after) = (&text[at..end], text[end + 1..].trim_ascii_start());
                at = end + 1;
                let Some(value) = after.strip_prefix(b":").filter(|_| depth == base) else { continue };
                match key {
                    b"jsonrpc" => seen.jsonrpc = true,
                    b"method" => seen.method = true,
                    b"result" | b"error" => seen.answer = true,
                    b"id" if !seen.has_id => (seen.has_id, seen.id) = (true, leading_number(value)),
                    _ => {}
                }
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                if depth == base {
                    found.add(&std::mem::take(&mut seen));
                }
                depth = depth.saturating_sub(1);
            }
            _ => {}
        }
    }
    found.add(&seen);
    match found {
        Found { ids, .. } if !ids.is_empty() => Some(Meant::Ids(ids)),
        Found { unnamed: false, begun: false, .. } => None,
        Found { unnamed, .. } => Some(Meant::Unnamed { about_notification: !unnamed }),
    }
}

fn end_of_string(text: &[u8], from: usize, quote: u8) -> Option<usize> {
    let mut at = from;
    loop {
        at += memchr::memchr2(quote, b'\\', text.get(at..)?)?;
        if text[at] == quote {
            return Some(at);
        }
        at += 2;
    }
}

/// Returns a number or the number in a string; `None` at the end of the text, where further digits may be cut
/// off.
fn leading_number(value: &[u8]) -> Option<u64> {
    let value = value.trim_ascii_start();
    let inside = value.strip_prefix(b"\"").or_else(|| value.strip_prefix(b"'"));
    let number = inside.unwrap_or(value);
    let digits = number.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, after) = number.split_at(digits);
    let after = after.strip_prefix(b".0").unwrap_or(after);
    let ended = match inside {
        Some(_) => matches!(after.first(), Some(b'"' | b'\'')),
        None => after.first().is_some_and(|byte| matches!(byte, b',' | b'}') || byte.is_ascii_whitespace()),
    };
    std::str::from_utf8(number).ok().filter(|_| ended)?.parse().ok()
}
