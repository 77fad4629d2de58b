//! Regular expressions of ECMAScript in Unicode mode, as ajv compiles them.

use std::collections::HashSet;

/// Most bytes of a regular expression.
const MAX_BYTES: usize = 16 << 10;

/// Checks a regular expression.
///
/// # Errors
/// What the JavaScript engines of current clients (Node 22) refuse.
pub fn check(pattern: &str) -> Result<(), String> {
    if pattern.len() > MAX_BYTES {
        return Err(format!("has a regular expression of more than {MAX_BYTES} bytes"));
    }
    let known = regress::Regex::with_flags(pattern, "u").map_err(|error| error.text);
    known
        .and_then(|_| check_newer(pattern).map_err(str::to_owned))
        .map_err(|problem| format!("has a regular expression that JavaScript refuses: {problem}"))
}

/// Refuses what `regress` takes and Node 22 does not: modifiers, names that are there twice (both of
/// ECMAScript 2025), and quantifiers after a word boundary.
fn check_newer(pattern: &str) -> Result<(), &'static str> {
    let bytes = pattern.as_bytes();
    let (mut at, mut in_class, mut names) = (0, false, HashSet::new());
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        at += 1;
        match rest {
            [b'\\', b'b' | b'B', b'*' | b'+' | b'?' | b'{', ..] if !in_class => {
                return Err("a quantifier after a word boundary");
            }
            [b'\\', ..] => at += 1,
            [b'[', ..] => in_class = true,
            [b']', ..] => in_class = false,
            _ if in_class => {}
            [b'(', b'?', b':' | b'=' | b'!', ..] | [b'(', b'?', b'<', b'=' | b'!', ..] => {}
            [b'(', b'?', b'<', name @ ..] => {
                let is_new = names.insert(name.split(|byte| *byte == b'>').next());
                is_new.then_some(()).ok_or("a group's name is there twice")?;
            }
            [b'(', b'?', ..] => return Err("modifiers in a group"),
            _ => {}
        }
    }
    Ok(())
}
