//! Lint of a valid definition: what is unusual about it, or known to cost a client its list.

use protocol::Members;
use serde_json::value::RawValue;

use super::clients::{self, Rule};
use super::{ListKind, Warning};

/// Most characters of a name that model providers accept.
const MAX_NAME: usize = 64;

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
    if name.contains(['.', '/', '-']) || name.contains("__") {
        warn(Rule::NameIsRewritten, &[format!("`{name}`")]);
    }
    let length = name.chars().count();
    if length > MAX_NAME {
        warn(Rule::NameIsLong, &[format!("`name` has {length} characters")]);
    }
    let schema = members.get("inputSchema").and_then(|schema| Members::read(schema.get()).ok());
    match schema.as_ref().and_then(|schema| schema.get("properties")) {
        None => warn(Rule::NoProperties, &["`inputSchema` has no `properties`".into()]),
        Some(properties) => parameters(properties, warn),
    }
}

fn parameters(properties: &RawValue, mut warn: impl FnMut(Rule, &[String])) {
    let Ok(properties) = Members::read(properties.get()) else { return };
    let hidden = |name: &&str| name.starts_with('_');
    let hidden: Vec<String> =
        properties.iter().map(|(name, _)| name).filter(hidden).map(|name| format!("`{name}`")).collect();
    warn(Rule::ParameterStartsWithUnderscore, &hidden);
    let has_types = |schema: &RawValue| {
        let members = Members::read(schema.get()).ok();
        members.is_some_and(|members| members.get("type").is_some_and(|types| types.get().starts_with('[')))
    };
    let listed = properties.iter().filter(|(_, schema)| has_types(schema));
    let listed: Vec<String> = listed.map(|(name, _)| format!("`{name}`")).collect();
    warn(Rule::TypeIsAList, &listed);
}
