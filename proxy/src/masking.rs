//! Masking of secrets in a child's stderr: the values of the server's own variables, and everything that
//! looks like a key, a token or a password.

/// Most characters shown of a line.
const SHOWN_CHARS: usize = 300;

/// Least length of a variable's value to be masked.
const VALUE_BYTES: usize = 3;

/// Least length to be masked within another word, and to be guessed as a secret: a shorter text would be
/// found in every other word.
const SECRET_BYTES: usize = 6;

/// Fewest characters after the prefix of a key.
const KEY_BYTES: usize = 12;

const HIDDEN: &str = "[redacted]";

/// Values that are never masked.
const PLAIN_VALUES: [&str; 8] =
    ["true", "false", "null", "none", "undefined", "required", "missing", "invalid"];

/// Beginnings of well-known API keys and tokens.
const KEY_PREFIXES: [&str; 25] = [
    "mcp_live_",
    "sk-",
    "sk_",
    "pk_",
    "rk_",
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "ghr_",
    "github_pat_",
    "xoxa-",
    "xoxb-",
    "xoxp-",
    "xoxs-",
    "xapp-",
    "glpat-",
    "AKIA",
    "ASIA",
    "AIza",
    "hf_",
    "npm_",
    "pypi-",
    "SG.",
    "eyJ",
];

/// Endings of the names of secrets, in lower case, without `_`, `-` and `.`.
const SECRET_NAMES: [&str; 13] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
    "credential",
    "credentials",
    "authorization",
];

/// Values that are never shown, the longest first, since one may be a part of another.
pub struct Secrets(Vec<String>);

impl Secrets {
    /// Takes each line of each value, since programs print a value of several lines as such.
    pub fn new<'a>(values: impl Iterator<Item = &'a String>) -> Secrets {
        let lines = values.flat_map(|value| value.lines()).map(str::trim);
        let mut secrets: Vec<String> = lines
            .filter(|line| line.len() >= VALUE_BYTES && !is_plain_value(line))
            .map(str::to_owned)
            .collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        Secrets(secrets)
    }

    /// Returns the lines without secrets, each cut to a bounded length.
    pub fn masked(&self, lines: &[String]) -> Vec<String> {
        let mut in_key = false;
        let mask = |line: &String| {
            let line = without_private_key(line, &mut in_key);
            let line = self.0.iter().fold(line, |line, secret| without_value(&line, secret));
            without_keys(&without_user(&line)).chars().take(SHOWN_CHARS).collect()
        };
        lines.iter().map(mask).collect()
    }
}

/// Masks a value; a short one only where it stands alone.
fn without_value(line: &str, secret: &str) -> String {
    if secret.len() >= SECRET_BYTES {
        return line.replace(secret, HIDDEN);
    }
    let (mut out, mut from) = (String::new(), 0);
    for (at, _) in line.match_indices(secret) {
        let end = at + secret.len();
        let joined =
            line[..at].ends_with(char::is_alphanumeric) || line[end..].starts_with(char::is_alphanumeric);
        if !joined {
            out.push_str(&line[from..at]);
            out.push_str(HIDDEN);
            from = end;
        }
    }
    out + &line[from..]
}

/// Masks a private key in PEM form (RFC 7468), which goes on over lines that have no space in them.
fn without_private_key(line: &str, in_key: &mut bool) -> String {
    if *in_key {
        *in_key = !line.contains("-----END ") && !line.trim().contains(' ');
        return if *in_key || line.contains("-----END ") { HIDDEN.to_owned() } else { line.to_owned() };
    }
    let Some(begin) = line.find("-----BEGIN ").filter(|begin| line[*begin..].contains("PRIVATE KEY")) else {
        return line.to_owned();
    };
    let rest = match line[begin..].find("-----END ") {
        Some(end) => line[begin + end + "-----END ".len()..].split_once("-----").map_or("", |(_, rest)| rest),
        None => "",
    };
    *in_key = !line[begin..].contains("-----END ");
    format!("{}{HIDDEN}{rest}", &line[..begin])
}

/// Masks user and password of URLs (RFC 3986, 3.2.1).
fn without_user(line: &str) -> String {
    let (mut out, mut rest) = (String::new(), line);
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let ends = |c: char| c.is_whitespace() || "/?#\"'`<>".contains(c);
        let authority = &after[..after.find(ends).unwrap_or(after.len())];
        rest = match authority.rfind('@') {
            Some(user) => {
                out.push_str(HIDDEN);
                &after[user..]
            }
            None => after,
        };
    }
    out + rest
}

/// Certainty that a value follows.
#[derive(Clone, Copy, PartialEq)]
enum Follows {
    Value,
    /// A value or a part of a sentence.
    Perhaps,
}

/// Masks the value after the name of a secret, and keys with a well-known prefix.
fn without_keys(line: &str) -> String {
    let (mut out, mut rest, mut before) = (String::new(), line, "");
    while !rest.is_empty() {
        let (separator, after) = rest.split_at(rest.find(|c| !separates(c)).unwrap_or(rest.len()));
        out.push_str(separator);
        let follows = what_follows(before, separator);
        let end = match (follows, separator.chars().next_back().filter(|c| is_quote(*c))) {
            (Some(_), Some(quote)) => after.find(quote),
            (Some(_), None) => after.find(|c: char| c.is_whitespace() || is_quote(c) || ",;)}]>".contains(c)),
            (None, _) => after.find(separates),
        };
        let (piece, left) = after.split_at(end.unwrap_or(after.len()));
        if follows.is_some_and(|follows| is_secret(piece, follows)) {
            out.push_str(HIDDEN);
        } else {
            out.push_str(&without_prefixed_key(piece));
        }
        (before, rest) = (piece, left);
    }
    out
}

fn separates(c: char) -> bool {
    c.is_whitespace() || is_quote(c) || "=:,;(){}[]<>".contains(c)
}

fn is_quote(c: char) -> bool {
    "\"'`".contains(c)
}

/// Recognises `name=`, `"name": "`, `name: `, `--name `, `Bearer `.
fn what_follows(name: &str, separator: &str) -> Option<Follows> {
    let sign: String = separator.chars().filter(|c| !c.is_whitespace() && !is_quote(*c)).collect();
    if name.eq_ignore_ascii_case("bearer") && sign.is_empty() {
        return Some(Follows::Value);
    }
    let assigns = sign == "=" || sign == ":";
    if !names_secret(name) || !(assigns || sign.is_empty() && name.starts_with("--")) {
        return None;
    }
    let spaced = separator.contains(char::is_whitespace) && !separator.ends_with(is_quote);
    Some(if spaced { Follows::Perhaps } else { Follows::Value })
}

fn names_secret(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let bare: String = lower.chars().filter(|c| !"_-.".contains(*c)).collect();
    lower.ends_with("_key") || SECRET_NAMES.iter().any(|end| bare.ends_with(end))
}

fn is_secret(piece: &str, follows: Follows) -> bool {
    let is_word = piece.chars().all(|c| c.is_ascii_alphabetic() || "-.!?".contains(c));
    let is_variable = piece.contains('_') && piece.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let is_kept = piece.len() < SECRET_BYTES
        || piece == HIDDEN
        || is_variable
        || is_plain_value(piece)
        || is_word && follows == Follows::Perhaps;
    !is_kept
}

fn is_plain_value(value: &str) -> bool {
    PLAIN_VALUES.iter().any(|plain| value.eq_ignore_ascii_case(plain))
}

fn without_prefixed_key(piece: &str) -> String {
    for prefix in KEY_PREFIXES {
        let Some(at) = piece.find(prefix) else { continue };
        let tail = &piece[at + prefix.len()..];
        let tail = &tail
            [..tail.find(|c: char| !c.is_ascii_alphanumeric() && !"_-.".contains(c)).unwrap_or(tail.len())];
        // `npm_config_registry` is a name; keys have digits, or are one piece.
        let is_random = tail.contains(|c: char| c.is_ascii_digit()) || !tail.contains(['_', '-']);
        if tail.len() >= KEY_BYTES && is_random && !piece[..at].ends_with(|c: char| c.is_ascii_alphanumeric())
        {
            return format!("{}{HIDDEN}{}", &piece[..at], &piece[at + prefix.len() + tail.len()..]);
        }
    }
    piece.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str, values: &[&str]) -> String {
        let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        Secrets::new(values.iter()).masked(&lines).join("\n")
    }

    #[test]
    fn values_of_variables_are_hidden() {
        let key = "-----BEGIN X-----\nMIIEvQIBADAN\nBgkqhkiG9w0B\n-----END X-----";
        for (text, values, expected) in [
            ("bad key hunter2hunter2!", &["hunter2hunter2"][..], "bad key [redacted]!"),
            ("hunter2-and-more", &["hunter2", "hunter2-and-more"], "[redacted]"),
            ("bad password pw1.", &["pw1"], "bad password [redacted]."),
            ("pw12 is no pw1", &["pw1"], "pw12 is no [redacted]"),
            ("debug is true, level 1", &["true", "1", ""], "debug is true, level 1"),
            (key, &[key], "[redacted]\n[redacted]\n[redacted]\n[redacted]"),
        ] {
            assert_eq!(masked(text, values), expected);
        }
    }

    #[test]
    fn what_looks_like_a_secret_is_hidden() {
        for (text, expected) in [
            ("token=abcdefghij", "token=[redacted]"),
            ("MY_KEY=abcdefgh9=", "MY_KEY=[redacted]"),
            ("login with password: abc:defgh9, sorry", "login with password: [redacted], sorry"),
            (
                r#"{"token": "a b;cdefgh", "apiKey":"abcdefgh"}"#,
                r#"{"token": "[redacted]", "apiKey":"[redacted]"}"#,
            ),
            ("x --api-key abcdefgh99 --port 8", "x --api-key [redacted] --port 8"),
            ("x --access-token=abcdefgh99", "x --access-token=[redacted]"),
            ("Authorization: Bearer abcdefgh", "Authorization: Bearer [redacted]"),
            ("using sk-abcdefghijklmnop.", "using [redacted]"),
            ("(mcp_live_abcdefgh99abc)", "([redacted])"),
            ("AKIAABCDEFGHABCDEFGH, hf_abcdefgh99abc", "[redacted], [redacted]"),
            ("postgres://me:abc@defgh99@db/x", "postgres://[redacted]@db/x"),
            (
                "k -----BEGIN PRIVATE KEY-----\nMIIEvQIBADAN\nError: no key",
                "k [redacted]\n[redacted]\nError: no key",
            ),
            (r"'-----BEGIN EC PRIVATE KEY-----\nMII\n-----END EC PRIVATE KEY-----'", "'[redacted]'"),
        ] {
            assert_eq!(masked(text, &[]), expected);
        }
    }

    #[test]
    fn what_tells_the_error_is_kept() {
        for line in [
            "Error: Cannot find module 'x'",
            "KeyError: 'OPENAI_API_KEY'",
            "SyntaxError: Unexpected token '}'",
            "API_KEY=undefined",
            "Missing token: SLACK_BOT_TOKEN",
            "Invalid token: expected a string",
            "provide one with the --access-token argument or set the SUPABASE_ACCESS_TOKEN variable",
            "see https://example.com/@scope/package",
            "npm_config_registry is not set",
            "/a/task-runner-of-something/index.js",
        ] {
            assert_eq!(masked(line, &[]), line);
        }
    }

    #[test]
    fn long_lines_are_cut() {
        assert_eq!(masked(&"é".repeat(400), &[]).chars().count(), SHOWN_CHARS);
    }
}
