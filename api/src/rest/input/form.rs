//! Forms of values: each reads one value, or names the accepted form and what was given instead, and
//! describes itself as JSON Schema for the OpenAPI document.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use protocol::{Role, Scope, Scopes, Slug};
use serde_json::{Value, json};

use crate::config::MAX_MILLIS;

/// Result of a form: the value, or the end of a sentence that begins with the field's name.
pub type Read<T> = Result<T, String>;

/// Longest lifetime of a token.
pub const MAX_LIFE_SECONDS: u64 = 30 * 86_400;

type Reader<T> = Box<dyn Fn(&Value) -> Read<T>>;

/// A reader of values, and their schema (JSON Schema 2020-12, as OpenAPI 3.1 has it).
pub struct Form<T> {
    read: Reader<T>,
    pub schema: Value,
}

impl<T: 'static> Form<T> {
    pub fn new(schema: Value, read: impl Fn(&Value) -> Read<T> + 'static) -> Self {
        Self { read: Box::new(read), schema }
    }

    /// Makes a form whose schema the document keeps under a name.
    pub fn named(name: &str, read: impl Fn(&Value) -> Read<T> + 'static) -> Self {
        Self::new(reference(name), read)
    }

    pub fn read(&self, value: &Value) -> Read<T> {
        (self.read)(value)
    }

    /// Adds a check or conversion of the value.
    pub fn then<U: 'static>(self, next: impl Fn(T) -> Read<U> + 'static) -> Form<U> {
        let read = self.read;
        Form::new(self.schema, move |value| next(read(value)?))
    }

    /// Adds a keyword to the schema.
    pub fn with(mut self, keyword: &str, value: impl Into<Value>) -> Self {
        self.schema[keyword] = value.into();
        self
    }
}

/// Refers to a schema that the document keeps under a name.
pub fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// Reads a text of so many characters, without NUL.
pub fn text(min: usize, max: usize) -> Form<String> {
    Form::new(json!({"type": "string", "minLength": min, "maxLength": max}), move |value| {
        let wanted = || format!("is a text of {min} to {max} characters");
        let Value::String(text) = value else { return Err(format!("{}, not {}", wanted(), kind_of(value))) };
        if text.contains('\0') {
            return Err("is a text without NUL characters".to_owned());
        }
        match text.chars().count() {
            length if (min..=max).contains(&length) => Ok(text.clone()),
            length => Err(format!("{}, not {length}", wanted())),
        }
    })
}

/// Reads one of these names, each of which stands for a value.
pub fn word<T: Copy + 'static, const N: usize>(choices: [(&'static str, T); N]) -> Form<T> {
    let pattern = words(choices.map(|(word, _)| word));
    let quoted = choices.map(|(word, _)| format!("`{word}`"));
    let (last, others) = quoted.split_last().expect("there is something to choose from");
    let wanted = format!("is {} or {last}", others.join(", "));
    Form::new(json!({"type": "string", "pattern": pattern}), move |value| {
        let text = value.as_str().ok_or_else(|| format!("{wanted}, not {}", kind_of(value)))?;
        let found = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        found.ok_or_else(|| format!("{wanted}, not `{}`", shortened(text)))
    })
}

pub fn flag() -> Form<bool> {
    Form::new(json!({"type": "boolean"}), |value| {
        value.as_bool().ok_or_else(|| format!("is true or false, not {}", kind_of(value)))
    })
}

/// Reads a whole number in a range. 5.0 is one too.
pub fn whole<N: TryFrom<i64> + 'static>(min: i64, max: i64) -> Form<N> {
    let format = format!("int{}", 8 * size_of::<N>());
    Form::new(json!({"type": "integer", "format": format, "minimum": min, "maximum": max}), move |value| {
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
        let fits = whole.filter(|whole| (min..=max).contains(whole));
        fits.and_then(|whole| N::try_from(whole).ok()).ok_or_else(|| format!("{}, not {number}", wanted()))
    })
}

/// Reads a time in milliseconds, up to a day.
pub fn millis(min: i64) -> Form<i64> {
    whole(min, MAX_MILLIS as i64)
}

/// Reads a list of at most so many items, each of one form.
pub fn list<T: 'static>(max: usize, of: Form<T>) -> Form<Vec<T>> {
    Form::new(json!({"type": "array", "items": of.schema, "maxItems": max}), move |value| {
        let Value::Array(elements) = value else { return Err(format!("is a list, not {}", kind_of(value))) };
        if elements.len() > max {
            return Err(format!("is a list of at most {max}, not {}", elements.len()));
        }
        let read =
            |(index, element)| of.read(element).map_err(|detail| format!("has at {index} what {detail}"));
        elements.iter().enumerate().map(read).collect()
    })
}

/// Reads an object of at most so many names, of at most so many characters each, whose values have one form.
pub fn by_name<T: 'static>(max: usize, longest: usize, of: Form<T>) -> Form<BTreeMap<String, T>> {
    let schema = json!({
        "type": "object", "propertyNames": {"type": "string", "minLength": 1, "maxLength": longest},
        "additionalProperties": of.schema, "maxProperties": max,
    });
    let name = text(1, longest);
    Form::new(schema, move |value| {
        let Value::Object(members) = value else {
            return Err(format!("is an object, not {}", kind_of(value)));
        };
        if members.len() > max {
            return Err(format!("has at most {max} names, not {}", members.len()));
        }
        let entry = |(key, value): (&String, &Value)| {
            let key = name
                .read(&Value::from(key.as_str()))
                .map_err(|detail| format!("has a name that {detail}"))?;
            let read =
                of.read(value).map_err(|detail| format!("has in `{}` what {detail}", shortened(&key)))?;
            Ok((key, read))
        };
        members.iter().map(entry).collect()
    })
}

pub fn slug() -> Form<Slug> {
    Form::named("ServerSlug", |value| {
        let text = value.as_str().ok_or_else(|| format!("is a text, not {}", kind_of(value)))?;
        text.parse().map_err(|error| format!("is not a slug: {error}"))
    })
}

pub fn agent_slug() -> Form<String> {
    let fits = |text: String| match entity::is_agent_slug(&text) {
        true => Ok(text),
        false => Err("is 1 to 64 of A-Z, a-z, 0-9, _ . : @ and -".to_owned()),
    };
    Form::named("AgentSlug", move |value| fits(text(1, 64).read(value)?))
}

pub fn role() -> Form<Role> {
    word([("operator", Role::Operator), ("tenant-admin", Role::TenantAdmin), ("agent", Role::Agent)])
}

/// Reads a list of at least one scope.
pub fn scopes() -> Form<Scopes> {
    let all = || Scope::ALL.map(Scope::as_str).join(", ");
    let scope = move |value: &Value| {
        let text = value.as_str().ok_or_else(|| format!("is a text, not {}", kind_of(value)))?;
        Scope::parse(text)
            .ok_or_else(|| format!("is not a scope: `{}`; the scopes are {}", shortened(text), all()))
    };
    list(64, Form::named("ScopeText", scope)).with("minItems", 1).then(move |scopes| {
        match scopes.as_slice() {
            [] => Err(format!("is a list of at least one of {}", all())),
            scopes => Ok(scopes.iter().copied().collect()),
        }
    })
}

/// Reads a future time (RFC 3339).
pub fn future() -> Form<Timestamp> {
    Form::named("Moment", |value| {
        let text = value.as_str().ok_or_else(|| format!("is a time as text, not {}", kind_of(value)))?;
        match moment(text)? {
            at if at > Timestamp::now() => Ok(at),
            at => Err(format!("is a time to come, and {at} is past")),
        }
    })
}

/// Reads a time of a query parameter (RFC 3339).
pub fn moment(text: &str) -> Read<Timestamp> {
    // In a query, an unescaped `+` of the offset arrives as a space.
    let text = text.replace(' ', "+");
    text.parse()
        .map_err(|_| format!("is a time such as 2026-01-31T12:00:00Z (RFC 3339), not `{}`", shortened(&text)))
}

/// Reads a duration: seconds, or a text such as `15m`. At most 30 days.
pub fn life() -> Form<Duration> {
    Form::named("Life", |value| {
        let wanted = "is a number of seconds, or a text such as `90s`, `15m`, `12h` or `7d`, up to 30 days";
        let seconds = match value {
            Value::Number(number) => number.as_u64().or_else(|| {
                let whole =
                    number.as_f64().filter(|float| float.fract() == 0.0 && (0.0..9e15).contains(float));
                whole.map(|float| float as u64)
            }),
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
            .filter(|seconds| (1..=MAX_LIFE_SECONDS).contains(seconds))
            .map(Duration::from_secs)
            .ok_or_else(|| wanted.to_owned())
    })
}

/// Reads the number of repeated attempts of a call.
pub fn attempts() -> Form<i32> {
    whole(0, 5)
}

/// Returns the pattern of a text that is one of these names.
pub fn words<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    format!("^({})$", words.into_iter().collect::<Vec<_>>().join("|"))
}

pub fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Returns at most 60 characters of what a caller sent, for messages.
pub fn shortened(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whole_numbers() {
        let form = whole::<i64>(0, 10);
        assert_eq!(form.read(&json!(7)), Ok(7));
        assert_eq!(form.read(&json!(7.0)), Ok(7));
        for bad in [json!(-1), json!(11), json!(1.5), json!("7"), json!(1e300)] {
            assert!(form.read(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lives() {
        assert_eq!(life().read(&json!(90)), Ok(Duration::from_secs(90)));
        assert_eq!(life().read(&json!("15m")), Ok(Duration::from_secs(900)));
        for bad in
            [json!(0), json!("0s"), json!("31d"), json!("15"), json!("m"), json!(-5), json!(1.5), json!("é")]
        {
            assert!(life().read(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn moments() {
        assert!(moment("2026-01-31T12:00:00Z").is_ok());
        assert!(moment("2026-01-31T12:00:00 01:00").is_ok(), "a plus sign that was decoded");
        assert!(moment("yesterday").is_err());
        assert!(future().read(&json!("2020-01-01T00:00:00Z")).is_err());
    }
}
