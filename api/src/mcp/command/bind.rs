//! Binding of a slash command to a tool: its words become the arguments that the input schema describes. Types
//! come from the schema and are never guessed.

use protocol::slash::{Given, Item, Line, PREFIX};
use protocol::{Code, Refusal};
use serde_json::{Map, Value};

use super::Operation;

/// A tool and its arguments.
#[derive(Debug)]
pub struct Bound {
    pub tool: String,
    pub arguments: Map<String, Value>,
}

/// Binds a line to one of a service's tools.
///
/// # Errors
/// [`Code::UnknownTool`] without such an operation, [`Code::InvalidParams`] for arguments that do not fit; with
/// the nearest name and the usage.
pub fn bind(line: &Line, operations: &[Operation]) -> Result<Bound, Refusal> {
    let words: Vec<&str> = line.items.iter().map_while(bare).collect();
    let found = (1..=words.len()).rev().find_map(|count| {
        let said = words[..count].join(" ");
        Some((find(operations, &said)?, count))
    });
    let Some((operation, count)) = found else { return Err(unknown(line, &words, operations)) };
    let arguments = Binder::new(operation).bind(&line.items[count..]);
    let arguments = arguments.map_err(|reason| {
        Refusal::new(Code::InvalidParams, reason).hint(format!("usage: {}", usage(&line.service, operation)))
    })?;
    Ok(Bound { tool: operation.name.clone(), arguments })
}

/// Returns the text of a word that is not quoted.
fn bare(item: &Item) -> Option<&str> {
    match item {
        Item::Given(Given::Word { text, is_quoted: false }) => Some(text),
        Item::Given(_) | Item::Flag { .. } => None,
    }
}

/// Finds an operation in kebab, snake, spaced or camel case.
fn find<'a>(operations: &'a [Operation], said: &str) -> Option<&'a Operation> {
    operations
        .iter()
        .find(|operation| operation.name == said)
        .or_else(|| only(operations, |operation| squeezed(&operation.name) == squeezed(said)))
}

fn only<T>(all: &[T], is_it: impl Fn(&T) -> bool) -> Option<&T> {
    let mut found = all.iter().filter(|one| is_it(one));
    found.next().filter(|_| found.next().is_none())
}

/// Returns a name in which kebab, snake, spaced and camel case are one.
fn squeezed(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '-' | '_' | ' ')).flat_map(char::to_lowercase).collect()
}

fn unknown(line: &Line, words: &[&str], operations: &[Operation]) -> Refusal {
    let service = &line.service;
    let Some(first) = words.first() else {
        let reason = format!("{PREFIX}{service}: the operation is missing");
        return Refusal::new(Code::InvalidParams, reason).hint(listed(service, operations));
    };
    let reason = format!("`{service}` has no operation `{first}`");
    let said: String = words.iter().take(3).copied().collect::<Vec<_>>().join(" ");
    let hint = nearest(&said, names(operations))
        .or_else(|| nearest(first, names(operations)))
        .map(|name| format!("did you mean `{name}`?"));
    Refusal::new(Code::UnknownTool, reason).hint(hint.unwrap_or_else(|| listed(service, operations)))
}

fn names(operations: &[Operation]) -> impl Iterator<Item = &str> {
    operations.iter().map(|operation| operation.name.as_str())
}

fn listed(service: &str, operations: &[Operation]) -> String {
    let names: Vec<_> = names(operations).collect();
    match names.as_slice() {
        [] => format!("`{service}` has no operation that you may use"),
        names => format!("the operations are {}", names.join(", ")),
    }
}

/// Returns the name that differs in the fewest letters, if it is near.
fn nearest<'a>(said: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let said = squeezed(said);
    names
        .map(|name| (strsim::jaro_winkler(&said, &squeezed(name)), name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

/// Returns the command with its parameters: those that are required by place, the others as options.
pub fn usage(service: &str, operation: &Operation) -> String {
    let binder = Binder::new(operation);
    let mut usage = format!("{PREFIX}{service} {}", operation.name.replace('_', "-"));
    for name in &binder.required {
        usage.push_str(&format!(" <{name}>"));
    }
    for (name, schema) in binder.properties.into_iter().flatten() {
        if binder.required.contains(&name.as_str()) {
            continue;
        }
        let option = name.replace('_', "-");
        usage.push_str(&match kind(schema) {
            Some(Kind::Boolean) => format!(" [--{option}]"),
            _ => format!(" [--{option}=…]"),
        });
    }
    usage
}

/// Type of a parameter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Text,
    Integer,
    Number,
    Boolean,
    Object,
    Array,
}

/// Returns the one type besides null that a schema allows; none where it does not say.
fn kind(schema: &Value) -> Option<Kind> {
    let one = |name: &str| {
        Some(match name {
            "string" => Kind::Text,
            "integer" => Kind::Integer,
            "number" => Kind::Number,
            "boolean" => Kind::Boolean,
            "object" => Kind::Object,
            "array" => Kind::Array,
            _ => return None,
        })
    };
    let several = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array);
    let mut kinds: Vec<Kind> = match (&schema["type"], several) {
        (Value::String(name), _) => one(name).into_iter().collect(),
        (Value::Array(names), _) => names.iter().filter_map(Value::as_str).filter_map(one).collect(),
        (_, Some(several)) => {
            let is_null = |schema: &&Value| schema["type"] == "null";
            let some: Vec<_> = several.iter().filter(|schema| !is_null(schema)).map(kind).collect();
            some.into_iter().collect::<Option<Vec<_>>>().unwrap_or_default()
        }
        _ => match schema.get("enum").and_then(Value::as_array) {
            Some(choices) if choices.iter().all(Value::is_string) => vec![Kind::Text],
            _ => Vec::new(),
        },
    };
    kinds.dedup();
    match kinds.as_slice() {
        [kind] => Some(*kind),
        _ => None,
    }
}

/// Parameters of one operation.
struct Binder<'a> {
    properties: Option<&'a Map<String, Value>>,
    required: Vec<&'a str>,
}

impl<'a> Binder<'a> {
    fn new(operation: &'a Operation) -> Self {
        let required = operation.input_schema["required"].as_array();
        Self {
            properties: operation.input_schema["properties"].as_object(),
            required: required.into_iter().flatten().filter_map(Value::as_str).collect(),
        }
    }

    /// Binds the items after the operation. The error is a sentence.
    fn bind(&self, items: &[Item]) -> Result<Map<String, Value>, String> {
        if let [Item::Given(Given::Json(Value::Object(whole)))] = items
            && self.required.first().is_none_or(|first| self.kind_of(first) != Some(Kind::Object))
        {
            return Ok(whole.clone());
        }
        let mut arguments = Map::new();
        for item in items {
            if let Item::Flag { name, value } = item {
                self.set(&mut arguments, name, value.as_ref())?;
            }
        }
        let mut places = self.required.iter().filter(|name| !arguments.contains_key(**name));
        let mut placed = Vec::new();
        for item in items {
            let Item::Given(given) = item else { continue };
            let Some(name) = places.next() else {
                return Err(format!("{} is one value too many", shown(given)));
            };
            placed.push((*name, self.value(name, given)?));
        }
        let missing: Vec<&str> = places.copied().collect();
        if !missing.is_empty() {
            return Err(format!("missing {}", missing.join(", ")));
        }
        arguments.extend(placed.into_iter().map(|(name, value)| (name.to_owned(), value)));
        Ok(arguments)
    }

    fn kind_of(&self, name: &str) -> Option<Kind> {
        kind(self.properties?.get(name)?)
    }

    /// Takes an option; a repeated one adds to an array.
    fn set(
        &self,
        arguments: &mut Map<String, Value>,
        said: &str,
        value: Option<&Given>,
    ) -> Result<(), String> {
        let (name, is_negated) = self.parameter(said)?;
        let value = match (value, self.kind_of(name)) {
            (None, Some(Kind::Boolean)) => Value::Bool(!is_negated),
            (None, _) => return Err(format!("--{said} needs a value: --{said}=…")),
            (Some(_), _) if is_negated => return Err(format!("--{said} takes no value")),
            (Some(given), _) => self.value(name, given)?,
        };
        match (arguments.get_mut(name), value) {
            (None, value) => drop(arguments.insert(name.to_owned(), value)),
            (Some(Value::Array(items)), Value::Array(more)) => items.extend(more),
            (Some(_), _) => return Err(format!("--{said} is given twice")),
        }
        Ok(())
    }

    /// Finds the parameter of an option, and whether the option negates it.
    fn parameter(&self, said: &str) -> Result<(&'a str, bool), String> {
        let names: Vec<&str> = self.properties.into_iter().flat_map(Map::keys).map(String::as_str).collect();
        let named = |said: &str| {
            let exact = names.iter().find(|name| **name == said);
            // Only a name that stands for one parameter.
            exact.or_else(|| only(&names, |name| squeezed(name) == squeezed(said))).copied()
        };
        if let Some(name) = named(said) {
            return Ok((name, false));
        }
        let negated = said.strip_prefix("no-").and_then(named);
        if let Some(name) = negated.filter(|name| self.kind_of(name) == Some(Kind::Boolean)) {
            return Ok((name, true));
        }
        Err(match nearest(said, names.iter().copied()) {
            Some(name) => format!("there is no option --{said}; did you mean --{}?", name.replace('_', "-")),
            None => format!("there is no option --{said}"),
        })
    }

    /// Reads a value as its parameter's type.
    fn value(&self, name: &str, given: &Given) -> Result<Value, String> {
        let schema = self.properties.and_then(|properties| properties.get(name)).unwrap_or(&Value::Null);
        read(name, kind(schema), schema, given)
    }
}

fn read(name: &str, kind: Option<Kind>, schema: &Value, given: &Given) -> Result<Value, String> {
    let wrong = |wanted: &str| Err(format!("`{name}` is {wanted}, not {}", shown(given)));
    let (text, is_quoted) = match given {
        Given::Json(value) => {
            let fits = match kind {
                Some(Kind::Object) => value.is_object(),
                Some(Kind::Array) => value.is_array(),
                Some(_) => false,
                None => true,
            };
            return if fits { Ok(value.clone()) } else { wrong(described(kind)) };
        }
        Given::Word { text, is_quoted } => (text, *is_quoted),
    };
    let is_null = !is_quoted && text == "null" && allows_null(schema);
    match kind {
        _ if is_null => Ok(Value::Null),
        Some(Kind::Text) => Ok(Value::String(text.clone())),
        Some(Kind::Array) => {
            let items = &schema["items"];
            Ok(Value::Array(vec![read(name, self::kind(items), items, given)?]))
        }
        Some(Kind::Integer | Kind::Number | Kind::Boolean | Kind::Object) => {
            let value = serde_json::from_str::<Value>(text).ok().filter(|value| match kind {
                Some(Kind::Integer) => value.is_i64() || value.is_u64(),
                Some(Kind::Number) => value.is_number(),
                Some(Kind::Boolean) => value.is_boolean(),
                _ => value.is_object(),
            });
            value.map_or_else(|| wrong(described(kind)), Ok)
        }
        None if is_quoted => Ok(Value::String(text.clone())),
        None => Ok(serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone()))),
    }
}

fn allows_null(schema: &Value) -> bool {
    let is_null = |value: &Value| value == "null" || value["type"] == "null";
    let some = [&schema["type"], &schema["anyOf"], &schema["oneOf"]];
    some.into_iter().any(|some| is_null(some) || some.as_array().is_some_and(|some| some.iter().any(is_null)))
}

fn described(kind: Option<Kind>) -> &'static str {
    match kind {
        Some(Kind::Text) => "a text",
        Some(Kind::Integer) => "a whole number",
        Some(Kind::Number) => "a number",
        Some(Kind::Boolean) => "true or false",
        Some(Kind::Object) => "an object: {…}",
        Some(Kind::Array) => "a list: […]",
        None => "a value",
    }
}

fn shown(given: &Given) -> String {
    let text = match given {
        Given::Word { text, .. } => text.clone(),
        Given::Json(value) => value.to_string(),
    };
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("`{short}`")
}
