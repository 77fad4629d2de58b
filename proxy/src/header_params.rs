//! Parameters of a tool that are mirrored into HTTP headers (`x-mcp-header` in its `inputSchema`,
//! 2026-07-28, streamable HTTP, "Custom Headers from Tool Parameters"): parsed, written, compared. Pure
//! functions for both sides, independent of requests.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use protocol::mcp::header;
use serde_json::Value;
use serde_json::value::RawValue;

const ANNOTATION: &str = "x-mcp-header";
const BEGIN: &str = "=?base64?";
const END: &str = "?=";

/// One parameter that is mirrored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeaderParam {
    /// Whole name of the header, in lower case.
    pub header: String,
    /// Names of the properties that lead to the parameter, from the arguments down.
    pub path: Vec<String>,
    pub kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    String,
    Integer,
    Boolean,
}

/// Returns the mirrored parameters of an `inputSchema`. The error names the invalid annotation: a tool with
/// one must be left out of every list that goes over HTTP.
pub fn read(schema: &RawValue) -> Result<Vec<HeaderParam>, String> {
    // Nearly no schema has one, and a search is cheaper than a tree.
    if !schema.get().contains(ANNOTATION) && !schema.get().contains('\\') {
        return Ok(Vec::new());
    }
    let schema: Value = serde_json::from_str(schema.get()).map_err(|error| error.to_string())?;
    let mut walk = Walk { path: Vec::new(), found: Vec::new(), taken: HashSet::new() };
    walk.schema(&schema, Place::Root)?;
    Ok(walk.found)
}

/// Place of a subschema.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    /// A subschema reached through `properties` alone.
    Property,
    /// Any other place, where no annotation may be.
    Elsewhere,
}

struct Walk {
    path: Vec<String>,
    found: Vec<HeaderParam>,
    taken: HashSet<String>,
}

impl Walk {
    fn schema(&mut self, schema: &Value, place: Place) -> Result<(), String> {
        let Value::Object(members) = schema else { return Ok(()) };
        if let Some(annotation) = members.get(ANNOTATION) {
            self.annotation(annotation, members.get("type"), place)?;
        }
        for (keyword, inner) in members {
            match (keyword.as_str(), inner) {
                // These hold instances and no schemas.
                ("default" | "const" | "enum" | "examples" | "example", _) => {}
                ("properties", Value::Object(properties)) => self.properties(properties, place)?,
                (
                    "$defs" | "definitions" | "patternProperties" | "dependentSchemas",
                    Value::Object(inner),
                ) => {
                    inner.values().try_for_each(|inner| self.schema(inner, Place::Elsewhere))?;
                }
                (_, Value::Array(inner)) => {
                    inner.iter().try_for_each(|inner| self.schema(inner, Place::Elsewhere))?;
                }
                (_, inner) => self.schema(inner, Place::Elsewhere)?,
            }
        }
        Ok(())
    }

    fn properties(
        &mut self,
        properties: &serde_json::Map<String, Value>,
        place: Place,
    ) -> Result<(), String> {
        let inside = if place == Place::Elsewhere { Place::Elsewhere } else { Place::Property };
        for (name, property) in properties {
            self.path.push(name.clone());
            self.schema(property, inside)?;
            self.path.pop();
        }
        Ok(())
    }

    fn annotation(&mut self, value: &Value, type_: Option<&Value>, place: Place) -> Result<(), String> {
        let at = format!("`{ANNOTATION}` at `{}`", self.path.join("."));
        if place != Place::Property {
            return Err(format!("{at} is not reached through `properties` alone"));
        }
        let name = value.as_str().filter(|name| is_token(name)).ok_or_else(|| {
            format!("{at} is {value}, which is not a name of letters, digits and `!#$%&'*+-.^_|~`")
        })?;
        let kind = kind(type_)
            .ok_or_else(|| format!("{at} stands at a type other than string, integer or boolean"))?;
        let header = format!("{}{}", header::PARAM, name.to_ascii_lowercase());
        if !self.taken.insert(header.clone()) {
            return Err(format!("{at} is the second one of the name {name}"));
        }
        self.found.push(HeaderParam { header, path: self.path.clone(), kind });
        Ok(())
    }
}

/// Returns whether the name is a `token` of RFC 9110, section 5.6.2.
fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Returns one of the three types, optionally with null.
fn kind(type_: Option<&Value>) -> Option<Kind> {
    let one = match type_? {
        Value::Array(several) => {
            let mut others = several.iter().filter(|one| *one != "null");
            others.next().filter(|_| others.next().is_none())?
        }
        one => one,
    };
    match one.as_str()? {
        "string" => Some(Kind::String),
        "integer" => Some(Kind::Integer),
        "boolean" => Some(Kind::Boolean),
        _ => None,
    }
}

/// Returns the name and plain value of each header for these arguments; no value where the header must be
/// absent.
pub fn values(params: &[HeaderParam], arguments: &RawValue) -> Vec<(String, Option<String>)> {
    params.iter().map(|param| (param.header.clone(), value(arguments, &param.path))).collect()
}

fn value(arguments: &RawValue, path: &[String]) -> Option<String> {
    let mut found: Cow<'_, RawValue> = Cow::Borrowed(arguments);
    for name in path {
        let mut members: HashMap<String, Box<RawValue>> = serde_json::from_str(found.get()).ok()?;
        found = Cow::Owned(members.remove(name)?);
    }
    let raw = found.get();
    match raw.as_bytes().first()? {
        b'"' => serde_json::from_str(raw).ok(),
        b't' | b'f' => Some(raw.to_owned()),
        b'n' | b'[' | b'{' => None,
        _ => Some(decimal(raw).map_or_else(|| raw.to_owned(), |number| number.to_string())),
    }
}

/// Encodes a header's value: unchanged, or in base64 where it would be no valid value.
pub fn encode(value: &str) -> String {
    let plain = value.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'))
        && value.trim_matches([' ', '\t']) == value
        && !(value.starts_with(BEGIN) && value.ends_with(END));
    if plain { value.to_owned() } else { format!("{BEGIN}{}{END}", STANDARD.encode(value)) }
}

/// Decodes the plain value of a header, without white space around it.
pub fn decode(header: &str) -> Result<String, String> {
    let header = header.trim_matches([' ', '\t']);
    if let Some(odd) = header.chars().find(|c| !matches!(c, '\t' | ' '..='~')) {
        return Err(format!("it holds {odd:?}, which a header cannot"));
    }
    let Some(encoded) = header.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END)) else {
        return Ok(header.to_owned());
    };
    let bytes = STANDARD.decode(encoded).map_err(|error| format!("its base64 is broken: {error}"))?;
    String::from_utf8(bytes).map_err(|_| "its base64 is not UTF-8".to_owned())
}

/// Returns whether a plain value of the body and one of a header are equal. Integers are compared as
/// numbers: 42 is 42.0.
pub fn equal(kind: Kind, body: &str, header: &str) -> bool {
    match kind {
        Kind::String | Kind::Boolean => body == header,
        Kind::Integer => body == header || decimal(body).is_some_and(|body| decimal(header) == Some(body)),
    }
}

/// Reads a whole number in any JSON notation; none beyond 128 bits.
fn decimal(text: &str) -> Option<i128> {
    let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    if digits == 0 {
        return Some(0);
    }
    let power = power.parse::<i32>().ok()?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let scale = 10_i128.checked_pow(power.unsigned_abs())?;
    match power >= 0 {
        true => digits.checked_mul(scale),
        false => (digits % scale == 0).then(|| digits / scale),
    }
}

#[cfg(test)]
#[path = "header_params_tests.rs"]
mod tests;
