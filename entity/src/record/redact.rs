//! Redaction of a call's arguments: values under secret keys are replaced, and the text is cut at a cap.
//! Only the capped prefix is read, in one pass, without building values.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use super::scan::{End, names_a_secret, secret_values};

/// Default cap of kept arguments, in bytes.
pub const DEFAULT_ARGUMENTS_CAP: usize = 4096;

const REDACTED: &str = "\"[redacted]\"";
const CUT: &str = "… [cut]";
/// Replacement of a text that is not JSON and names a secret.
pub(super) const UNREADABLE: &str = "\"[redacted: not JSON]\"";

/// Returns the SHA-256 of the arguments as they were sent.
pub fn digest(arguments: &[u8]) -> [u8; 32] {
    Sha256::digest(arguments).into()
}

/// Returns the arguments (raw JSON) without secrets, at most `cap` bytes.
///
/// Values under secret keys, and under further `names` (by [`plain_name`]), become `"[redacted]"`, whatever they
/// are. A text over the cap ends in `… [cut]`. A text that is not JSON and names a secret is not kept at all.
pub(super) fn redact(arguments: &[u8], cap: usize, names: &HashSet<String>) -> Box<str> {
    let cut = arguments.len() > cap;
    let prefix = &arguments[..arguments.len().min(cap)];
    let Some(text) = text_of(prefix, cut) else {
        return unreadable(&String::from_utf8_lossy(prefix), cut, cap, names);
    };
    let (secrets, end) = secret_values(text, names);
    match end {
        Ok(()) if cut => with_mark(replace(text, &secrets), cap),
        Ok(()) => replace(text, &secrets).into(),
        Err(End::OfText) if cut => with_mark(replace(text, &secrets), cap),
        Err(End::OfText | End::NotJson) => unreadable(text, cut, cap, names),
    }
}

/// Cuts a text over the cap.
pub(super) fn cut(text: String, cap: usize) -> Box<str> {
    if text.len() > cap { with_mark(text, cap) } else { text.into() }
}

/// Returns the prefix as text, without a character that the cap cut.
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

/// Redacts a text that is not JSON, in which keys look like values.
fn unreadable(text: &str, cut: bool, cap: usize, names: &HashSet<String>) -> Box<str> {
    // An escape could spell any name.
    if text.contains("\\u") || names_a_secret(text, names) {
        return UNREADABLE.into();
    }
    if cut { with_mark(text.to_owned(), cap) } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn expect(arguments: &str, kept: &str) {
        assert_eq!(
            &*redact(arguments.as_bytes(), DEFAULT_ARGUMENTS_CAP, &HashSet::new()),
            kept,
            "of {arguments}"
        );
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
            let kept = redact(text.as_bytes(), cap, &HashSet::new());
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
        assert_eq!(&*redact(b"\xff{\"password\":1}", 100, &HashSet::new()), UNREADABLE);
        assert_eq!(&*redact(b"{\"a\":\"\xff\"}", 100, &HashSet::new()), "{\"a\":\"\u{fffd}\"}");
    }

    #[test]
    fn depth_is_no_danger() {
        let deep = "[".repeat(100_000);
        assert!(redact(deep.as_bytes(), 50_000, &HashSet::new()).ends_with(CUT));
    }
}
