//! Values of SQLite as JSON, and JSON values as parameters of its statements.

use rusqlite::Statement;
use rusqlite::types::{ToSqlOutput, Value as Owned, ValueRef};
use serde_json::{Value, json};

use crate::sql::json::{base64, float, whole};
use crate::sql::{Kind, SqlError};

/// Returns a value as JSON. A blob, and text that is not UTF-8, is `{"base64": "…"}`, since a column of SQLite
/// may hold texts and blobs.
pub fn json(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => whole(number),
        ValueRef::Real(number) => float(number),
        ValueRef::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => text.into(),
            Err(_) => json!({ "base64": base64(text) }),
        },
        ValueRef::Blob(bytes) => json!({ "base64": base64(bytes) }),
    }
}

/// Binds parameters to their places.
///
/// # Errors
/// A count that is not that of the places, a place with a name, and a number that SQLite cannot hold.
pub fn bind(statement: &mut Statement<'_>, sql: &str, params: &[Value]) -> Result<(), SqlError> {
    let places = places(statement, sql)?;
    let needed = places.iter().max().copied().unwrap_or(0);
    if needed != params.len() {
        let message = format!("the statement has {needed} parameters, and `params` has {}", params.len());
        return Err(SqlError::new(Kind::Invalid, message));
    }
    for (index, place) in places.into_iter().enumerate() {
        let Some(param) = params.get(place - 1) else { continue };
        let bound = statement.raw_bind_parameter(index + 1, parameter(param, place)?);
        bound.map_err(|error| SqlError::new(Kind::Invalid, format!("params[{}]: {error}", place - 1)))?;
    }
    Ok(())
}

/// Returns the number of the parameter for each index of SQLite.
///
/// # Errors
/// A place with a name, and places whose numbers are not clear.
pub fn places(statement: &Statement<'_>, sql: &str) -> Result<Vec<usize>, SqlError> {
    let invalid = |message: String| SqlError::new(Kind::Invalid, message);
    let place = |index| {
        place(statement.parameter_name(index), index).ok_or_else(|| {
            let name = statement.parameter_name(index).unwrap_or_default();
            invalid(format!("the statement has a parameter `{name}`; write ?1, ?2 or $1, $2, counted from 1"))
        })
    };
    let places: Vec<_> = (1..=statement.parameter_count()).map(place).collect::<Result<_, _>>()?;
    let is_reordered = places.iter().enumerate().any(|(index, place)| *place != index + 1);
    // SQLite counts `$2` by its first use, and `?2` by its number: together they would be taken for each other.
    if is_reordered && sql.contains('?') {
        return Err(invalid("write all parameters as ?1, ?2 or all as $1, $2, not both".to_owned()));
    }
    Ok(places)
}

/// Returns the number of a parameter: its own, else its index.
fn place(name: Option<&str>, index: usize) -> Option<usize> {
    let Some(name) = name else { return Some(index) };
    let digits = name.strip_prefix(['?', '$', ':', '@'])?;
    let number = digits.parse().ok()?;
    (number > 0 && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(number)
}

fn parameter(value: &Value, place: usize) -> Result<ToSqlOutput<'_>, SqlError> {
    let text = |text| ToSqlOutput::Borrowed(ValueRef::Text(text));
    Ok(match value {
        Value::Null => ToSqlOutput::Owned(Owned::Null),
        Value::Bool(truth) => ToSqlOutput::Owned(Owned::Integer((*truth).into())),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => ToSqlOutput::Owned(Owned::Integer(number)),
            (None, Some(float)) if number.is_f64() => ToSqlOutput::Owned(Owned::Real(float)),
            _ => {
                let message =
                    format!("params[{}]: {number} does not fit in 64 bits; send it as a string", place - 1);
                return Err(SqlError::new(Kind::Invalid, message));
            }
        },
        Value::String(string) => text(string.as_bytes()),
        Value::Array(_) | Value::Object(_) => ToSqlOutput::Owned(Owned::Text(value.to_string())),
    })
}
