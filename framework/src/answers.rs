//! Answers of a provider to MCP requests: the methods of the protocol, which every provider answers in the
//! same way. Knows no transport; results and errors are as an MCP server writes them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::FutureExt;
use protocol::mcp::{LEGACY_LATEST, MODERN, code, meta, method};
use protocol::provider::{ProviderError, RequestContext, ToolDefinition, ToolOutput, ToolProvider};
use protocol::{Code, Refusal};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::arguments::Arguments;

/// A provider behind the methods of MCP.
pub struct Answers {
    provider: Arc<dyn ToolProvider>,
    /// Result of `initialize`.
    legacy: Bytes,
    /// Result of `server/discover`.
    modern: Bytes,
    /// Tools of the last `tools/list`.
    listed: ArcSwap<HashMap<String, Listed>>,
}

/// A tool as it was listed.
struct Listed {
    arguments: Arguments,
    has_output_schema: bool,
}

/// A JSON-RPC error: code and message.
#[derive(Debug)]
pub struct Problem(pub i32, pub String);

impl Answers {
    pub fn new(provider: Arc<dyn ToolProvider>) -> Self {
        let [legacy, modern] = introductions(&*provider);
        Self { provider, legacy, modern, listed: ArcSwap::default() }
    }

    pub fn provider(&self) -> &dyn ToolProvider {
        &*self.provider
    }

    /// Returns the result of `initialize`, in the newest legacy revision.
    pub fn initialize(&self) -> &Bytes {
        &self.legacy
    }

    /// Returns the result of `server/discover`.
    pub fn discover(&self) -> &Bytes {
        &self.modern
    }

    /// Answers one request with a result in JSON. A panic of the provider is its failure.
    ///
    /// # Errors
    /// The JSON-RPC error of an unknown method, tool, resource or prompt, and of parameters that cannot be read.
    pub async fn answer(
        &self,
        context: &RequestContext<'_>,
        asked: &str,
        params: &[u8],
    ) -> Result<Bytes, Problem> {
        let answered = AssertUnwindSafe(self.find(context, asked, params)).catch_unwind().await;
        answered.unwrap_or_else(|_| panicked(asked))
    }

    async fn find(&self, context: &RequestContext<'_>, asked: &str, params: &[u8]) -> Result<Bytes, Problem> {
        let provider = &*self.provider;
        Ok(match asked {
            method::TOOLS_CALL => self.call(context, params).await?,
            method::TOOLS_LIST => result(&json!({ "tools": self.tools(context).await? })),
            method::RESOURCES_LIST if provider.has_resources() => {
                result(&json!({ "resources": provider.resources(context).await? }))
            }
            method::RESOURCE_TEMPLATES_LIST if provider.has_resources() => {
                result(&json!({ "resourceTemplates": provider.resource_templates(context).await? }))
            }
            method::RESOURCES_READ if provider.has_resources() => {
                let Read { uri } = read(asked, params)?;
                let contents = provider.read_resource(context, &uri).await;
                let contents = contents.map_err(|error| found(error, || unknown_resource(&uri)))?;
                result(&json!({ "contents": contents }))
            }
            method::PROMPTS_LIST if provider.has_prompts() => {
                result(&json!({ "prompts": provider.prompts(context).await? }))
            }
            method::PROMPTS_GET if provider.has_prompts() => {
                let Named { name, arguments } = read(asked, params)?;
                let arguments = arguments.unwrap_or(empty_object());
                let prompt = provider.get_prompt(context, &name, arguments).await;
                let missing = || Problem(Code::InvalidParams.rpc(), format!("unknown prompt `{name}`"));
                result(&prompt.map_err(|error| found(error, missing))?)
            }
            method::INITIALIZE => self.legacy.clone(),
            method::DISCOVER => self.modern.clone(),
            method::PING => Bytes::from_static(b"{}"),
            other => return Err(no_method(other)),
        })
    }

    async fn tools(&self, context: &RequestContext<'_>) -> Result<Vec<ToolDefinition>, ProviderError> {
        let tools = self.provider.tools(context).await?;
        let listed = tools.iter().map(|tool| {
            let arguments = Arguments::of(tool).map_err(|mistake| {
                ProviderError::Failed(format!("the tool `{}` cannot be listed: {mistake}", tool.name))
            })?;
            let listed = Listed { arguments, has_output_schema: tool.output_schema.is_some() };
            Ok((tool.name.to_string(), listed))
        });
        self.listed.store(Arc::new(listed.collect::<Result<_, ProviderError>>()?));
        Ok(tools)
    }

    async fn call(&self, context: &RequestContext<'_>, params: &[u8]) -> Result<Bytes, Problem> {
        let Named { name, arguments } = read(method::TOOLS_CALL, params)?;
        let unknown = || Problem(Code::UnknownTool.rpc(), format!("unknown tool `{name}`"));
        if !self.listed.load().contains_key(&*name) {
            self.tools(context).await?;
        }
        let listed = self.listed.load_full();
        let listed = listed.get(&*name).ok_or_else(unknown)?;
        let arguments = match listed.arguments.check(arguments.unwrap_or(empty_object())) {
            Ok(arguments) => arguments,
            Err(mistakes) => return tool_result(&mistakes, None, true),
        };
        match self.provider.call(context, &name, &arguments).await {
            Ok(ToolOutput { text, structured }) => tool_result(&text, structured.as_ref(), false),
            Err(ProviderError::Failed(text)) => tool_result(&text, None, true),
            Err(ProviderError::Refused(refusal)) => refused(&refusal, listed.has_output_schema),
            Err(ProviderError::NotFound) => Err(unknown()),
        }
    }
}

/// Returns the results of `initialize` and of `server/discover`.
fn introductions(provider: &dyn ToolProvider) -> [Bytes; 2] {
    let info = provider.info();
    let server = json!({ "name": info.name, "title": info.title, "version": info.version });
    let mut capabilities = json!({ "tools": { "listChanged": false } });
    if provider.has_resources() {
        capabilities["resources"] = match provider.has_updates() {
            true => json!({ "subscribe": true, "listChanged": true }),
            false => json!({ "listChanged": false }),
        };
    }
    if provider.has_prompts() {
        capabilities["prompts"] = json!({ "listChanged": false });
    }
    let legacy = json!({
        "protocolVersion": LEGACY_LATEST,
        "capabilities": capabilities,
        "serverInfo": server,
        "instructions": info.description,
    });
    let modern = json!({
        "supportedVersions": [MODERN],
        "capabilities": capabilities,
        "instructions": info.description,
        "_meta": { meta::SERVER_INFO: server },
    });
    [legacy, modern].map(|result| result.to_string().into())
}

/// Params of `tools/call` and `prompts/get`.
#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

/// Params of `resources/read`.
#[derive(Deserialize)]
struct Read<'a> {
    #[serde(borrow)]
    uri: Cow<'a, str>,
}

impl From<ProviderError> for Problem {
    fn from(error: ProviderError) -> Self {
        let code = match &error {
            ProviderError::Refused(refusal) => refusal.code,
            ProviderError::NotFound | ProviderError::Failed(_) => Code::Internal,
        };
        Problem(code.rpc(), error.to_string())
    }
}

fn found(error: ProviderError, missing: impl Fn() -> Problem) -> Problem {
    match error {
        ProviderError::NotFound => missing(),
        ProviderError::Refused(refusal) if refusal.code == Code::NotFound => missing(),
        ProviderError::Failed(_) | ProviderError::Refused(_) => error.into(),
    }
}

/// Returns the error of an operation on a resource, which may not exist.
pub fn resource_problem(error: ProviderError, uri: &str) -> Problem {
    found(error, || unknown_resource(uri))
}

fn unknown_resource(uri: &str) -> Problem {
    Problem(code::RESOURCE_NOT_FOUND, format!("unknown resource `{uri}`"))
}

fn read<'a, T: Deserialize<'a>>(asked: &str, params: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(params)
        .map_err(|error| Problem(Code::InvalidParams.rpc(), format!("{asked}: {error}")))
}

fn empty_object() -> &'static RawValue {
    serde_json::from_str("{}").expect("an object is JSON")
}

/// Returns the error of a method that the server does not have.
pub fn no_method(asked: &str) -> Problem {
    Problem(Code::MethodNotFound.rpc(), format!("this server has no method `{asked}`"))
}

fn panicked(asked: &str) -> Result<Bytes, Problem> {
    tracing::error!(method = asked, "a built-in server panicked");
    let message = "the server failed inside; the operator's log has more";
    match asked {
        method::TOOLS_CALL => tool_result(message, None, true),
        _ => Err(Problem(Code::Internal.rpc(), message.to_owned())),
    }
}

/// Returns a failed tool's result: the sentence for the model, the code and the facts for programs. The facts are
/// structured content, but in `_meta` where the tool has an output schema, which clients hold failures to as well.
fn refused(refusal: &Refusal, has_output_schema: bool) -> Result<Bytes, Problem> {
    let text = match &refusal.hint {
        Some(hint) => format!("{}: {} ({hint})", refusal.code.as_str(), refusal.reason),
        None => refusal.to_string(),
    };
    let facts = refusal.members();
    match has_output_schema {
        true => write_result(&text, None, true, Some(json!({ meta::REFUSAL: facts }))),
        false => tool_result(&text, Some(&facts), true),
    }
}

fn result(value: &Value) -> Bytes {
    value.to_string().into()
}

fn tool_result(text: &str, structured: Option<&Value>, is_error: bool) -> Result<Bytes, Problem> {
    write_result(text, structured, is_error, None)
}

fn write_result(
    text: &str,
    structured: Option<&Value>,
    is_error: bool,
    about: Option<Value>,
) -> Result<Bytes, Problem> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct CallResult<'a> {
        content: [Text<'a>; 1],
        #[serde(skip_serializing_if = "Option::is_none")]
        structured_content: Option<&'a Value>,
        is_error: bool,
        #[serde(rename = "_meta", skip_serializing_if = "Option::is_none")]
        about: Option<Value>,
    }
    #[derive(Serialize)]
    struct Text<'a> {
        r#type: &'static str,
        text: &'a str,
    }
    let content = [Text { r#type: "text", text }];
    let result = CallResult { content, structured_content: structured, is_error, about };
    serde_json::to_vec(&result).map(Bytes::from).map_err(|error| {
        Problem(Code::Internal.rpc(), format!("the tool's answer cannot be written: {error}"))
    })
}
