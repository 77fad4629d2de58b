//! Loading of the configuration: sources merged over the default file, leaf by leaf, all mistakes collected.
//! The default file decides which keys exist and of which type they are.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use toml::{Table, Value};

use crate::config::environment::ENVIRONMENT;
use crate::config::{Config, DeclaredServer, MANUAL, Mistakes, validate};

/// Sources of settings besides the defaults.
#[derive(Default)]
pub struct Sources {
    /// The file's path (for messages) and text.
    pub file: Option<(PathBuf, String)>,
    pub environment: BTreeMap<String, String>,
}

/// Returns the settings in force, or all mistakes.
pub fn load(sources: Sources) -> Result<Config, Mistakes> {
    let mut mistakes = Vec::new();
    let mut settings: Table = MANUAL.parse().expect("the manual is TOML");
    let defaults = settings.clone();
    let mut declared = Vec::new();
    if let Some((path, text)) = &sources.file {
        match text.parse::<Table>() {
            Ok(mut file) => {
                declared = take_servers(&mut file, &mut mistakes);
                merge_file(&mut settings, file, &path.display().to_string(), &mut mistakes);
            }
            Err(error) => mistakes.push(format!("{}: {error}", path.display())),
        }
    }
    merge_environment(&mut settings, &sources.environment, &mut mistakes);
    let servers = declared
        .into_iter()
        .enumerate()
        .filter_map(|(index, server)| declared_server(index, server, &sources.environment, &mut mistakes))
        .collect();
    let mut config = finish(settings, &defaults, &mut mistakes);
    config.servers = servers;
    join_parts(&mut config, &sources.environment);
    validate::check(&config, &mut mistakes);
    if mistakes.is_empty() { Ok(config) } else { Err(Mistakes(mistakes)) }
}

fn take_servers(file: &mut Table, mistakes: &mut Vec<String>) -> Vec<Value> {
    match file.remove("servers") {
        Some(Value::Array(servers)) => servers,
        Some(_) => {
            mistakes.push("servers: is written as [[servers]] tables".to_owned());
            Vec::new()
        }
        None => Vec::new(),
    }
}

fn merge_file(settings: &mut Table, file: Table, path: &str, mistakes: &mut Vec<String>) {
    for (section, values) in file {
        let Some(Value::Table(known)) = settings.get_mut(&section) else {
            mistakes.push(format!("{path}: {section}: no such section"));
            continue;
        };
        let Value::Table(values) = values else {
            mistakes.push(format!("{path}: {section}: is a section, written [{section}]"));
            continue;
        };
        for (key, value) in values {
            match known.get_mut(&key) {
                None => mistakes.push(format!("{path}: {section}.{key}: no such setting")),
                Some(slot) if slot.same_type(&value) => *slot = value,
                Some(slot) => mistakes.push(format!(
                    "{path}: {section}.{key}: {} is wanted, {} was given",
                    slot.type_str(),
                    value.type_str()
                )),
            }
        }
    }
}

fn merge_environment(
    settings: &mut Table,
    environment: &BTreeMap<String, String>,
    mistakes: &mut Vec<String>,
) {
    for variable in ENVIRONMENT {
        // An empty variable is the same as none: compose files pass them so.
        let Some(text) = environment.get(variable.name).filter(|text| !text.is_empty()) else { continue };
        let slot = &mut settings[variable.key.0][variable.key.1];
        match parse_like(slot, text) {
            Some(value) => *slot = value,
            None => {
                mistakes.push(format!("{}: {} is wanted, `{text}` was given", variable.name, slot.type_str()))
            }
        }
    }
}

fn parse_like(slot: &Value, text: &str) -> Option<Value> {
    match slot {
        Value::String(_) => Some(Value::String(text.to_owned())),
        Value::Integer(_) => text.parse().ok().map(Value::Integer),
        Value::Boolean(_) => match text {
            "true" | "1" | "yes" => Some(Value::Boolean(true)),
            "false" | "0" | "no" => Some(Value::Boolean(false)),
            _ => None,
        },
        Value::Array(_) => Some(Value::Array(
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(|item| item.into()).collect(),
        )),
        Value::Float(_) | Value::Datetime(_) | Value::Table(_) => None,
    }
}

/// Reads the merged tree section by section, so that one bad value does not hide the next: a section that
/// does not read is tried key by key over the defaults.
fn finish(mut settings: Table, defaults: &Table, mistakes: &mut Vec<String>) -> Config {
    let names: Vec<(String, String)> = settings
        .iter()
        .flat_map(|(section, keys)| {
            keys.as_table().into_iter().flat_map(|keys| keys.keys()).map(|key| (section.clone(), key.clone()))
        })
        .collect();
    for (section, key) in names {
        let mut one = defaults.clone();
        one[&section][&key] = settings[&section][&key].clone();
        if let Err(error) = Config::deserialize(one) {
            let name = ENVIRONMENT.iter().find(|variable| variable.key == (&section, &key));
            let name = name.map_or(String::new(), |variable| format!(" ({})", variable.name));
            mistakes.push(format!("{section}.{key}{name}: {}", error.message()));
            settings[&section][&key] = defaults[&section][&key].clone();
        }
    }
    Config::deserialize(settings).expect("each setting was read on its own")
}

fn declared_server(
    index: usize,
    mut value: Value,
    environment: &BTreeMap<String, String>,
    mistakes: &mut Vec<String>,
) -> Option<DeclaredServer> {
    let mut fill = |value: &mut Value, place: &str| {
        if let Value::String(text) = value {
            match expand(text, environment) {
                Ok(expanded) => *text = expanded,
                Err(name) => {
                    mistakes.push(format!("servers[{index}].{place}: the environment has no {name}"))
                }
            }
        }
    };
    for member in ["env", "headers"] {
        for (key, value) in value.get_mut(member).and_then(Value::as_table_mut).into_iter().flatten() {
            fill(value, &format!("{member}.{key}"));
        }
    }
    if let Some(url) = value.get_mut("url") {
        fill(url, "url");
    }
    let slug = value.get("slug").and_then(Value::as_str).unwrap_or("no slug").to_owned();
    match DeclaredServer::deserialize(value.clone()) {
        Ok(mut server) => {
            server.written = value.try_into().expect("it was read from a table");
            Some(server)
        }
        Err(error) => {
            mistakes.push(format!("servers[{index}] ({slug}): {}", error.message()));
            None
        }
    }
}

/// Replaces each `${NAME}`; the first name that is not set is the error.
fn expand(text: &str, environment: &BTreeMap<String, String>) -> Result<String, String> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, tail)) = rest.split_once("${") {
        let Some((name, after)) = tail.split_once('}') else { break };
        expanded.push_str(before);
        expanded.push_str(environment.get(name).ok_or_else(|| name.to_owned())?);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn join_parts(config: &mut Config, environment: &BTreeMap<String, String>) {
    let part = |name: &str, default: &str| match environment.get(name) {
        Some(value) if !value.is_empty() => value.clone(),
        _ => default.to_owned(),
    };
    if config.database.url.is_empty() && !part("POSTGRES_HOST", "").is_empty() {
        let password = part("POSTGRES_PASSWORD", "");
        let password = if password.is_empty() { password } else { format!(":{}", percent_encode(&password)) };
        config.database.url = format!(
            "postgres://{}{password}@{}:{}/{}",
            percent_encode(&part("POSTGRES_USER", "postgres")),
            part("POSTGRES_HOST", ""),
            part("POSTGRES_PORT", "5432"),
            percent_encode(&part("POSTGRES_DB", "postgres")),
        );
    }
    if config.state.redis_url.is_empty() && !part("REDIS_HOST", "").is_empty() {
        config.state.redis_url = format!(
            "redis://{}:{}/{}",
            part("REDIS_HOST", ""),
            part("REDIS_PORT", "6379"),
            part("REDIS_DB", "0")
        );
    }
}

/// Percent-encodes all but RFC 3986's unreserved characters.
fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => (byte as char).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
