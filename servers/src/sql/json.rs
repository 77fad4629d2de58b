//! Numbers and JSON documents of a database as JSON values from which nothing is lost.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// Largest whole number that every reader of JSON keeps exactly (RFC 8259, 6): 2^53 - 1.
const MOST_EXACT: u64 = (1 << 53) - 1;

/// Returns a whole number, as a string beyond 2^53 - 1.
pub fn whole(number: i64) -> Value {
    match number.unsigned_abs() <= MOST_EXACT {
        true => number.into(),
        false => number.to_string().into(),
    }
}

/// Returns a floating-point number, or its name: `NaN`, `Infinity`, `-Infinity`.
pub fn float(number: f64) -> Value {
    let name = || match (number.is_nan(), number > 0.0) {
        (true, _) => "NaN",
        (false, true) => "Infinity",
        (false, false) => "-Infinity",
    };
    serde_json::Number::from_f64(number).map_or_else(|| name().into(), Value::Number)
}

pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
