//! Forms that values have. Each reads one value, or says the wanted form and what was given instead.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use protocol::{Role, Scope, Scopes, Slug};
use serde_json::Value;

use crate::config::{MAX_MILLIS, remote_address};
use crate::rest::input::fields::{kind_of, shortened};

/// What a form answers: the value, or the end of a sentence that begins with the field's name.
pub type Read<T> = Result<T, String>;

/// A text of so many characters, without NUL.
pub fn text(min: usize, max: usize) -> impl Fn(&Value) -> Read<String> {
    move |value| {
        let wanted = || format!("is a text of {min} to {max} characters");
        let Value::String(text) = value else { return Err(format!("{}, not {}", wanted(), kind_of(value))) };
        if text.contains('\0') {
            return Err("is a text without NUL characters".to_owned());
        }
        match text.chars().count() {
            length if (min..=max).contains(&length) => Ok(text.clone()),
            length => Err(format!("{}, not {length}", wanted())),
        }
    }
}

pub fn flag(value: &Value) -> Read<bool> {
    value.as_bool().ok_or_else(|| format!("is true or false, not {}", kind_of(value)))
}

/// A whole number in a range. 5.0 is one too.
pub fn whole(min: i64, max: i64) -> impl Fn(&Value) -> Read<i64> {
    move |value| {
        let wanted = || format!("is a whole number from {min} to {max}");
        let Value::Number(number) = value else {
            return Err(format!("{}, not {}", wanted(), kind_of(value)));
        };
        let whole = number.as_i64().or_else(|| {
            number
                .as_f64()
                .filter(|float| float.fract() == 0.0 && float.abs() < 9e15)
                .map(|float| float as i64)
        });
        match whole {
            Some(whole) if (min..=max).contains(&whole) => Ok(whole),
            Some(_) | None => Err(format!("{}, not {number}", wanted())),
        }
    }
}

/// A time in milliseconds, up to a day.
pub fn millis(min: i64) -> impl Fn(&Value) -> Read<i64> {
    whole(min, MAX_MILLIS as i64)
}

/// A list of at most so many, each of one form.
pub fn list<T>(max: usize, form: impl Fn(&Value) -> Read<T>) -> impl Fn(&Value) -> Read<Vec<T>> {
    move |value| {
        let Value::Array(elements) = value else { return Err(format!("is a list, not {}", kind_of(value))) };
        if elements.len() > max {
            return Err(format!("is a list of at most {max}, not {}", elements.len()));
        }
        let read = |(index, element)| form(element).map_err(|detail| format!("has at {index} what {detail}"));
        elements.iter().enumerate().map(read).collect()
    }
}

pub fn slug(value: &Value) -> Read<Slug> {
    let text = value.as_str().ok_or_else(|| format!("is a text, not {}", kind_of(value)))?;
    text.parse().map_err(|error| format!("is not a slug: {error}"))
}

pub fn agent_slug(value: &Value) -> Read<String> {
    let text = text(1, 64)(value)?;
    if entity::is_agent_slug(&text) {
        Ok(text)
    } else {
        Err("is 1 to 64 of A-Z, a-z, 0-9, _ . : @ and -".to_owned())
    }
}

/// Variables or headers: names with their secret values.
pub fn secrets(kind: SecretNames) -> impl Fn(&Value) -> Read<BTreeMap<String, String>> {
    move |value| {
        let values = named(kind, value, |value| secret(value).map(str::to_owned))?;
        kind.check(values.iter().map(|(name, value)| (name, value.as_str())))?;
        Ok(values)
    }
}

/// The same in a patch: null takes a name away.
pub fn secret_changes(kind: SecretNames) -> impl Fn(&Value) -> Read<BTreeMap<String, Option<String>>> {
    move |value| {
        let changes = named(kind, value, |value| match value {
            Value::Null => Ok(None),
            value => secret(value).map(|text| Some(text.to_owned())),
        })?;
        kind.check(changes.iter().map(|(name, value)| (name, value.as_deref().unwrap_or_default())))?;
        Ok(changes)
    }
}

#[derive(Clone, Copy)]
pub enum SecretNames {
    /// Of environment variables.
    Variables,
    /// Of HTTP headers (RFC 9110, section 5.1).
    Headers,
}

impl SecretNames {
    fn allow(self, name: &str) -> bool {
        let plain = |b: u8| match self {
            SecretNames::Variables => b != b'=' && b != 0,
            SecretNames::Headers => b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b),
        };
        (1..=256).contains(&name.len()) && name.bytes().all(plain)
    }

    /// What goes beyond single names: headers that cannot be given.
    fn check<'a>(self, values: impl Iterator<Item = (&'a String, &'a str)> + Clone) -> Read<()> {
        match self {
            SecretNames::Variables => Ok(()),
            SecretNames::Headers => {
                if let Some(name) = remote_address::twice(values.clone().map(|(name, _)| name)) {
                    return Err(format!("has `{}` twice", shortened(name)));
                }
                values.into_iter().try_for_each(|(name, value)| remote_address::header(name, value))
            }
        }
    }
}

fn named<T>(kind: SecretNames, value: &Value, read: impl Fn(&Value) -> Read<T>) -> Read<BTreeMap<String, T>> {
    let Value::Object(members) = value else {
        return Err(format!("is an object of names with text values, not {}", kind_of(value)));
    };
    if members.len() > 256 {
        return Err(format!("has at most 256 names, not {}", members.len()));
    }
    let entry = |(name, value): (&String, &Value)| {
        if !kind.allow(name) {
            return Err(format!("has a name that cannot be one: `{}`", shortened(name)));
        }
        read(value)
            .map(|value| (name.clone(), value))
            .map_err(|detail| format!("has in `{name}` what {detail}"))
    };
    members.iter().map(entry).collect()
}

/// The value itself never stands in a message.
fn secret(value: &Value) -> Read<&str> {
    match value {
        Value::String(text) if text.contains('\0') => Err("is a text without NUL characters".to_owned()),
        Value::String(text) if text.len() > 65_536 => Err("is a text of at most 65536 bytes".to_owned()),
        Value::String(text) => Ok(text),
        other => Err(format!("is a text, not {}", kind_of(other))),
    }
}

pub fn role(value: &Value) -> Read<Role> {
    let wanted = "is `operator`, `tenant-admin` or `agent`";
    let text = value.as_str().ok_or_else(|| format!("{wanted}, not {}", kind_of(value)))?;
    Role::parse(text).ok_or_else(|| format!("{wanted}, not `{}`", shortened(text)))
}

/// A list of at least one scope.
pub fn scopes(value: &Value) -> Read<Scopes> {
    let all = Scope::ALL.map(Scope::as_str).join(", ");
    let named = list(64, |value| {
        let text = value.as_str().ok_or_else(|| format!("is a text, not {}", kind_of(value)))?;
        Scope::parse(text)
            .ok_or_else(|| format!("is not a scope: `{}`; the scopes are {all}", shortened(text)))
    });
    let scopes: Scopes = named(value)?.into_iter().collect();
    if scopes.is_empty() { Err(format!("is a list of at least one of {all}")) } else { Ok(scopes) }
}

/// A moment that is still to come (RFC 3339).
pub fn future(value: &Value) -> Read<Timestamp> {
    let text = value.as_str().ok_or_else(|| format!("is a time as text, not {}", kind_of(value)))?;
    match moment(text)? {
        at if at > Timestamp::now() => Ok(at),
        at => Err(format!("is a time to come, and {at} is past")),
    }
}

/// A moment, as a query parameter has it (RFC 3339).
pub fn moment(text: &str) -> Read<Timestamp> {
    // In a query, an unescaped `+` of the offset arrives as a space.
    let text = text.replace(' ', "+");
    text.parse()
        .map_err(|_| format!("is a time such as 2026-01-31T12:00:00Z (RFC 3339), not `{}`", shortened(&text)))
}

/// How long: seconds, or a text such as `15m`. At most 30 days.
pub fn life(value: &Value) -> Read<Duration> {
    let wanted = "is a number of seconds, or a text such as `90s`, `15m`, `12h` or `7d`, up to 30 days";
    let seconds = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => {
            let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
            let factor = match &text[digits.len()..] {
                "s" => Some(1),
                "m" => Some(60),
                "h" => Some(3_600),
                "d" => Some(86_400),
                _ => None,
            };
            digits.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor))
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    seconds
        .filter(|seconds| (1..=30 * 86_400).contains(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| wanted.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whole_numbers() {
        let form = whole(0, 10);
        assert_eq!(form(&json!(7)), Ok(7));
        assert_eq!(form(&json!(7.0)), Ok(7));
        for bad in [json!(-1), json!(11), json!(1.5), json!("7"), json!(1e300)] {
            assert!(form(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_value_never_stands_in_a_message() {
        let form = secrets(SecretNames::Variables);
        assert_eq!(form(&json!({ "TZ": "UTC" })).unwrap()["TZ"], "UTC");
        for bad in [
            json!({ "TOKEN": 12345 }),
            json!({ "TOKEN": "12345\u{0}" }),
            json!({ "": "12345" }),
            json!("12345"),
        ] {
            let said = form(&bad).unwrap_err();
            assert!(!said.contains("12345"), "{said}");
        }
        assert!(form(&json!({ "A=B": "c" })).is_err());
        assert!(secrets(SecretNames::Headers)(&json!({ "X Y": "c" })).is_err());
        assert_eq!(secret_changes(SecretNames::Variables)(&json!({ "A": null })).unwrap()["A"], None);
    }

    #[test]
    fn lives() {
        assert_eq!(life(&json!(90)), Ok(Duration::from_secs(90)));
        assert_eq!(life(&json!("15m")), Ok(Duration::from_secs(900)));
        for bad in
            [json!(0), json!("0s"), json!("31d"), json!("15"), json!("m"), json!(-5), json!(1.5), json!("é")]
        {
            assert!(life(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn moments() {
        assert!(moment("2026-01-31T12:00:00Z").is_ok());
        assert!(moment("2026-01-31T12:00:00 01:00").is_ok(), "a plus sign that was decoded");
        assert!(moment("yesterday").is_err());
        assert!(future(&json!("2020-01-01T00:00:00Z")).is_err());
    }
}
