//! Workspace paths, lease patterns and ids as callers give them.

use protocol::{Code, Refusal};
use unicode_normalization::is_nfc;

/// Longest path, bytes.
const LONGEST: usize = 1024;

/// Most names of a pattern.
const LONGEST_PATTERN: usize = 32;

/// Longest name within a path, bytes, as file systems have it.
const LONGEST_NAME: usize = 255;

/// Checks a path: names separated by `/`, relative to the workspace.
pub fn check_path(path: &str) -> Result<(), Refusal> {
    check(path, "path")?;
    match path.contains(['*', '?']) {
        true => Err(refuse("path", path, "`*` and `?` are for patterns of leases only")),
        false => Ok(()),
    }
}

/// Checks a path, or a pattern with `*`, `?` and `**`.
pub fn check_pattern(pattern: &str) -> Result<(), Refusal> {
    check(pattern, "path")?;
    // Two patterns are compared name by name.
    if pattern.contains(['*', '?']) && pattern.split('/').count() > LONGEST_PATTERN {
        return Err(refuse("path", pattern, "a pattern has at most 32 names"));
    }
    let half = |name: &str| name.contains("**") && name != "**";
    match pattern.split('/').any(half) {
        true => Err(refuse("path", pattern, "`**` stands alone between slashes")),
        false => Ok(()),
    }
}

/// Checks the beginning of paths; empty for all.
pub fn check_prefix(prefix: &str) -> Result<(), Refusal> {
    match prefix.strip_suffix('/').unwrap_or(prefix) {
        "" => Ok(()),
        prefix => check_path(prefix),
    }
}

/// Returns whether a text can be the id of a task.
pub fn is_task_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:@-".contains(&byte);
    // `.` and `..` mean other things in the path of an address.
    (1..=128).contains(&id.len()) && id.bytes().all(plain) && !id.starts_with('.')
}

/// Checks the id of a task.
pub fn check_task(id: &str) -> Result<(), Refusal> {
    if is_task_id(id) {
        return Ok(());
    }
    let shown: String = id.chars().take(40).collect();
    Err(Refusal::new(
        Code::ValidationFailed,
        format!(
            "the task id {shown:?} is not 1 to 128 letters, digits and `_.:@-`, without a dot at the beginning"
        ),
    ))
}

fn check(path: &str, what: &'static str) -> Result<(), Refusal> {
    let reason = match path {
        "" => "it is empty",
        path if path.len() > LONGEST => "it is longer than 1024 bytes",
        path if path.starts_with('/') => "it begins with `/`: paths are relative to the task's workspace",
        path if path.contains('\\') => "it has a `\\`: names are separated by `/`",
        path if path.chars().any(is_unprintable) => "it has a control or an invisible character",
        path if !is_nfc(path) => "it is not in the Unicode form NFC, so it would look like another path",
        path => match path.split('/').find_map(wrong_name) {
            Some(reason) => reason,
            None => return Ok(()),
        },
    };
    Err(refuse(what, path, reason))
}

fn wrong_name(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("it has an empty name: `//`, or `/` at the end"),
        "." | ".." => Some("it has `.` or `..`: nothing outside the task's workspace can be named"),
        name if name.len() > LONGEST_NAME => Some("it has a name longer than 255 bytes"),
        name if name.starts_with(' ') || name.ends_with([' ', '.']) => {
            Some("it has a name that begins with a space, or ends with a space or a dot")
        }
        _ => None,
    }
}

/// Control characters, marks of writing direction and characters without width.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{feff}' | '\u{fff0}'..='\u{ffff}' | '\u{e0000}'..='\u{10ffff}')
}

fn refuse(what: &str, path: &str, reason: &str) -> Refusal {
    let shown: String = path.chars().take(80).collect();
    Refusal::new(Code::ValidationFailed, format!("the {what} {shown:?} is refused: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_outside_and_ambiguous_ones_are_refused_with_a_reason() {
        let (long, long_name) = (format!("{}x", "a/".repeat(600)), "n".repeat(256));
        for (path, part) in [
            ("", "empty"),
            ("/etc/passwd", "begins with `/`"),
            ("../x", "`..`"),
            ("a/../b", "`..`"),
            ("./a", "`.`"),
            ("a//b", "empty name"),
            ("a/", "empty name"),
            ("a\\b", "separated by `/`"),
            ("C:\\x", "separated by `/`"),
            ("a\0b", "control"),
            ("a\nb", "control"),
            ("a\u{202e}b", "invisible"),
            ("a\u{200b}", "invisible"),
            ("cafe\u{301}", "NFC"),
            ("\u{212b}", "NFC"),
            ("a. ", "space"),
            ("a./b", "dot"),
            ("*.rs", "patterns"),
            (&long, "1024"),
            (&long_name, "255"),
        ] {
            let refusal = check_path(path).unwrap_err();
            assert!(refusal.reason.contains(part), "{path:?}: {}", refusal.reason);
            assert_eq!(refusal.code, Code::ValidationFailed);
        }
        for path in ["a", "src/main.rs", "caf\u{e9}/ü", ".env", "..a", "a..b", "a b/c", "日本/語"] {
            check_path(path).unwrap();
        }
    }

    #[test]
    fn patterns_and_prefixes() {
        for pattern in ["**", "src/**/*.rs", "a?b", "*"] {
            check_pattern(pattern).unwrap();
        }
        let deep = format!("{}*", "a/".repeat(32));
        for pattern in ["a**", "**.rs", "/**", "../**", "", &deep] {
            check_pattern(pattern).unwrap_err();
        }
        for prefix in ["", "src", "src/"] {
            check_prefix(prefix).unwrap();
        }
        for prefix in ["..", "/", "src//"] {
            assert_eq!(check_prefix(prefix).is_ok(), prefix == "/", "{prefix}");
        }
        for (id, fits) in [
            ("task-123", true),
            ("a:b@c.d_e", true),
            ("", false),
            ("a b", false),
            ("ä", false),
            ("..", false),
            (".", false),
        ] {
            assert_eq!(check_task(id).is_ok(), fits, "{id}");
        }
        check_task(&"x".repeat(129)).unwrap_err();
    }
}
