//! Typed tools of a provider: parameters and results are Rust types, whose JSON Schemas are derived.

use std::future::Future;
use std::pin::Pin;

use protocol::provider::{Annotations, ProviderError, RequestContext, ToolDefinition, ToolOutput};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

/// Effect of a tool, as its annotations tell clients (MCP 2025-11-25, server/tools, "annotations").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Changes nothing.
    Read,
    /// Changes nothing, and reads what lies outside, such as the web.
    ReadOutside,
    /// Adds; nothing that was there is lost.
    Add,
    /// Replaces or deletes; a repeat changes nothing more.
    Replace,
}

impl Effect {
    fn annotations(self) -> Annotations {
        Annotations {
            read_only_hint: matches!(self, Effect::Read | Effect::ReadOutside),
            destructive_hint: self == Effect::Replace,
            idempotent_hint: self != Effect::Add,
            open_world_hint: self == Effect::ReadOutside,
        }
    }
}

/// Result of a tool: a value, which becomes structured content, and a text for the model.
pub struct Answer<T> {
    value: T,
    text: Option<String>,
}

impl<T> Answer<T> {
    /// Returns an answer whose text is not the value's JSON.
    pub fn with_text(value: T, text: impl Into<String>) -> Self {
        Self { value, text: Some(text.into()) }
    }
}

/// Makes the value's JSON the text (MCP 2025-11-25, server/tools, "structured content").
impl<T> From<T> for Answer<T> {
    fn from(value: T) -> Self {
        Self { value, text: None }
    }
}

/// Outcome of a tool.
pub type Output<T> = Result<Answer<T>, ProviderError>;

type Called<'a> = Pin<Box<dyn Future<Output = Result<ToolOutput, ProviderError>> + Send + 'a>>;
type Run<S> = dyn for<'a> Fn(&'a S, &'a RequestContext<'a>, &'a RawValue) -> Called<'a> + Send + Sync;

/// The tools of a provider `S`.
pub struct Tools<S> {
    tools: Vec<(ToolDefinition, Box<Run<S>>)>,
}

impl<S> Default for Tools<S> {
    fn default() -> Self {
        Self { tools: Vec::new() }
    }
}

impl<S: Send + Sync + 'static> Tools<S> {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tool. `P` is an object; its doc comments describe the parameters, `Option` and `serde(default)`
    /// make one optional, and `schemars` attributes bound it.
    pub fn add<P, T, F>(
        mut self,
        name: &'static str,
        title: &'static str,
        description: &'static str,
        effect: Effect,
        run: F,
    ) -> Self
    where
        P: DeserializeOwned + JsonSchema + Send + 'static,
        T: Serialize + JsonSchema + Send + 'static,
        F: for<'a> Fn(
                &'a S,
                &'a RequestContext<'a>,
                P,
            ) -> Pin<Box<dyn Future<Output = Output<T>> + Send + 'a>>
            + Send
            + Sync
            + 'static,
    {
        let definition = ToolDefinition {
            name: name.into(),
            title: title.into(),
            description: description.into(),
            input_schema: input_schema::<P>(),
            output_schema: Some(output_schema::<T>()),
            annotations: effect.annotations(),
        };
        let call = boxed(move |server, context, arguments| {
            let mut reader = serde_json::Deserializer::from_str(arguments.get());
            match serde_path_to_error::deserialize::<_, P>(&mut reader) {
                Ok(parameters) => {
                    let answered = run(server, context, parameters);
                    Box::pin(async move { written(answered.await?) })
                }
                Err(error) => {
                    let mistake = ProviderError::Failed(format!(
                        "wrong arguments: `{}`: {}",
                        error.path(),
                        error.inner()
                    ));
                    Box::pin(std::future::ready(Err(mistake)))
                }
            }
        });
        self.tools.push((definition, call));
        self
    }

    /// Returns the definitions in the order in which the tools were added.
    pub fn definitions(&self) -> Vec<ToolDefinition> {
        self.tools.iter().map(|(definition, _)| definition.clone()).collect()
    }

    /// Calls a tool with arguments that its input schema permits.
    ///
    /// # Errors
    /// [`ProviderError::NotFound`] for an unknown name; [`ProviderError::Failed`] for arguments that cannot be
    /// read, which names the first mistake; those of the tool.
    pub async fn call(
        &self,
        server: &S,
        context: &RequestContext<'_>,
        tool: &str,
        arguments: &RawValue,
    ) -> Result<ToolOutput, ProviderError> {
        let known = self.tools.iter().find(|(definition, _)| definition.name == tool);
        let (_, run) = known.ok_or(ProviderError::NotFound)?;
        run(server, context, arguments).await
    }
}

/// Boxes a call; the type of the parameter makes the closure general over lifetimes.
fn boxed<S>(
    run: impl for<'a> Fn(&'a S, &'a RequestContext<'a>, &'a RawValue) -> Called<'a> + Send + Sync + 'static,
) -> Box<Run<S>> {
    Box::new(run)
}

fn written<T: Serialize>(answer: Answer<T>) -> Result<ToolOutput, ProviderError> {
    let structured = serde_json::to_value(&answer.value)
        .map_err(|error| ProviderError::Failed(format!("the answer cannot be written as JSON: {error}")))?;
    let text = answer.text.unwrap_or_else(|| structured.to_string());
    Ok(ToolOutput { text, structured: Some(structured) })
}

/// Returns the JSON Schema (2020-12) of parameters: an object without other members.
pub fn input_schema<P: JsonSchema>() -> Value {
    let mut schema = plain::<P>(SchemaSettings::draft2020_12().for_deserialize());
    without_null(&mut schema);
    if let Some(members) = schema.as_object_mut() {
        members.entry("properties").or_insert_with(|| Value::Object(serde_json::Map::new()));
        members.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    schema
}

/// Returns the JSON Schema (2020-12) of a result.
pub fn output_schema<T: JsonSchema>() -> Value {
    plain::<T>(SchemaSettings::draft2020_12().for_serialize())
}

/// Returns a schema in one piece, without the name of the Rust type.
fn plain<T: JsonSchema>(settings: SchemaSettings) -> Value {
    let settings = settings.with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    if let Some(members) = schema.as_object_mut() {
        members.remove("title");
    }
    remove_number_formats(&mut schema);
    schema
}

/// Takes null out of types: it counts as left out, and clients such as AutoGen refuse a list of tools in which a
/// parameter has several types.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::Array(types)) = members.get_mut("type") {
                types.retain(|one| one != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    members.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(choices)) = members.get_mut("enum") {
                choices.retain(|choice| !choice.is_null());
            }
            if let Some(Value::Array(choices)) = members.get_mut("anyOf") {
                choices.retain(|choice| choice["type"] != "null");
                if let [Value::Object(only)] = choices.as_slice() {
                    let only = only.clone();
                    members.remove("anyOf");
                    for (name, value) in only {
                        members.entry(name).or_insert(value);
                    }
                }
            }
            if members.get("default").is_some_and(Value::is_null) {
                members.remove("default");
            }
            members.values_mut().for_each(without_null);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Removes the formats of numbers, such as `uint64`: JSON Schema has none, and validators warn of each.
fn remove_number_formats(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            let is = |types: &Value, one: &str| {
                types == one || types.as_array().is_some_and(|types| types.iter().any(|each| each == one))
            };
            let is_number =
                members.get("type").is_some_and(|types| is(types, "integer") || is(types, "number"));
            if is_number && members.get("format").is_some_and(Value::is_string) {
                members.remove("format");
            }
            members.values_mut().for_each(remove_number_formats);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_number_formats),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
