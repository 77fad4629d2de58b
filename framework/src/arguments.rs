//! Validation of a tool's arguments against its input schema (JSON Schema 2020-12). Every mistake is named,
//! with the argument that has it.

use std::borrow::Cow;
use std::fmt;

use jsonschema::Validator;
use jsonschema::error::{TypeKind, ValidationError, ValidationErrorKind};
use protocol::provider::ToolDefinition;
use protocol::strict::Strict;
use serde::Deserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Most mistakes that one sentence names.
const MOST_MISTAKES: usize = 20;

/// Longest part of a mistake that repeats what was sent, in characters.
const MOST_REPEATED: usize = 200;

/// Validator of one tool's arguments.
pub struct Arguments {
    validator: Validator,
    schema: Value,
}

impl Arguments {
    /// # Errors
    /// The place of the schema that is none.
    pub fn of(tool: &ToolDefinition) -> Result<Self, String> {
        let schema = &tool.input_schema;
        let validator =
            jsonschema::draft202012::new(schema).map_err(|error| format!("input schema: {error}"))?;
        Ok(Self { validator, schema: schema.clone() })
    }

    /// Checks arguments. Returns them without the members that are null although they could be left out: some
    /// clients send null for each argument that they leave out (CrewAI, mcp-use).
    ///
    /// # Errors
    /// All mistakes in one sentence for the model that made them.
    pub fn check<'a>(&self, arguments: &'a RawValue) -> Result<Cow<'a, RawValue>, String> {
        let given = read_members(arguments.get())
            .map_err(|mistake| format!("arguments must be an object: {mistake}"))?;
        let mut mistakes = Vec::new();
        for (index, (name, _)) in given.iter().enumerate() {
            if given[..index].iter().any(|(earlier, _)| earlier == name) {
                mistakes.push(format!("`{}` is given twice", shortened(name)));
            }
        }
        let mut members = Map::with_capacity(given.len());
        for (name, value) in &given {
            let Strict(value) = serde_json::from_str(value.get()).map_err(|mistake| {
                format!("wrong arguments: `{}` cannot be read: {mistake}", shortened(name))
            })?;
            members.insert(name.clone().into_owned(), value);
        }
        let mut value = Value::Object(members);
        let is_whole = !leave_nulls_out(&mut value, &self.schema);
        mistakes.extend(self.validator.iter_errors(&value).take(MOST_MISTAKES).map(|error| mistake(&error)));
        if !mistakes.is_empty() {
            return Err(format!("wrong arguments: {}", mistakes.join("; ")));
        }
        if is_whole {
            return Ok(Cow::Borrowed(arguments));
        }
        let cleaned = serde_json::value::to_raw_value(&value)
            .map_err(|error| format!("the arguments cannot be written: {error}"))?;
        Ok(Cow::Owned(cleaned))
    }
}

/// Removes members that are null although they could be left out, at any depth; returns true if there were any.
fn leave_nulls_out(value: &mut Value, schema: &Value) -> bool {
    match value {
        Value::Object(members) => {
            let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
            let known = schema["properties"].as_object();
            let before = members.len();
            members.retain(|name, value| {
                let is_known = known.is_some_and(|known| known.contains_key(name));
                !value.is_null() || !is_known || required.iter().any(|required| required == name)
            });
            let mut changed = members.len() < before;
            for (name, value) in members {
                changed |= leave_nulls_out(value, &schema["properties"][name.as_str()]);
            }
            changed
        }
        Value::Array(items) => {
            let mut changed = false;
            for item in items {
                changed |= leave_nulls_out(item, &schema["items"]);
            }
            changed
        }
        _ => false,
    }
}

/// Returns the sentence for one mistake.
fn mistake(error: &ValidationError<'_>) -> String {
    let pointer = error.instance_path().as_str();
    let place = pointer.trim_start_matches('/').replace('/', ".");
    let name = shortened(&place);
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            format!("`{}` is missing", within(&place, property.as_str().unwrap_or_default()))
        }
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let names: Vec<_> =
                unexpected.iter().take(MOST_MISTAKES).map(|name| within(&place, name)).collect();
            match names.as_slice() {
                [name] => format!("`{name}` is not an argument of this tool"),
                names => format!("`{}` are not arguments of this tool", names.join("`, `")),
            }
        }
        ValidationErrorKind::Type { kind } => {
            format!("`{name}` must be {}, not {}", types(kind), type_of(error.instance()))
        }
        ValidationErrorKind::Enum { options } => {
            let options = options.as_array().map(Vec::as_slice).unwrap_or_default();
            let options: Vec<_> = options.iter().map(Value::to_string).collect();
            format!("`{name}` must be one of {}", options.join(", "))
        }
        ValidationErrorKind::Minimum { limit } => format!("`{name}` must be at least {limit}"),
        ValidationErrorKind::Maximum { limit } => format!("`{name}` must be at most {limit}"),
        ValidationErrorKind::MinLength { limit } => {
            format!("`{name}` must have at least {limit} characters")
        }
        ValidationErrorKind::MaxLength { limit } => format!("`{name}` must have at most {limit} characters"),
        ValidationErrorKind::MinItems { limit } => format!("`{name}` must have at least {limit} items"),
        ValidationErrorKind::MaxItems { limit } => format!("`{name}` must have at most {limit} items"),
        ValidationErrorKind::Pattern { pattern } => {
            format!("`{name}` must match the regular expression {pattern}")
        }
        _ => format!("`{name}`: {}", shortened(&error.to_string())),
    }
}

fn within(place: &str, name: &str) -> String {
    match place {
        "" => shortened(name).into_owned(),
        _ => shortened(&format!("{place}.{name}")).into_owned(),
    }
}

/// Returns a text without control characters, of at most [`MOST_REPEATED`] characters.
fn shortened(text: &str) -> Cow<'_, str> {
    if text.len() <= MOST_REPEATED && !text.contains(char::is_control) {
        return text.into();
    }
    let mut short: String =
        text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(MOST_REPEATED).collect();
    if text.chars().nth(MOST_REPEATED).is_some() {
        short.push('…');
    }
    short.into()
}

fn types(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Single(one) => one.to_string(),
        TypeKind::Multiple(some) => some.iter().map(|one| one.to_string()).collect::<Vec<_>>().join(" or "),
    }
}

/// Returns the JSON Schema type of a value; a number with a fraction or exponent is a `number`.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
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
    use protocol::provider::Annotations;
    use serde_json::json;

    use super::*;

    fn arguments(input_schema: Value) -> Arguments {
        let annotations = Annotations {
            read_only_hint: true,
            destructive_hint: false,
            idempotent_hint: true,
            open_world_hint: false,
        };
        let tool = ToolDefinition {
            name: "t".into(),
            title: "t".into(),
            description: "t".into(),
            input_schema,
            output_schema: None,
            annotations,
        };
        Arguments::of(&tool).expect("a schema")
    }

    fn check(arguments: &Arguments, given: &str) -> Result<String, String> {
        let given = RawValue::from_string(given.to_owned()).expect("JSON");
        arguments.check(&given).map(|kept| kept.get().to_owned())
    }

    #[test]
    fn every_mistake_is_named() {
        let shape = arguments(json!({
            "type": "object",
            "properties": {
                "a": { "type": "number", "minimum": 0 },
                "b": { "type": ["string", "null"], "enum": ["x", null] },
                "c": { "type": "integer", "maximum": 3 },
                "e": { "type": "array", "items": { "type": "object", "required": ["f"], "properties": { "g": { "type": "string" } } }, "maxItems": 1 },
            },
            "required": ["a", "c"],
            "additionalProperties": false,
        }));
        assert_eq!(
            check(&shape, r#"{"a": 1.5, "b": "x", "c": -2}"#).as_deref(),
            Ok(r#"{"a": 1.5, "b": "x", "c": -2}"#)
        );
        let without = check(&shape, r#"{"a": 1, "b": null, "c": 2, "e": null}"#);
        assert_eq!(without.as_deref(), Ok(r#"{"a":1,"c":2}"#), "null is left out");
        let nested = check(&shape, r#"{"a": 1, "c": 2, "e": [{"f": 1, "g": null}]}"#);
        assert_eq!(nested.as_deref(), Ok(r#"{"a":1,"c":2,"e":[{"f":1}]}"#), "at any depth");
        assert!(check(&shape, r#"{"a": null, "c": 2}"#).is_err(), "but for a required one");
        let mistakes = check(&shape, r#"{"a": "1", "b": "y", "d": 1, "a": -1, "e": [{}, 2]}"#).unwrap_err();
        for mistake in [
            "wrong arguments: `a` is given twice",
            "`b` must be one of \"x\", null",
            "`d` is not an argument of this tool",
            "`a` must be at least 0",
            "`c` is missing",
            "`e.0.f` is missing",
            "`e.1` must be object, not integer",
            "`e` must have at most 1 items",
        ] {
            assert!(mistakes.contains(mistake), "{mistake}: {mistakes}");
        }
        assert!(
            check(&shape, r#"{"a": 1, "c": 2.5}"#).unwrap_err().contains("`c` must be integer, not number")
        );
        let twice = check(&shape, r#"{"a": 1, "c": 2, "e": [{"f": 1, "f": 2}]}"#).unwrap_err();
        assert!(twice.contains("`e` cannot be read"), "{twice}");
        assert!(check(&shape, "[1]").unwrap_err().contains("must be an object"));
    }

    #[test]
    fn a_mistake_repeats_little_of_what_was_sent() {
        let shape = arguments(json!({ "type": "object", "additionalProperties": false }));
        let given = json!({ ("\u{1}x".repeat(100_000)): 1 }).to_string();
        let mistakes = check(&shape, &given).unwrap_err();
        assert!(mistakes.len() < 1000 && !mistakes.contains(char::is_control), "{}", mistakes.len());
    }
}
