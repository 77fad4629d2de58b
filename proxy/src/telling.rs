//! Cause of a child's exit in its stderr: the line that names the error, and a hint for known errors.

/// Returns the line that names the error, by the clearest kind first; else the last line that is not noise.
pub fn telling_line<S: AsRef<str>>(lines: &[S]) -> Option<&str> {
    let lines: Vec<&str> = lines.iter().map(|line| line.as_ref().trim()).collect();
    let best = |rank: fn(&str) -> bool| lines.iter().rev().find(|line| rank(line)).copied();
    best(names_known_cause)
        .or_else(|| best(names_error))
        .or_else(|| best(|line| mentions_error(line) && !is_noise(line)))
        .or_else(|| best(|line| !is_noise(line)))
}

/// Returns the remedy of a recognised cause.
pub fn hint(lines: &[impl AsRef<str>]) -> Option<&'static str> {
    let has = |words: &[&str]| lines.iter().any(|line| words.iter().any(|word| line.as_ref().contains(word)));
    if has(&["Cannot find module", "Cannot find package", "ModuleNotFoundError", "No module named"]) {
        return Some("a module is missing: install the server's dependencies, or correct `args`");
    }
    if has(&["EADDRINUSE", "ddress already in use"]) {
        return Some("another process has the port: end that one, or give the server another port");
    }
    if has(&["command not found", "ENOENT", ": not found", "executable file not found"]) {
        return Some("a program or file is missing: install it, or correct `command`, `args` or PATH");
    }
    if lines.iter().any(|line| names_variable(line.as_ref())) {
        return Some("set the variable that it names in the server's `env`");
    }
    None
}

fn names_known_cause(line: &str) -> bool {
    const CAUSES: [&str; 6] = [
        "Cannot find module",
        "Cannot find package",
        "ModuleNotFoundError",
        "EADDRINUSE",
        "ddress already in use",
        "command not found",
    ];
    !is_noise(line) && CAUSES.iter().any(|cause| line.contains(cause))
}

/// Recognises `TypeError: …`, `Error [ERR_X]: …`, `sqlite3.OperationalError: …`, `Uncaught Error: …`.
fn names_error(line: &str) -> bool {
    let line = line.strip_prefix("Uncaught ").unwrap_or(line);
    let Some((name, _)) = line.split_once(':') else { return false };
    let name = name.split(" [").next().unwrap_or(name);
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "._".contains(c));
    is_name && (name.ends_with("Error") || name.ends_with("Exception"))
        || ["error", "fatal", "fatal error", "ERROR", "FATAL", "panic"].contains(&name)
}

fn mentions_error(line: &str) -> bool {
    let lower = line.to_lowercase();
    const WORDS: [&str; 13] = [
        "error",
        "fatal",
        "failed",
        "missing",
        "required",
        "must be set",
        "is not set",
        "not found",
        "cannot",
        "panicked",
        "unrecognized",
        "invalid",
        "unknown option",
    ];
    WORDS.iter().any(|word| lower.contains(word))
}

/// Returns whether a line reports a missing variable in capitals.
fn names_variable(line: &str) -> bool {
    let lower = line.to_lowercase();
    let missing =
        ["missing", "required", "must be set", "not set", "undefined", "must set", "provide", "keyerror"];
    let variable = |word: &str| {
        word.len() > 3
            && word.contains('_')
            && !word.starts_with("ERR")
            && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
    };
    missing.iter().any(|word| lower.contains(word))
        && line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(variable)
        || lower.contains("environment variable")
}

/// Recognises the Node version, a brace, a rule, a stack frame, a source location, a member of a dump.
fn is_noise(line: &str) -> bool {
    !line.chars().any(char::is_alphabetic)
        || line.starts_with("Node.js v")
        || line.starts_with("at ")
        || line.starts_with("File \"")
        || line.starts_with("node:")
        || line.starts_with("Traceback (")
        || line.starts_with("Require stack")
        || line.starts_with("- /")
        || line.starts_with("npm notice")
        || line.contains("A complete log of this run can be found in")
        || is_member(line)
}

/// Recognises `code: 'MODULE_NOT_FOUND',`, as Node prints an error's members.
fn is_member(line: &str) -> bool {
    let Some((name, value)) = line.split_once(": ") else { return false };
    name.chars().all(|c| c.is_ascii_alphanumeric())
        && value.starts_with(['\'', '[', '{', '-'])
        && (value.ends_with(',') || value.ends_with(['\'', ']', '[', '{']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn the_line_that_names_the_error_is_found() {
        let table = [
            (
                "node:internal/modules/cjs/loader:1\n  throw err;\n  ^\nError: Cannot find module 'x'\nRequire stack:\n- /a.js\n    at f (node:x:1:2)\n  code: 'MODULE_NOT_FOUND',\n  requireStack: []\n}\nNode.js v20.1.0",
                "Error: Cannot find module 'x'",
            ),
            (
                "/a.js:1\nlet = ;\n    ^\nSyntaxError: Unexpected token ';'\n    at g (x)\nNode.js v20.1.0",
                "SyntaxError: Unexpected token ';'",
            ),
            (
                "Traceback (most recent call last):\n  File \"a.py\", line 1, in <module>\nKeyError: 'API_KEY'",
                "KeyError: 'API_KEY'",
            ),
            ("OSError: [Errno 98] Address already in use", "OSError: [Errno 98] Address already in use"),
            ("FOO_KEY is required\nusage: x [--help]\n--------------------", "FOO_KEY is required"),
            ("hello\n-----\n}", "hello"),
        ];
        for (text, expected) in table {
            assert_eq!(telling_line(&lines(text)), Some(expected));
        }
        assert_eq!(telling_line(&lines("}\n---")), None);
    }

    #[test]
    fn known_causes_have_a_hint() {
        for (line, word) in [
            ("Error: Cannot find module 'x'", "module"),
            ("ModuleNotFoundError: No module named 'x'", "module"),
            ("Error: listen EADDRINUSE: address already in use :::80", "port"),
            ("sh: 1: foo: not found", "program"),
            ("KeyError: 'API_KEY'", "variable"),
            ("BRAVE_API_KEY environment variable is required", "variable"),
        ] {
            assert!(hint(&[line]).is_some_and(|hint| hint.contains(word)), "{line}");
        }
        assert_eq!(hint(&["TypeError: x is not a function"]), None);
    }
}
