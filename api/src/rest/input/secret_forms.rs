//! Forms of variables and headers, whose values are secrets.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::config::remote_address;
use crate::rest::input::form::{Form, Read, kind_of, shortened};

/// Reads variables or headers: names with their secret values.
pub fn secrets(kind: SecretNames) -> Form<BTreeMap<String, String>> {
    Form::new(secrets_schema(json!("string")), move |value| {
        let values = secrets_by_name(kind, value, |value| secret(value).map(str::to_owned))?;
        kind.check(values.iter().map(|(name, value)| (name, value.as_str())))?;
        Ok(values)
    })
}

/// Reads variables or headers of a patch, in which null removes a name.
pub fn secret_changes(kind: SecretNames) -> Form<BTreeMap<String, Option<String>>> {
    Form::new(secrets_schema(json!(["string", "null"])), move |value| {
        let changes = secrets_by_name(kind, value, |value| match value {
            Value::Null => Ok(None),
            value => secret(value).map(|text| Some(text.to_owned())),
        })?;
        kind.check(changes.iter().map(|(name, value)| (name, value.as_deref().unwrap_or_default())))?;
        Ok(changes)
    })
}

fn secrets_schema(value: Value) -> Value {
    json!({
        "type": "object", "propertyNames": {"type": "string", "minLength": 1, "maxLength": MAX_NAME},
        "additionalProperties": {"type": value, "maxLength": MAX_SECRET}, "maxProperties": MAX_NAMES,
    })
}

/// Most names of an object of secrets.
const MAX_NAMES: usize = 256;
/// Most bytes of such a name.
const MAX_NAME: usize = 256;
/// Most bytes of a secret value.
const MAX_SECRET: usize = 65_536;

#[derive(Clone, Copy)]
pub enum SecretNames {
    /// Names of environment variables.
    Variables,
    /// Names of HTTP headers (RFC 9110, section 5.1).
    Headers,
}

impl SecretNames {
    fn allow(self, name: &str) -> bool {
        let plain = |b: u8| match self {
            SecretNames::Variables => b != b'=' && b != 0,
            SecretNames::Headers => b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b),
        };
        (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(plain)
    }

    /// Checks all names together: headers that cannot be given.
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

fn secrets_by_name<T>(
    kind: SecretNames,
    value: &Value,
    read: impl Fn(&Value) -> Read<T>,
) -> Read<BTreeMap<String, T>> {
    let Value::Object(members) = value else {
        return Err(format!("is an object of names with text values, not {}", kind_of(value)));
    };
    if members.len() > MAX_NAMES {
        return Err(format!("has at most {MAX_NAMES} names, not {}", members.len()));
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

/// Reads a secret value, which never stands in a message.
fn secret(value: &Value) -> Read<&str> {
    match value {
        Value::String(text) if text.contains('\0') => Err("is a text without NUL characters".to_owned()),
        Value::String(text) if text.len() > MAX_SECRET => {
            Err(format!("is a text of at most {MAX_SECRET} bytes"))
        }
        Value::String(text) => Ok(text),
        other => Err(format!("is a text, not {}", kind_of(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_value_never_stands_in_a_message() {
        let form = secrets(SecretNames::Variables);
        assert_eq!(form.read(&json!({ "TZ": "UTC" })).unwrap()["TZ"], "UTC");
        for bad in [
            json!({ "TOKEN": 12345 }),
            json!({ "TOKEN": "12345\u{0}" }),
            json!({ "": "12345" }),
            json!("12345"),
        ] {
            let said = form.read(&bad).unwrap_err();
            assert!(!said.contains("12345"), "{said}");
        }
        assert!(form.read(&json!({ "A=B": "c" })).is_err());
        assert!(secrets(SecretNames::Headers).read(&json!({ "X Y": "c" })).is_err());
        assert_eq!(secret_changes(SecretNames::Variables).read(&json!({ "A": null })).unwrap()["A"], None);
    }
}
