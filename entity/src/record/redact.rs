//! What of a call's arguments may be kept: values under keys that look secret are replaced, and the
//! text is cut at a cap. Only the capped prefix is looked at, in one pass, without building values.

use sha2::{Digest, Sha256};

/// The default cap of kept arguments, in bytes.
pub const DEFAULT_ARGUMENTS_CAP: usize = 4096;

const REDACTED: &str = "\"[redacted]\"";
const CUT: &str = "… [cut]";
/// What is kept of a text that is not JSON and names a secret.
const UNREADABLE: &str = "\"[redacted: not JSON]\"";

/// Keys that contain one of these, compared without case and without anything but letters and digits.
const SECRET_WORDS: [&str; 13] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "authorization",
    "apikey",
    "accesskey",
    "privatekey",
    "cookie",
    "credential",
    "connectionstring",
    "bearer",
];

/// SHA-256 of the arguments as they were sent.
pub fn digest(arguments: &[u8]) -> [u8; 32] {
    Sha256::digest(arguments).into()
}

/// The arguments (raw JSON) without secrets, at most `cap` bytes.
///
/// Values under secret keys become `"[redacted]"`, whatever they are. A text over the cap ends in
/// `… [cut]`. A text that is not JSON and names a secret is not kept at all.
pub fn redact(arguments: &[u8], cap: usize) -> Box<str> {
    let cut = arguments.len() > cap;
    let prefix = &arguments[..arguments.len().min(cap)];
    let Some(text) = text_of(prefix, cut) else {
        return unreadable(&String::from_utf8_lossy(prefix), cut, cap);
    };
    let mut scan = Scan { bytes: text.as_bytes(), at: 0, secrets: Vec::new(), key: Vec::new() };
    match scan.document() {
        Ok(()) if cut => with_mark(replace(text, &scan.secrets), cap),
        Ok(()) => replace(text, &scan.secrets).into(),
        Err(End::OfText) if cut => with_mark(replace(text, &scan.secrets), cap),
        Err(End::OfText | End::NotJson) => unreadable(text, cut, cap),
    }
}

/// The prefix as text; a character that the cap cut is left out.
fn text_of(prefix: &[u8], cut: bool) -> Option<&str> {
    match std::str::from_utf8(prefix) {
        Ok(text) => Some(text),
        Err(error) if cut && error.error_len().is_none() => {
            std::str::from_utf8(&prefix[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    }
}

fn replace(text: &str, secrets: &[(usize, usize)]) -> String {
    let mut kept = String::with_capacity(text.len() + secrets.len() * REDACTED.len());
    let mut from = 0;
    for &(start, end) in secrets {
        kept.push_str(&text[from..start]);
        kept.push_str(REDACTED);
        from = end;
    }
    kept.push_str(&text[from..]);
    kept
}

fn with_mark(mut text: String, cap: usize) -> Box<str> {
    text.truncate(text.floor_char_boundary(cap.saturating_sub(CUT.len())));
    text.push_str(CUT);
    text.into()
}

/// A text in which keys cannot be told from values.
fn unreadable(text: &str, cut: bool, cap: usize) -> Box<str> {
    // An escape could spell any word.
    if text.contains("\\u") || is_secret(text.as_bytes(), &mut Vec::new()) {
        return UNREADABLE.into();
    }
    if cut { with_mark(text.to_owned(), cap) } else { text.into() }
}

/// Whether a key names a secret. `plain` is room for its letters and digits.
fn is_secret(key: &[u8], plain: &mut Vec<u8>) -> bool {
    plain.clear();
    plain.extend(key.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase));
    let starts = |rest: &[u8]| SECRET_WORDS.iter().any(|word| rest.starts_with(word.as_bytes()));
    plain == b"pwd" || plain == b"auth" || {
        (0..plain.len())
            .any(|at| matches!(plain[at], b'p' | b's' | b't' | b'a' | b'c' | b'b') && starts(&plain[at..]))
    }
}

/// Why a scan ended before the document did.
enum End {
    OfText,
    NotJson,
}

/// One pass over a JSON text that finds where secret values stand.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Start and end of each secret value, in order.
    secrets: Vec<(usize, usize)>,
    key: Vec<u8>,
}

impl Scan<'_> {
    /// Reads the whole document; no recursion, since depth is the caller's choice.
    fn document(&mut self) -> Result<(), End> {
        // One bit of history per level: true in an object.
        let mut levels: Vec<bool> = Vec::new();
        // The level at which a secret value began, with its start.
        let mut secret: Option<(usize, usize)> = None;
        loop {
            // Here a value, or a closing bracket right after the opening one, stands.
            let opened = match self.value(&mut levels) {
                Ok(opened) => opened,
                Err(end) => return Err(self.leave_secret(secret, end)),
            };
            let mut ready = !opened;
            loop {
                if ready
                    && let Some((level, start)) = secret
                    && level == levels.len()
                {
                    self.secrets.push((start, self.at));
                    secret = None;
                }
                if ready && levels.is_empty() {
                    return self.only_space();
                }
                match self.separator(&mut levels, ready) {
                    Ok(Next::Closed) => ready = true,
                    Ok(Next::Value) => break,
                    Ok(Next::Key) => match self.key() {
                        Ok(is_secret) => {
                            if is_secret && secret.is_none() {
                                secret = Some((levels.len(), self.at));
                            }
                            break;
                        }
                        Err(end) => return Err(self.leave_secret(secret, end)),
                    },
                    Err(end) => return Err(self.leave_secret(secret, end)),
                }
            }
        }
    }

    /// A secret that the text's end cut reaches to the end.
    fn leave_secret(&mut self, secret: Option<(usize, usize)>, end: End) -> End {
        if let Some((_, start)) = secret {
            self.secrets.push((start, self.bytes.len()));
        }
        end
    }

    /// Reads a string, number or literal, or enters an object or array (then true).
    fn value(&mut self, levels: &mut Vec<bool>) -> Result<bool, End> {
        match self.peek()? {
            b'"' => self.string().map(|_| false),
            open @ (b'{' | b'[') => {
                self.at += 1;
                levels.push(open == b'{');
                Ok(true)
            }
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
                let rest = &self.bytes[self.at..];
                let end =
                    rest.iter().position(|b| !matches!(b, b'-' | b'+' | b'.') && !b.is_ascii_alphanumeric());
                self.at += end.unwrap_or(rest.len());
                Ok(false)
            }
            _ => Err(End::NotJson),
        }
    }

    /// What follows a value (`ready`) or an opening bracket: a comma, a closing bracket, a member.
    fn separator(&mut self, levels: &mut Vec<bool>, ready: bool) -> Result<Next, End> {
        let in_object = levels.last().copied().unwrap_or(false);
        let byte = self.peek()?;
        if byte == if in_object { b'}' } else { b']' } {
            self.at += 1;
            levels.pop();
            return Ok(Next::Closed);
        }
        if ready {
            if byte != b',' {
                return Err(End::NotJson);
            }
            self.at += 1;
        }
        Ok(if in_object { Next::Key } else { Next::Value })
    }

    /// Reads a member's key and colon and the space after; whether its value is a secret.
    fn key(&mut self) -> Result<bool, End> {
        if self.peek()? != b'"' {
            return Err(End::NotJson);
        }
        let (start, end, escaped) = self.string()?;
        if self.peek()? != b':' {
            return Err(End::NotJson);
        }
        self.at += 1;
        let first = self.peek();
        let raw = &self.bytes[start..end];
        let mut plain = std::mem::take(&mut self.key);
        let mut secret = if escaped {
            let quoted = &self.bytes[start - 1..=end];
            let key: String = serde_json::from_slice(quoted).map_err(|_| End::NotJson)?;
            is_secret(key.as_bytes(), &mut plain)
        } else {
            is_secret(raw, &mut plain)
        };
        // `max_tokens: 100` is a count.
        if secret && plain.ends_with(b"tokens") && matches!(first, Ok(b'-' | b'0'..=b'9')) {
            secret = false;
        }
        self.key = plain;
        Ok(secret)
    }

    /// Reads a string: where its content starts and ends, and whether it has escapes.
    fn string(&mut self) -> Result<(usize, usize, bool), End> {
        let start = self.at + 1;
        let mut from = start;
        let mut escaped = false;
        loop {
            let rest = self.bytes.get(from..).ok_or(End::OfText)?;
            let at = from + memchr::memchr2(b'"', b'\\', rest).ok_or(End::OfText)?;
            if self.bytes[at] == b'"' {
                self.at = at + 1;
                return Ok((start, at, escaped));
            }
            escaped = true;
            from = at + 2;
        }
    }

    /// The next byte that is not a space; the position is then there.
    fn peek(&mut self) -> Result<u8, End> {
        while let Some(&byte) = self.bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Ok(byte);
            }
            self.at += 1;
        }
        Err(End::OfText)
    }

    fn only_space(&mut self) -> Result<(), End> {
        match self.peek() {
            Ok(_) => Err(End::NotJson),
            Err(_) => Ok(()),
        }
    }
}

enum Next {
    Key,
    Value,
    Closed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn expect(arguments: &str, kept: &str) {
        assert_eq!(&*redact(arguments.as_bytes(), DEFAULT_ARGUMENTS_CAP), kept, "of {arguments}");
    }

    #[test]
    fn values_under_secret_keys_are_replaced_whatever_they_are() {
        expect(r#"{"password":"x"}"#, r#"{"password":"[redacted]"}"#);
        expect(
            r#"{ "a" : 1 , "Pass-Word" :  "x" , "b":2}"#,
            r#"{ "a" : 1 , "Pass-Word" :  "[redacted]" , "b":2}"#,
        );
        expect(r#"{"api_key":12,"x":1}"#, r#"{"api_key":"[redacted]","x":1}"#);
        expect(r#"{"X-API-Key":null}"#, r#"{"X-API-Key":"[redacted]"}"#);
        expect(r#"{"secret":{"a":[1,"}"]},"b":2}"#, r#"{"secret":"[redacted]","b":2}"#);
        expect(r#"{"tokens":["a","b"],"c":[]}"#, r#"{"tokens":"[redacted]","c":[]}"#);
        expect(
            r#"{"a":[{"b":{"Authorization":"Bearer y"}}]}"#,
            r#"{"a":[{"b":{"Authorization":"[redacted]"}}]}"#,
        );
        expect(
            r#"[{"cookie":""},{"CREDENTIALS":true}]"#,
            r#"[{"cookie":"[redacted]"},{"CREDENTIALS":"[redacted]"}]"#,
        );
        expect(
            r#"{"client_secret":"a","clientSecret":"b"}"#,
            r#"{"client_secret":"[redacted]","clientSecret":"[redacted]"}"#,
        );
        expect(
            r#"{"access.key":"a","privateKey":"b","pwd":"c"}"#,
            r#"{"access.key":"[redacted]","privateKey":"[redacted]","pwd":"[redacted]"}"#,
        );
    }

    #[test]
    fn escapes_hide_no_key_and_end_no_string() {
        expect(r#"{"pass\u0077ord":"x"}"#, r#"{"pass\u0077ord":"[redacted]"}"#);
        expect(r#"{"\u0053ECRET":"x"}"#, r#"{"\u0053ECRET":"[redacted]"}"#);
        expect(r#"{"token":"a\"b","c":"d\\"}"#, r#"{"token":"[redacted]","c":"d\\"}"#);
    }

    #[test]
    fn what_is_no_secret_stays_as_it_is() {
        for text in [
            r#"{"text":"my password is in the key file","key":"k","author":"me"}"#,
            r#"{"max_tokens":100,"totalTokens": 7}"#,
            r#"{"type":"password"}"#,
            r#"["token","secret"]"#,
            r#""password""#,
            "{}",
            "[]",
            "null",
            " -1.5e3 ",
            r#"{"a":{"b":[[],{}]},"":"é€😀"}"#,
        ] {
            expect(text, text);
        }
    }

    #[test]
    fn a_cut_text_keeps_no_part_of_a_secret() {
        let filler = "x".repeat(100);
        for cap in 0..160 {
            let text = format!(
                r#"{{"a":"é{filler}","password":"hunter2 hunter2 hunter2","b":[{{"token":{{"c":"hunter2"}}}}]}}"#
            );
            let kept = redact(text.as_bytes(), cap);
            assert!(!kept.contains("hunter"), "{cap}: {kept}");
            assert!(kept.ends_with(CUT), "{cap}: {kept}");
            assert!(kept.len() <= cap.max(CUT.len()), "{cap}: {kept}");
        }
    }

    #[test]
    fn what_is_not_json_is_kept_only_without_secrets() {
        for text in [
            "{'password': 'x'}",
            r#"{"password" "x"}"#,
            r#"{"a":1}{"token":"x"}"#,
            r#"{"pass\u0077ord" "x"}"#,
            r#"{"token":"x"#,
            "password=x",
            "Authorization: Bearer x",
        ] {
            expect(text, UNREADABLE);
        }
        expect(r#"{"a":"#, r#"{"a":"#);
        expect("", "");
        assert_eq!(&*redact(b"\xff{\"password\":1}", 100), UNREADABLE);
        assert_eq!(&*redact(b"{\"a\":\"\xff\"}", 100), "{\"a\":\"\u{fffd}\"}");
    }

    #[test]
    fn depth_is_no_danger() {
        let deep = "[".repeat(100_000);
        assert!(redact(deep.as_bytes(), 50_000).ends_with(CUT));
    }
}
