//! The language of comments: standard terms, a noun or a verb first. There are no exceptions.

use std::path::Path;

use crate::lines::sources;

/// Words that no documentation comment begins with.
const OPENINGS: [&str; 11] =
    ["What", "Who", "Whom", "Whose", "How", "Whether", "Where", "That", "It", "They", "Those"];

/// Words that stand in no comment, with the standard terms for them.
const BANNED: [(&str, &str); 12] = [
    ("door", "endpoint"),
    ("doors", "endpoints"),
    ("way out", "egress client"),
    ("pen", "writer"),
    ("ear", "listener"),
    ("ears", "listeners"),
    ("told", "sent, notified or published"),
    ("whom", "a noun"),
    ("obituary", "exit reason"),
    ("bury", "remove"),
    ("errand", "upstream call"),
    ("news", "events"),
];

/// Every comment that breaks the rule, as a sentence.
pub fn check(root: &Path) -> Vec<String> {
    let sentences = |(path, text): (String, String)| {
        places(&text).into_iter().map(move |(line, what)| format!("{path}:{line}: {what}."))
    };
    sources(root).into_iter().flat_map(sentences).collect()
}

/// Lines whose comment breaks the rule, counted from 1.
fn places(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut before = "";
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        let kind = ["//!", "///", "//"].into_iter().find(|kind| line.starts_with(kind)).unwrap_or("");
        let comment = line[kind.len()..].trim_start();
        if kind.len() == 3 && before != kind {
            let first = comment.split(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
            if OPENINGS.contains(&first) {
                found.push((
                    number + 1,
                    format!("the comment begins with `{first}`; begin with a noun or a verb"),
                ));
            }
        }
        if !kind.is_empty() {
            let words = format!(" {} ", comment.to_lowercase().replace(|c: char| !c.is_alphanumeric(), " "));
            for (word, instead) in BANNED.iter().filter(|(word, _)| words.contains(&format!(" {word} "))) {
                found.push((number + 1, format!("instead of `{word}` say {instead}")));
            }
        }
        before = kind;
    }
    found
}

#[test]
fn comments_are_read_line_by_line() {
    let text = "//! What it is.\n//! How so.\n\n/// Returns a door.\nfn f() {}\n// It waits.\n";
    let found: Vec<usize> = places(text).into_iter().map(|(line, _)| line).collect();
    assert_eq!(found, [1, 4]);
}
