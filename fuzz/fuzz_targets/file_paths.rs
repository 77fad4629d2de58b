//! Paths and patterns of the file server: a path that is taken stays below its root, whatever it is made of, and
//! a pattern matches what a second, slower reading of it matches.

#![no_main]

use std::path::{Component, Path};

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use servers::filesystem::{Glob, Inside, Place, read_path};

const PARTS: &[&str] = &[
    "/", "/", "/", ".", "..", "...", "root", "other", "a", "b", "é", "日", "\0", "\n", "\u{85}", "\\", "*", "**", "?",
    "[", "]", "!", "^", "-", "{", "}", ",", "&&", "~", "#", " ", ".trunkline-",
];

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        path(text);
        let _ = Glob::new(text, true).map(|glob| glob.is_match(text));
    }
    let _ = made(&mut Unstructured::new(data));
});

fn made(u: &mut Unstructured<'_>) -> Result<()> {
    let (first, second) = (parts(u, 40)?, parts(u, 12)?);
    path(&first);
    path(&second);
    // The slow reading tries every way.
    let pattern: String = first.chars().take(20).collect();
    if let Ok(glob) = Glob::new(&pattern, false) {
        let tokens = tokens(&mut pattern.chars().collect::<Vec<_>>().as_slice(), false);
        for text in [&second, &pattern] {
            if text.contains(char::is_control) {
                continue;
            }
            let last = text.rsplit('/').next().unwrap_or_default();
            let matched = if pattern.contains('/') { text.as_str() } else { last };
            let expected = matches(&tokens, &matched.chars().collect::<Vec<_>>());
            assert_eq!(glob.is_match(text), expected, "{pattern:?} {text:?}");
        }
    }
    Ok(())
}

fn parts(u: &mut Unstructured<'_>, most: usize) -> Result<String> {
    let mut text = String::new();
    for _ in 0..u.int_in_range(0..=most)? {
        text += u.choose(PARTS)?;
    }
    Ok(text)
}

fn path(text: &str) {
    for roots in [&["root"][..], &["root", "other"]] {
        let must_fail = text.starts_with('/')
            || text.split('/').any(|name| name == ".." || name.len() > 255)
            || text.contains(char::is_control);
        match read_path(text, roots) {
            Ok(Place::Roots) => assert!(!must_fail && roots.len() > 1),
            Ok(Place::Inside(Inside { root, relative })) => {
                assert!(!must_fail, "{text:?} was taken");
                let components = Path::new(&relative).components();
                assert!(components.clone().all(|part| matches!(part, Component::Normal(_))), "{text:?}");
                let names: Vec<_> = components.map(|part| part.as_os_str().to_str().unwrap()).collect();
                assert_eq!(names.join("/"), relative);
                let full = format!("{}/{relative}", roots[root]);
                assert_eq!(read_path(&full, roots), Ok(Place::Inside(Inside { root, relative })));
            }
            Err(reason) => assert!(!reason.is_empty()),
        }
    }
}

#[derive(Debug)]
enum Token {
    One(char),
    Any,
    Star,
    /// `**/`.
    Names,
    /// `**` at the end.
    Rest,
    Set(bool, Vec<(char, char)>),
    Either(Vec<Vec<Token>>),
}

/// Reads a pattern that is known to be right.
fn tokens(rest: &mut &[char], in_braces: bool) -> Vec<Token> {
    let mut found = Vec::new();
    while let Some((&c, after)) = rest.split_first() {
        if in_braces && matches!(c, ',' | '}') {
            break;
        }
        *rest = after;
        found.push(match c {
            '*' if rest.first() == Some(&'*') => match rest.len() {
                1 => {
                    *rest = &rest[1..];
                    Token::Rest
                }
                _ => {
                    *rest = &rest[2..];
                    Token::Names
                }
            },
            '*' => Token::Star,
            '?' => Token::Any,
            '\\' => Token::One(take(rest)),
            '[' => set(rest),
            '{' => {
                let mut either = vec![tokens(rest, true)];
                while take(rest) == ',' {
                    either.push(tokens(rest, true));
                }
                Token::Either(either)
            }
            c => Token::One(c),
        });
    }
    found
}

fn take(rest: &mut &[char]) -> char {
    let c = rest[0];
    *rest = &rest[1..];
    c
}

fn set(rest: &mut &[char]) -> Token {
    let negated = matches!(rest[0], '!' | '^');
    if negated {
        take(rest);
    }
    let mut ranges = Vec::new();
    loop {
        let from = match take(rest) {
            ']' if !ranges.is_empty() => return Token::Set(negated, ranges),
            '\\' => take(rest),
            c => c,
        };
        let mut to = from;
        if rest[0] == '-' && rest[1] != ']' {
            take(rest);
            to = match take(rest) {
                '\\' => take(rest),
                c => c,
            };
        }
        ranges.push((from, to));
    }
}

/// Whether all of a text matches, tried in every way.
fn matches(tokens: &[Token], text: &[char]) -> bool {
    ends(tokens, text, 0).contains(&text.len())
}

/// Positions at which a match that begins at one can end.
fn ends(tokens: &[Token], text: &[char], begin: usize) -> Vec<usize> {
    let mut at = vec![begin];
    for token in tokens {
        let mut next: Vec<usize> = at.iter().flat_map(|at| after(token, text, *at)).collect();
        next.sort_unstable();
        next.dedup();
        at = next;
    }
    at
}

fn after(token: &Token, text: &[char], at: usize) -> Vec<usize> {
    let within_name = |at: usize| text.get(at).is_some_and(|c| *c != '/');
    match token {
        Token::One(c) => text.get(at).filter(|found| *found == c).map(|_| at + 1).into_iter().collect(),
        Token::Any => Vec::from_iter(within_name(at).then_some(at + 1)),
        Token::Set(negated, ranges) => {
            let has = |c: &char| ranges.iter().any(|(from, to)| (from..=to).contains(&c));
            let fits = within_name(at) && has(&text[at]) != *negated;
            Vec::from_iter(fits.then_some(at + 1))
        }
        Token::Star => {
            let length = (at..).take_while(|at| within_name(*at)).count();
            (at..=at + length).collect()
        }
        Token::Names => {
            let mut found = vec![at];
            let mut from = at;
            while let Some(length) = text[from..].iter().position(|c| *c == '/').filter(|length| *length > 0) {
                from += length + 1;
                found.push(from);
            }
            found
        }
        Token::Rest => Vec::from_iter((at < text.len()).then_some(text.len())),
        Token::Either(either) => either.iter().flat_map(|tokens| ends(tokens, text, at)).collect(),
    }
}
