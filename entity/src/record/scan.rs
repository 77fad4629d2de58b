//! JSON scanner that finds the values under secret keys: one pass, no values built, no recursion.

use std::collections::HashSet;

/// Parts of secret keys, compared without case and without anything but letters and digits.
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

/// Returns start and end of each secret value, in order, and whether the document was read to its end.
pub(super) fn secret_values(text: &str, names: &HashSet<String>) -> (Vec<(usize, usize)>, Result<(), End>) {
    let mut scan = Scan { bytes: text.as_bytes(), at: 0, secrets: Vec::new(), key: Vec::new(), names };
    let end = scan.document();
    (scan.secrets, end)
}

/// Returns whether a text that is no key contains a secret key's name, or one of these.
pub(super) fn names_a_secret(text: &str, names: &HashSet<String>) -> bool {
    let plain = if names.is_empty() { String::new() } else { plain_name(text) };
    names.iter().any(|name| plain.contains(name)) || is_secret(text.as_bytes(), &mut Vec::new())
}

/// Returns the letters and digits of a name, in lower case, by which names of a tenant's rules are compared.
pub(super) fn plain_name(name: &str) -> String {
    name.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Returns whether a key names a secret. `plain` is room for its letters and digits.
fn is_secret(key: &[u8], plain: &mut Vec<u8>) -> bool {
    plain.clear();
    plain.extend(key.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase));
    let starts = |rest: &[u8]| SECRET_WORDS.iter().any(|word| rest.starts_with(word.as_bytes()));
    plain == b"pwd" || plain == b"auth" || {
        (0..plain.len())
            .any(|at| matches!(plain[at], b'p' | b's' | b't' | b'a' | b'c' | b'b') && starts(&plain[at..]))
    }
}

/// Cause of a scan that ended before the document.
pub(super) enum End {
    OfText,
    NotJson,
}

/// One pass over a JSON text that finds secret values.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Start and end of each secret value, in order.
    secrets: Vec<(usize, usize)>,
    key: Vec<u8>,
    /// Further names of secret values.
    names: &'a HashSet<String>,
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

    /// Ends a secret that the text's end cut.
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

    /// Reads on after a value (`ready`) or an opening bracket: a comma, a closing bracket, a member.
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

    /// Reads a member's key and colon and the space after; returns whether its value is a secret.
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
        let named;
        let mut secret = if escaped {
            let quoted = &self.bytes[start - 1..=end];
            let key: String = serde_json::from_slice(quoted).map_err(|_| End::NotJson)?;
            named = self.is_named(&key);
            is_secret(key.as_bytes(), &mut plain)
        } else {
            named = std::str::from_utf8(raw).is_ok_and(|key| self.is_named(key));
            is_secret(raw, &mut plain)
        };
        // `max_tokens: 100` is a count.
        if secret && plain.ends_with(b"tokens") && matches!(first, Ok(b'-' | b'0'..=b'9')) {
            secret = false;
        }
        self.key = plain;
        Ok(secret || named)
    }

    /// Returns whether a key is one of the further names.
    fn is_named(&self, key: &str) -> bool {
        !self.names.is_empty() && self.names.contains(&plain_name(key))
    }

    /// Reads a string; returns start and end of its content, and whether it has escapes.
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

    /// Moves to the next byte that is not a space and returns it.
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
