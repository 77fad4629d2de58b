//! Allowed queries: statements with a name that the operator wrote, and the only ones that run.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::sql::{Kind, SqlError, check_text};

/// One query, a table `[[query]]` of the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowedQuery {
    pub name: String,
    pub description: String,
    /// Statement, in which `$1` is the first parameter.
    pub sql: String,
    #[serde(default)]
    pub parameters: Vec<AllowedParameter>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowedParameter {
    pub name: String,
    pub r#type: ParameterType,
    #[serde(default)]
    pub description: String,
    /// Sends NULL where the parameter is left out.
    #[serde(default)]
    pub optional: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParameterType {
    String,
    Integer,
    Number,
    Boolean,
    Array,
    Object,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    query: Vec<AllowedQuery>,
}

impl AllowedQuery {
    /// Reads a file in TOML.
    ///
    /// # Errors
    /// The place of the mistake.
    pub fn read(text: &str) -> Result<Vec<Self>, String> {
        toml::from_str::<File>(text).map(|file| file.query).map_err(|error| error.to_string())
    }

    /// Returns the query's line in the tool's description.
    pub fn line(&self) -> String {
        let parameter = |parameter: &AllowedParameter| {
            let mark = if parameter.optional { ", optional" } else { "" };
            let colon = if parameter.description.is_empty() { "" } else { ": " };
            format!("{} ({}{mark}){colon}{}", parameter.name, parameter.r#type.name(), parameter.description)
        };
        let parameters: Vec<_> = self.parameters.iter().map(parameter).collect();
        match parameters.as_slice() {
            [] => format!("- {}: {}\n", self.name, self.description),
            parameters => {
                format!("- {}: {} Params: {}.\n", self.name, self.description, parameters.join("; "))
            }
        }
    }

    /// Returns parameters in the order of their places.
    ///
    /// # Errors
    /// All mistakes: parameters that are missing, unknown or of another type.
    pub fn bind(&self, mut given: Map<String, Value>) -> Result<Vec<Value>, SqlError> {
        let (mut bound, mut mistakes) = (Vec::new(), Vec::new());
        for parameter in &self.parameters {
            match given.remove(&parameter.name).unwrap_or_default() {
                Value::Null if parameter.optional => {}
                Value::Null => mistakes.push(format!("`params.{}` is missing", parameter.name)),
                value if !parameter.r#type.fits(&value) => {
                    mistakes.push(format!("`params.{}` must be {}", parameter.name, parameter.r#type.name()));
                }
                value => {
                    bound.push(value);
                    continue;
                }
            }
            bound.push(Value::Null);
        }
        for name in given.keys() {
            let shown: String = name.chars().filter(|c| !c.is_control()).take(60).collect();
            mistakes.push(format!("`params.{shown}` is not a parameter of `{}`", self.name));
        }
        match mistakes.is_empty() {
            true => Ok(bound),
            false => Err(SqlError::new(Kind::Invalid, mistakes.join("; "))
                .hint("the description of run_query has the parameters of each query")),
        }
    }
}

impl ParameterType {
    fn name(self) -> &'static str {
        match self {
            ParameterType::String => "string",
            ParameterType::Integer => "integer",
            ParameterType::Number => "number",
            ParameterType::Boolean => "boolean",
            ParameterType::Array => "array",
            ParameterType::Object => "object",
        }
    }

    fn fits(self, value: &Value) -> bool {
        match self {
            ParameterType::String => value.is_string(),
            ParameterType::Integer => value.is_i64() || value.is_u64(),
            ParameterType::Number => value.is_number(),
            ParameterType::Boolean => value.is_boolean(),
            ParameterType::Array => value.is_array(),
            ParameterType::Object => value.is_object(),
        }
    }
}

/// Checks what needs no database.
///
/// # Errors
/// The first mistake.
pub fn check(queries: &[AllowedQuery]) -> Result<(), String> {
    let mut names = HashSet::new();
    for query in queries {
        let is_named = query.name.len() <= 64
            && query.name.starts_with(|c: char| c.is_ascii_lowercase())
            && query
                .name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !is_named {
            return Err(format!(
                "the query `{}` must have a name of small letters, digits and _, of at most 64",
                query.name
            ));
        }
        if !names.insert(&query.name) {
            return Err(format!("there are two queries `{}`", query.name));
        }
        check_text(&query.sql).map_err(|error| format!("the query `{}`: {error}", query.name))?;
        let mut parameters = HashSet::new();
        if let Some(twice) = query.parameters.iter().find(|parameter| !parameters.insert(&parameter.name)) {
            return Err(format!("the query `{}` has two parameters `{}`", query.name, twice.name));
        }
    }
    match queries.is_empty() {
        true => Err("the list of allowed queries is empty: add a table [[query]]".to_owned()),
        false => Ok(()),
    }
}
