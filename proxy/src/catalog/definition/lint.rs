//! Lint of a valid definition: what is unusual about it, or known to cost a client its list.

use protocol::Members;
use serde_json::Value;
use serde_json::value::RawValue;

use super::clients::{self, Rule};
use super::{ListKind, Warning};

/// Most characters of a name that model providers accept.
const MAX_NAME: usize = 64;

/// Keywords that tell the type of a schema beside `type`.
const TYPED: [&str; 6] = ["$ref", "anyOf", "oneOf", "allOf", "enum", "const"];

/// Appends the warnings about a valid definition.
pub fn lint(kind: ListKind, item: &str, warnings: &mut Vec<Warning>) {
    if matches!(kind, ListKind::Resources | ListKind::ResourceTemplates) {
        return;
    }
    let Ok(members) = Members::read(item) else { return };
    let text =
        |member| members.get(member).and_then(|value| serde_json::from_str::<String>(value.get()).ok());
    let mut warn = |rule, places: &[String]| {
        warnings.extend(clients::warning(rule, places.iter().map(String::as_str)));
    };
    if text("description").is_none_or(|description| description.trim().is_empty()) {
        warn(Rule::NoDescription, &["`description` is missing or empty".into()]);
    }
    if kind == ListKind::Prompts {
        return;
    }
    let name = text("name").unwrap_or_default();
    let has_capital = name.contains(|letter: char| letter.is_ascii_uppercase());
    if name.contains(['.', '/', '-']) || name.contains("__") || has_capital {
        warn(Rule::NameIsRewritten, &[format!("`{name}`")]);
    }
    let length = name.chars().count();
    if length > MAX_NAME {
        warn(Rule::NameIsLong, &[format!("`name` has {length} characters")]);
    }
    let schema = members.get("inputSchema").and_then(|schema| Members::read(schema.get()).ok());
    match schema.as_ref().and_then(|schema| schema.get("properties")) {
        None => warn(Rule::NoProperties, &["`inputSchema` has no `properties`".into()]),
        Some(properties) => parameters(properties, &mut warn),
    }
    if let Some(Ok(schema)) = members.get("inputSchema").map(|schema| serde_json::from_str(schema.get())) {
        schemas(&schema, warn);
    }
}

fn parameters(properties: &RawValue, mut warn: impl FnMut(Rule, &[String])) {
    let Ok(properties) = Members::read(properties.get()) else { return };
    let hidden = |name: &&str| name.starts_with('_');
    let hidden: Vec<String> =
        properties.iter().map(|(name, _)| name).filter(hidden).map(|name| format!("`{name}`")).collect();
    warn(Rule::ParameterStartsWithUnderscore, &hidden);
}

/// Returns true for an alternative of the whole input.
fn is_alternative(path: &str) -> bool {
    [".anyOf[", ".oneOf["].iter().any(|keyword| path.starts_with(keyword))
}

/// Appends the warnings about schemas at any depth.
fn schemas(input: &Value, mut warn: impl FnMut(Rule, &[String])) {
    let (mut listed, mut untyped, mut crossing) = (Vec::new(), Vec::new(), Vec::new());
    let mut open = vec![(String::new(), input, false)];
    while let Some((path, schema, is_definition)) = open.pop() {
        let Value::Object(members) = schema else { continue };
        let place = || format!("`{}`", path.trim_start_matches('.'));
        match members.get("type") {
            Some(Value::Array(_)) => listed.push(place()),
            // Alternatives of the whole input often have no more than `required`.
            None if !path.is_empty()
                && !is_alternative(&path)
                && !TYPED.iter().any(|keyword| members.contains_key(*keyword)) =>
            {
                untyped.push(place());
            }
            _ => {}
        }
        if is_definition && members.contains_key("$ref") {
            crossing.push(place());
        }
        for (keyword, value) in members {
            let is_definition = is_definition || matches!(keyword.as_str(), "$defs" | "definitions");
            match (keyword.as_str(), value) {
                ("properties" | "$defs" | "definitions", Value::Object(named)) => {
                    let below = |(name, schema)| (format!("{path}.{name}"), schema, is_definition);
                    open.extend(named.iter().map(below));
                }
                ("items" | "additionalProperties", Value::Object(_)) => {
                    open.push((format!("{path}.{keyword}"), value, is_definition));
                }
                ("anyOf" | "oneOf", Value::Array(schemas)) => {
                    let below = |(at, schema)| (format!("{path}.{keyword}[{at}]"), schema, is_definition);
                    open.extend(schemas.iter().enumerate().map(below));
                }
                _ => {}
            }
        }
    }
    for (rule, mut places) in
        [(Rule::TypeIsAList, listed), (Rule::TypeIsMissing, untyped), (Rule::DefinitionRefers, crossing)]
    {
        places.sort_unstable();
        warn(rule, &places);
    }
}
