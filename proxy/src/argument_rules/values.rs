//! Pointers to values, and comparisons of values, as argument rules take them.

use std::cmp::Ordering;

use serde_json::{Number, Value};

/// Reads a JSON pointer (RFC 6901) that names something within a document.
pub fn pointer(text: &str) -> Result<Vec<String>, String> {
    let Some(rest) = text.strip_prefix('/') else {
        return Err(format!("`{text}` does not begin with `/`"));
    };
    let step = |step: &str| {
        let mut tildes = step.split('~').skip(1);
        match tildes.all(|after| after.starts_with(['0', '1'])) {
            true => Ok(step.replace("~1", "/").replace("~0", "~")),
            false => Err(format!("`{text}` has a `~` that is neither `~0` nor `~1`")),
        }
    };
    rest.split('/').map(step).collect()
}

/// Reads an index of a list: digits without zeros before them.
pub fn index(step: &str) -> Option<usize> {
    let is_plain = step.bytes().all(|byte| byte.is_ascii_digit()) && (step == "0" || !step.starts_with('0'));
    is_plain.then(|| step.parse().ok()).flatten()
}

/// Returns a name as readers see it that ignore case, such as Go's `encoding/json`.
pub fn fold(name: &str) -> String {
    name.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

/// Compares two values, in which 1 and 1.0 are one number.
pub fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => compare(one, other) == Ordering::Equal,
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, one)| other.get(name).is_some_and(|other| is_same(one, other)))
        }
        _ => one == other,
    }
}

/// Compares two numbers exactly: as whole numbers where both are, since a float has 53 bits only.
pub fn compare(one: &Number, other: &Number) -> Ordering {
    let whole = |number: &Number| {
        let float = || number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 1e38);
        number.as_i128().or_else(|| float().map(|float| float as i128))
    };
    match (whole(one), whole(other)) {
        (Some(one), Some(other)) => one.cmp(&other),
        _ => {
            let float = |number: &Number| number.as_f64().unwrap_or(f64::NAN);
            float(one).total_cmp(&float(other))
        }
    }
}

pub fn not(wanted: &str, value: &Value) -> String {
    format!("is {}, and the rule judges {wanted} only", kind_of(value))
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
