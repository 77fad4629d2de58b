//! Validation of a built-in tool's arguments against its input schema, limited to the schemas in use here:
//! required members, types, bounds, fixed choices, no others. Every mistake is named.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// An input schema in parsed form.
pub struct ArgumentShape {
    members: Vec<Member>,
    /// Permission of members that the schema does not name.
    open: bool,
}

struct Member {
    name: String,
    required: bool,
    /// Permitted types; empty for any type.
    types: Vec<String>,
    minimum: Option<f64>,
    maximum: Option<f64>,
    choices: Vec<Value>,
}

impl ArgumentShape {
    pub fn read(schema: &Value) -> Self {
        let required: Vec<&str> = texts(&schema["required"]).collect();
        let members = schema["properties"].as_object().into_iter().flatten().map(|(name, member)| Member {
            name: name.clone(),
            required: required.contains(&name.as_str()),
            types: texts(&member["type"]).map(str::to_owned).collect(),
            minimum: member["minimum"].as_f64(),
            maximum: member["maximum"].as_f64(),
            choices: member["enum"].as_array().cloned().unwrap_or_default(),
        });
        Self { members: members.collect(), open: schema["additionalProperties"] != Value::Bool(false) }
    }

    /// Returns all mistakes in one sentence for the model that made them.
    pub fn check(&self, arguments: &str) -> Result<(), String> {
        let given = match read_members(arguments) {
            Ok(given) => given,
            Err(mistake) => return Err(format!("arguments must be an object: {mistake}")),
        };
        let mut mistakes = Vec::new();
        for (index, (name, value)) in given.iter().enumerate() {
            match self.members.iter().find(|member| member.name == *name) {
                Some(member) => member.check(value.get(), &mut mistakes),
                None if self.open => {}
                None => mistakes.push(format!("`{name}` is not an argument of this tool")),
            }
            if given[..index].iter().any(|(earlier, _)| earlier == name) {
                mistakes.push(format!("`{name}` is given twice"));
            }
        }
        for member in self.members.iter().filter(|member| member.required) {
            if !given.iter().any(|(name, _)| *name == member.name) {
                mistakes.push(format!("`{}` is missing", member.name));
            }
        }
        if mistakes.is_empty() { Ok(()) } else { Err(format!("wrong arguments: {}", mistakes.join("; "))) }
    }
}

impl Member {
    fn check(&self, value: &str, mistakes: &mut Vec<String>) {
        let name = &self.name;
        let found = type_of(value);
        // Some clients send null for each argument that they leave out (CrewAI, mcp-use).
        if found == "null" && !self.required {
            return;
        }
        let fits = |wanted: &String| wanted == found || (wanted == "number" && found == "integer");
        if !self.types.is_empty() && !self.types.iter().any(fits) {
            mistakes.push(format!("`{name}` must be {}, not {found}", self.types.join(" or ")));
            return;
        }
        if let Ok(number) = value.parse::<f64>() {
            if let Some(minimum) = self.minimum.filter(|minimum| number < *minimum) {
                mistakes.push(format!("`{name}` must be at least {minimum}"));
            }
            if let Some(maximum) = self.maximum.filter(|maximum| number > *maximum) {
                mistakes.push(format!("`{name}` must be at most {maximum}"));
            }
        }
        if !self.choices.is_empty()
            && !serde_json::from_str::<Value>(value).is_ok_and(|value| self.choices.contains(&value))
        {
            let choices: Vec<String> = self.choices.iter().map(Value::to_string).collect();
            mistakes.push(format!("`{name}` must be one of {}", choices.join(", ")));
        }
    }
}

/// Returns the JSON Schema type of raw JSON; one with a fraction or exponent is a `number`.
fn type_of(value: &str) -> &'static str {
    match value.as_bytes().first() {
        Some(b'"') => "string",
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b't' | b'f') => "boolean",
        Some(b'n') | None => "null",
        Some(_) if value.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E')) => "number",
        Some(_) => "integer",
    }
}

/// Returns a text, or each of a list of texts.
fn texts(value: &Value) -> impl Iterator<Item = &str> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    value.as_str().into_iter().chain(list.iter().filter_map(Value::as_str))
}

type Members<'a> = Vec<(Cow<'a, str>, &'a RawValue)>;

/// Reads the members in their order, repeated ones too.
fn read_members(arguments: &str) -> Result<Members<'_>, serde_json::Error> {
    struct InOrder;
    impl<'de> Visitor<'de> for InOrder {
        type Value = Members<'de>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
            let mut members = Vec::with_capacity(4);
            while let Some(name) = map.next_key::<BorrowedText<'de>>()? {
                members.push((name.0, map.next_value()?));
            }
            Ok(members)
        }
    }
    #[derive(serde::Deserialize)]
    struct BorrowedText<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::Deserializer::from_str(arguments).deserialize_map(InOrder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_is_named() {
        let shape = ArgumentShape::read(&serde_json::json!({
            "type": "object",
            "properties": {
                "a": { "type": "number", "minimum": 0 },
                "b": { "type": ["string", "null"], "enum": ["x", null] },
                "c": { "type": "integer", "maximum": 3 },
                "e": { "type": "array" },
            },
            "required": ["a", "c"],
            "additionalProperties": false,
        }));
        assert_eq!(shape.check(r#"{"a": 1, "b": null, "c": 2}"#), Ok(()));
        assert_eq!(shape.check(r#"{"a": 1.5, "b": "x", "c": -2}"#), Ok(()));
        assert_eq!(shape.check(r#"{"a": 1, "b": null, "c": 2, "e": null}"#), Ok(()), "null is left out");
        assert!(shape.check(r#"{"a": null, "c": 2}"#).is_err(), "but for a required one");
        let mistakes = shape.check(r#"{"a": "1", "b": "y", "d": 1, "a": -1}"#).unwrap_err();
        assert_eq!(
            mistakes,
            "wrong arguments: `a` must be number, not string; `b` must be one of \"x\", null; \
             `d` is not an argument of this tool; `a` must be at least 0; `a` is given twice; `c` is missing"
        );
        assert!(shape.check(r#"{"a": 1, "c": 2.5}"#).unwrap_err().contains("`c` must be integer"));
        assert!(shape.check("[1]").unwrap_err().contains("object"));
    }
}
