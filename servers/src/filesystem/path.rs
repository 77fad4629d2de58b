//! Paths as callers of the tools give them: the name of a root, then names below the root. Pure; looks at no
//! file system.

use uuid::Uuid;

/// Longest path, bytes, as Linux has it.
pub const LONGEST: usize = 4096;

/// Longest name within a path, bytes, as file systems have it.
const LONGEST_NAME: usize = 255;

/// Characters of a path that an error repeats.
const MOST_REPEATED: usize = 80;

/// Beginning and end of the names of files that are being written; 32 hexadecimal digits stand between.
const UNFINISHED: (&str, &str) = (".trunkline-", ".part");

/// Position that a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The list of all roots: an empty path where there are several.
    Roots,
    Inside(Inside),
}

/// A position in one root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inside {
    /// Index of the root.
    pub root: usize,
    /// Names below the root, separated by `/`; empty for the root itself.
    pub relative: String,
}

/// Reads a path. Empty names and `.` are left out. With one root the root's name may be left out; a first name
/// that is the root's is always taken for the root.
///
/// # Errors
/// The sentence that follows "the path … is refused:".
pub fn read(path: &str, roots: &[impl AsRef<str>]) -> Result<Place, String> {
    if path.len() > LONGEST {
        return Err(format!("it is longer than {LONGEST} bytes"));
    }
    if path.starts_with('/') {
        return Err("it is absolute: begin with the name of a root, without `/`".to_owned());
    }
    let mut names = Vec::new();
    for name in path.split('/').filter(|name| !matches!(*name, "" | ".")) {
        check_name(name)?;
        names.push(name);
    }
    let named = names.first().and_then(|first| roots.iter().position(|root| root.as_ref() == *first));
    let (root, below) = match (named, roots.len()) {
        (Some(root), _) => (root, &names[1..]),
        (None, 1) => (0, &names[..]),
        (None, _) if names.is_empty() => return Ok(Place::Roots),
        (None, _) => return Err(format!("it does not begin with the name of a root: {}", listed(roots))),
    };
    Ok(Place::Inside(Inside { root, relative: below.join("/") }))
}

/// Checks one name of a path.
///
/// # Errors
/// The sentence that follows "the path … is refused:".
pub fn check_name(name: &str) -> Result<(), String> {
    let reason = match name {
        ".." => "it has `..`: name the place from its root",
        name if name.contains('\0') => "it has a NUL character",
        name if name.contains(char::is_control) => "it has a control character",
        name if name.len() > LONGEST_NAME => "it has a name longer than 255 bytes",
        name if is_unfinished(name) => "its name is that of an unfinished write",
        _ => return Ok(()),
    };
    Err(reason.to_owned())
}

/// Returns a new name for a file that is being written.
pub fn unfinished() -> String {
    format!("{}{}{}", UNFINISHED.0, Uuid::new_v4().simple(), UNFINISHED.1)
}

/// Returns whether a name is that of a file that is being written.
pub fn is_unfinished(name: &str) -> bool {
    let between = name.strip_prefix(UNFINISHED.0).and_then(|rest| rest.strip_suffix(UNFINISHED.1));
    between.is_some_and(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Returns a path as an error repeats it: quoted, escaped and shortened.
pub fn shown(path: &str) -> String {
    let mut chars = path.chars();
    let mut short: String = chars.by_ref().take(MOST_REPEATED).collect();
    if chars.next().is_some() {
        short.push('…');
    }
    format!("{short:?}")
}

/// Returns the names of the roots for a sentence.
pub fn listed(roots: &[impl AsRef<str>]) -> String {
    let names: Vec<String> = roots.iter().map(|root| format!("`{}`", root.as_ref())).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(root: usize, relative: &str) -> Place {
        Place::Inside(Inside { root, relative: relative.to_owned() })
    }

    #[test]
    fn a_path_is_a_root_and_names_below_it() {
        let (one, two) = (["files"], ["files", "notes"]);
        for (path, roots, expected) in [
            ("", &one[..], inside(0, "")),
            (".", &one, inside(0, "")),
            ("files", &one, inside(0, "")),
            ("a/b", &one, inside(0, "a/b")),
            ("./a//b/", &one, inside(0, "a/b")),
            ("files/a", &one, inside(0, "a")),
            ("files/files", &one, inside(0, "files")),
            ("filesx/a", &one, inside(0, "filesx/a")),
            ("..a/b..", &one, inside(0, "..a/b..")),
            ("caf\u{e9}/a b/*\\", &one, inside(0, "caf\u{e9}/a b/*\\")),
            ("", &two, Place::Roots),
            ("./", &two, Place::Roots),
            ("notes/a", &two, inside(1, "a")),
            ("files", &two, inside(0, "")),
        ] {
            assert_eq!(read(path, roots).as_ref(), Ok(&expected), "{path:?}");
        }
    }

    #[test]
    fn a_refused_path_says_why() {
        let (long, long_name) = ("a/".repeat(2049), "n".repeat(256));
        let reserved = format!("a/{}", unfinished());
        for (path, part) in [
            ("/etc/passwd", "absolute"),
            ("//", "absolute"),
            ("..", "`..`"),
            ("../files_evil/secret", "`..`"),
            ("a/../../out", "`..`"),
            ("files/a/..", "`..`"),
            ("a\0b", "NUL"),
            ("a\nb", "control"),
            ("a\u{7f}", "control"),
            ("a\u{85}b", "control"),
            (&long, "4096"),
            (&long_name, "255"),
            (&reserved, "unfinished"),
        ] {
            let reason = read(path, &["files"]).unwrap_err();
            assert!(reason.contains(part), "{path:?}: {reason}");
        }
        let reason = read("filesx/a", &["files", "notes"]).unwrap_err();
        assert!(reason.contains("`files`, `notes`"), "{reason}");
    }

    #[test]
    fn a_repeated_path_is_short_and_escaped() {
        assert_eq!(shown("a\n\"b"), r#""a\n\"b""#);
        assert!(shown(&"x".repeat(100_000)).len() < 100);
    }

    #[test]
    fn names_of_unfinished_writes_are_recognised() {
        assert!(is_unfinished(&unfinished()));
        for name in [".trunkline-1.part", ".trunkline-", "a.part", &unfinished()[1..], &unfinished()[..47]] {
            assert!(!is_unfinished(name), "{name}");
        }
    }
}
