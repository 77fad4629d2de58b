//! Command line of the server: `DIR…`, `NAME=DIR`, `--read-only`, `--allow-hard-links`, `--max-bytes N`.

use std::path::{Path, PathBuf};

use super::{Filesystem, FilesystemSettings};

/// Name of the root of a directory without a name that is UTF-8, such as `/`.
const NAMELESS: &str = "root";

impl Filesystem {
    /// Opens the server that a command line describes.
    ///
    /// # Errors
    /// One sentence for the operator: what is wrong, and what to give.
    pub fn from_arguments(
        arguments: &[String],
        _variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        Self::open(FilesystemSettings::from_arguments(arguments)?)
    }
}

impl FilesystemSettings {
    /// Reads a command line.
    ///
    /// # Errors
    /// One sentence for the operator: what is wrong, and what to give.
    pub fn from_arguments(arguments: &[String]) -> Result<Self, String> {
        let mut settings = Self::default();
        let (mut named, mut unnamed) = (Vec::new(), Vec::new());
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.split_once('=').unwrap_or((argument, "")) {
                ("--read-only", "") => settings.read_only = true,
                ("--allow-hard-links", "") => settings.allow_hard_links = true,
                ("--max-bytes", value) => {
                    let value = if value.is_empty() { rest.next().map_or("", String::as_str) } else { value };
                    settings.max_bytes = value.parse().ok().filter(|bytes| *bytes > 0).ok_or_else(|| {
                        format!(
                            "`--max-bytes` {value:?} is not a number of bytes: give a whole number from 1"
                        )
                    })?;
                }
                (option, _) if option.starts_with('-') => {
                    return Err(format!(
                        "`{argument}` is no option of this server: the options are `--read-only`, \
                         `--allow-hard-links` and `--max-bytes N`; a directory of that name is `./{argument}`"
                    ));
                }
                (name, dir) if !dir.is_empty() && !name.contains('/') => {
                    named.push((name.to_owned(), PathBuf::from(dir)));
                }
                _ if argument.is_empty() => return Err("a directory is empty: give its path".to_owned()),
                _ => unnamed.push(PathBuf::from(argument)),
            }
        }
        if named.is_empty() && unnamed.is_empty() {
            return Err("no directory is given: give one or more as `DIR` or `NAME=DIR`".to_owned());
        }
        settings.roots = named;
        for dir in unnamed {
            settings.roots.push((free_name(&dir, &settings.roots), dir));
        }
        Ok(settings)
    }
}

/// Returns the base name of a directory, with a number where another root has it.
fn free_name(dir: &Path, taken: &[(String, PathBuf)]) -> String {
    // `.` and `..` have a base name only in full.
    let full = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let base = full.file_name().and_then(|name| name.to_str()).unwrap_or(NAMELESS).to_owned();
    let is_free = |name: &String| taken.iter().all(|(other, _)| other != name);
    let numbered = (2..).map(|number| format!("{base}-{number}"));
    std::iter::once(base.clone()).chain(numbered).find(is_free).unwrap_or(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<FilesystemSettings, String> {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        FilesystemSettings::from_arguments(&arguments)
    }

    fn roots(arguments: &[&str]) -> Vec<(String, String)> {
        let roots = read(arguments).unwrap().roots.into_iter();
        roots.map(|(name, dir)| (name, dir.to_str().unwrap().to_owned())).collect()
    }

    #[test]
    fn roots_have_the_names_of_their_directories() {
        let pairs = |expected: &[(&str, &str)]| -> Vec<(String, String)> {
            expected.iter().map(|(name, dir)| ((*name).to_owned(), (*dir).to_owned())).collect()
        };
        for (arguments, expected) in [
            (&["/x/files"][..], &[("files", "/x/files")][..]),
            (&["/x/files", "/y/files/"], &[("files", "/x/files"), ("files-2", "/y/files/")]),
            (&["/x/files", "files=/y"], &[("files", "/y"), ("files-2", "/x/files")]),
            (&["notes=/y/a=b"], &[("notes", "/y/a=b")]),
            (&["./a=b/c"], &[("c", "./a=b/c")]),
            (&["/"], &[("root", "/")]),
            (&["/x/..a"], &[("..a", "/x/..a")]),
        ] {
            assert_eq!(roots(arguments), pairs(expected), "{arguments:?}");
        }
        assert_ne!(roots(&["."])[0].0, ".");
    }

    #[test]
    fn options_are_read() {
        let settings = read(&["--read-only", "/x", "--max-bytes", "5", "--allow-hard-links"]).unwrap();
        assert!(settings.read_only && settings.allow_hard_links && settings.max_bytes == 5);
        let settings = read(&["--max-bytes=7", "/x"]).unwrap();
        assert!(!settings.read_only && !settings.allow_hard_links && settings.max_bytes == 7);
        assert_eq!(read(&["/x"]).unwrap().max_bytes, 10_000_000);
    }

    #[test]
    fn a_mistake_says_what_to_give() {
        for (arguments, part) in [
            (&[][..], "no directory is given"),
            (&["--read-only"], "no directory is given"),
            (&["--read-write", "/x"], "`--read-only`"),
            (&["--max-bytes", "/x"], "whole number"),
            (&["--max-bytes", "0", "/x"], "whole number"),
            (&["/x", "--max-bytes"], "whole number"),
            (&[""], "empty"),
        ] {
            let mistake = read(arguments).unwrap_err();
            assert!(mistake.contains(part), "{arguments:?}: {mistake}");
        }
        for (arguments, part) in [
            (&["/no/such/directory"][..], "cannot be opened"),
            (&["/proc/self/status"], "cannot be opened"),
            (&["a=/tmp", "a=/"], "two roots"),
            (&["..=/tmp"], "`..`"),
            (&["a\nb=/tmp"], "control"),
        ] {
            let mistake = Filesystem::open(read(arguments).unwrap()).map(drop).unwrap_err();
            assert!(mistake.contains(part), "{arguments:?}: {mistake}");
        }
    }
}
