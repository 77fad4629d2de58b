//! Keywords of JSON Schema and the values that each takes, in the meta-schemas and in ajv.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{Dialect, pattern};

/// Value of a keyword.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    Text,
    Boolean,
    /// A whole number from 0.
    Count,
    Number,
    /// A number above 0.
    Positive,
    Array,
    /// An array with one value at least.
    Values,
    /// Texts, each one once.
    Texts,
    /// An object of texts.
    NamedTexts,
    Types,
    Pattern,
    Schema,
    /// An array of schemas, one at least.
    Schemas,
    NamedSchemas,
    /// An object of schemas whose names are regular expressions.
    Patterns,
    /// A schema; up to 2019-09 also an array of schemas.
    Items,
    /// An object of schemas, or of texts.
    Dependencies,
    Id,
    Anchor,
    Reference,
    RecursiveAnchor,
    /// A keyword that ajv refuses, with the reason.
    Refused(&'static str),
}

/// Returns what a keyword takes; none for an unknown one, which clients ignore.
pub fn takes(keyword: &str) -> Option<Takes> {
    Some(match keyword {
        "$schema" | "$comment" | "title" | "description" | "format" | "contentMediaType"
        | "contentEncoding" => Takes::Text,
        "uniqueItems" | "readOnly" | "writeOnly" | "deprecated" | "nullable" => Takes::Boolean,
        "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties"
        | "minContains" | "maxContains" => Takes::Count,
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => Takes::Number,
        "multipleOf" => Takes::Positive,
        "examples" => Takes::Array,
        "enum" => Takes::Values,
        "required" => Takes::Texts,
        "dependentRequired" => Takes::NamedTexts,
        "type" => Takes::Types,
        "pattern" => Takes::Pattern,
        "additionalProperties"
        | "propertyNames"
        | "contains"
        | "not"
        | "if"
        | "then"
        | "else"
        | "additionalItems"
        | "unevaluatedItems"
        | "unevaluatedProperties"
        | "contentSchema" => Takes::Schema,
        "allOf" | "anyOf" | "oneOf" | "prefixItems" => Takes::Schemas,
        "properties" | "$defs" | "definitions" | "dependentSchemas" => Takes::NamedSchemas,
        "patternProperties" => Takes::Patterns,
        "items" => Takes::Items,
        "dependencies" => Takes::Dependencies,
        "$id" => Takes::Id,
        "$anchor" | "$dynamicAnchor" => Takes::Anchor,
        "$ref" | "$dynamicRef" | "$recursiveRef" => Takes::Reference,
        "$recursiveAnchor" => Takes::RecursiveAnchor,
        "$vocabulary" => Takes::Refused("is a keyword of meta-schemas"),
        "id" => Takes::Refused("is a keyword of draft-04 that clients refuse; it is `$id` today"),
        "$async"
        | "formatMinimum"
        | "formatMaximum"
        | "formatExclusiveMinimum"
        | "formatExclusiveMaximum" => Takes::Refused("is a keyword of ajv, not of JSON Schema"),
        _ => return None,
    })
}

const TYPES: [&str; 7] = ["string", "number", "integer", "boolean", "object", "array", "null"];

/// Returns whether an unknown keyword's value is data: the same words may be in it without a meaning.
pub fn is_data(keyword: &str) -> bool {
    matches!(keyword, "default" | "const")
}

impl Takes {
    /// Returns whether the keyword gives its schema a name.
    pub fn is_name(self) -> bool {
        matches!(self, Takes::Id | Takes::Anchor)
    }

    /// Checks a value but for the schemas in it.
    pub fn check(self, value: &Value, dialect: Dialect) -> Result<(), String> {
        let wrong = |wanted: &str| Err(format!("has to be {wanted}"));
        match self {
            Takes::Text | Takes::Reference if !value.is_string() => wrong("text"),
            Takes::Boolean if !value.is_boolean() => wrong("true or false"),
            Takes::Count if !value.as_f64().is_some_and(|count| count >= 0.0 && count.fract() == 0.0) => {
                wrong("a whole number from 0")
            }
            Takes::Number if !value.is_number() => wrong("a number"),
            Takes::Positive if value.as_f64().is_none_or(|number| number <= 0.0) => wrong("a number above 0"),
            Takes::Array if !value.is_array() => wrong("an array"),
            Takes::Values | Takes::Schemas if value.as_array().is_none_or(Vec::is_empty) => {
                wrong("an array that is not empty")
            }
            Takes::Texts if !is_texts(value) => wrong("an array of texts, each one once"),
            Takes::NamedTexts if !value.as_object().is_some_and(|names| names.values().all(is_texts)) => {
                wrong("an object of arrays of texts")
            }
            Takes::Types if !is_types(value) => wrong("a type of JSON Schema, or an array of different ones"),
            Takes::Pattern => match value {
                Value::String(text) => pattern::check(text),
                _ => wrong("text"),
            },
            Takes::NamedSchemas | Takes::Patterns | Takes::Dependencies if !value.is_object() => {
                wrong("an object")
            }
            Takes::Patterns => {
                value.as_object().into_iter().flatten().try_for_each(|(name, _)| pattern::check(name))
            }
            Takes::Dependencies => match value
                .as_object()
                .into_iter()
                .flatten()
                .find(|(_, one)| one.is_array() && !is_texts(one))
            {
                Some((name, _)) => Err(format!("has `{name}` with something other than texts")),
                None => Ok(()),
            },
            Takes::Schema if !matches!(value, Value::Object(_) | Value::Bool(_)) => wrong("a schema"),
            Takes::Items => match value {
                Value::Object(_) | Value::Bool(_) => Ok(()),
                Value::Array(items) if dialect != Dialect::Draft2020 && !items.is_empty() => Ok(()),
                Value::Array(_) if dialect == Dialect::Draft2020 => {
                    wrong("a schema; an array of schemas is called `prefixItems` in JSON Schema 2020-12")
                }
                _ => wrong("a schema"),
            },
            Takes::Id => match value.as_str() {
                None => wrong("text"),
                Some(id) if is_id(id, dialect) => Ok(()),
                Some(_) => wrong("a URI without a fragment"),
            },
            Takes::Anchor if !value.as_str().is_some_and(is_anchor) => {
                wrong("a letter or `_`, then letters, digits, `-`, `_` and `.`")
            }
            Takes::RecursiveAnchor if dialect != Dialect::Draft2019 || !value.is_boolean() => {
                wrong("true or false, and is known in 2019-09 only")
            }
            Takes::Refused(problem) => Err(problem.into()),
            _ => Ok(()),
        }
    }
}

/// Checks `nullable`, a keyword of OpenAPI that ajv knows.
pub fn check_nullable(schema: &Map<String, Value>) -> Result<(), String> {
    let has_null = |types: &Value| match types {
        Value::Array(types) => types.iter().any(|name| name == "null"),
        one => one == "null",
    };
    match (schema.get("nullable"), schema.get("type")) {
        (Some(_), None) => Err("cannot be without `type`".into()),
        (Some(Value::Bool(false)), Some(types)) if has_null(types) => Err("contradicts `type`".into()),
        _ => Ok(()),
    }
}

fn is_texts(value: &Value) -> bool {
    let Some(texts) = value.as_array() else { return false };
    let mut seen = HashSet::new();
    texts.iter().all(|text| text.as_str().is_some_and(|text| seen.insert(text)))
}

fn is_types(value: &Value) -> bool {
    let is_type = |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
    match value {
        Value::Array(types) => !types.is_empty() && types.iter().all(is_type) && is_texts(value),
        one => is_type(one),
    }
}

fn is_id(id: &str, dialect: Dialect) -> bool {
    let id = id.strip_suffix('#').unwrap_or(id);
    match id.strip_prefix('#') {
        Some(anchor) => dialect == Dialect::Draft7 && is_anchor(anchor),
        None => !id.is_empty() && !id.contains('#'),
    }
}

fn is_anchor(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}
