//! Built-in upstream: a tool provider in this process that answers MCP requests as a server would. Knows
//! the protocol's methods; the providers implement the tools.

mod arguments;

use std::borrow::Cow;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use parking_lot::Mutex;
use protocol::mcp::{Era, LEGACY_LATEST, MODERN, code, meta, method};
use protocol::provider::{
    Cancellation, Changed, Progress, ProviderError, RequestContext, ToolDefinition, ToolOutput, ToolProvider,
    Watch,
};
use protocol::{Code, Refusal, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::child::Needed;
use crate::peer::events::{Publish, UpstreamEvent};
use crate::pool::PoolKey;
use crate::server::BuiltinLaunch;
use crate::upstream::{Failure, Initialized, Upstream, UpstreamAnswer, UpstreamRequest};
use arguments::ArgumentShape;

pub struct BuiltinUpstream {
    provider: Arc<dyn ToolProvider>,
    tenant: TenantId,
    launch: BuiltinLaunch,
    initialized: Arc<Initialized>,
    /// Result of `initialize`.
    legacy: Bytes,
    /// Result of `server/discover`.
    modern: Bytes,
    /// Argument schemas of the last `tools/list`.
    shapes: ArcSwap<HashMap<String, ArgumentShape>>,
    publish: Publish,
    /// Watches of the resources that are subscribed to.
    watches: Mutex<HashMap<String, Watch>>,
    _list_watch: Option<Watch>,
}

impl BuiltinUpstream {
    /// Creates the upstream, which serves both eras; its handshake is of the key's era.
    pub fn new(
        provider: Arc<dyn ToolProvider>,
        key: PoolKey,
        launch: BuiltinLaunch,
        generation: u64,
        publish: Publish,
    ) -> Self {
        let [legacy, modern] = introductions(&*provider);
        let (result, protocol_version) = match key.era {
            Era::Legacy => (legacy.clone(), LEGACY_LATEST.to_owned()),
            Era::Modern => (modern.clone(), MODERN.to_owned()),
        };
        let initialized = Arc::new(Initialized { era: key.era, result, protocol_version, generation });
        let list_changed = Arc::clone(&publish);
        let _list_watch = provider
            .watch_resource_list(key.tenant, Arc::new(move || list_changed(UpstreamEvent::ResourcesChanged)));
        Self {
            provider,
            tenant: key.tenant,
            launch,
            initialized,
            legacy,
            modern,
            shapes: ArcSwap::default(),
            publish,
            watches: Mutex::default(),
            _list_watch,
        }
    }

    pub fn initialized(&self) -> &Arc<Initialized> {
        &self.initialized
    }

    async fn answer(
        &self,
        context: &RequestContext<'_>,
        asked: &str,
        params: &[u8],
    ) -> Result<UpstreamAnswer, Problem> {
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
                result(
                    &json!({ "contents": contents.map_err(|error| found(error, || unknown_resource(&uri)))? }),
                )
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
            method::INITIALIZE => UpstreamAnswer::Result(self.legacy.clone()),
            method::DISCOVER => UpstreamAnswer::Result(self.modern.clone()),
            method::PING => UpstreamAnswer::Result(Bytes::from_static(b"{}")),
            other => return Err(no_method(other)),
        })
    }

    async fn tools(&self, context: &RequestContext<'_>) -> Result<Vec<ToolDefinition>, ProviderError> {
        let tools = self.provider.tools(context).await?;
        let shape = |tool: &ToolDefinition| (tool.name.to_string(), ArgumentShape::read(&tool.input_schema));
        self.shapes.store(Arc::new(tools.iter().map(shape).collect()));
        Ok(tools)
    }

    async fn call(&self, context: &RequestContext<'_>, params: &[u8]) -> Result<UpstreamAnswer, Problem> {
        let Named { name, arguments } = read(method::TOOLS_CALL, params)?;
        let unknown = || Problem(Code::UnknownTool.rpc(), format!("unknown tool `{name}`"));
        if !self.shapes.load().contains_key(&*name) {
            self.tools(context).await?;
        }
        let shapes = self.shapes.load_full();
        let shape = shapes.get(&*name).ok_or_else(unknown)?;
        let arguments = arguments.unwrap_or(empty_object());
        if let Err(mistakes) = shape.check(arguments.get()) {
            return Ok(tool_answer(&mistakes, None, true));
        }
        match self.provider.call(context, &name, arguments).await {
            Ok(ToolOutput { text, structured }) => Ok(tool_answer(&text, structured.as_ref(), false)),
            Err(ProviderError::Failed(text)) => Ok(tool_answer(&text, None, true)),
            Err(ProviderError::Refused(refusal)) => Ok(refused(&refusal)),
            Err(ProviderError::NotFound) => Err(unknown()),
        }
    }
}

#[async_trait]
impl Upstream for BuiltinUpstream {
    async fn request(&self, request: UpstreamRequest<'_>) -> Result<UpstreamAnswer, Failure> {
        let over = Over(Cancellation::default());
        let context = RequestContext {
            tenant: self.tenant,
            caller: request.caller,
            deadline: request.deadline,
            cancellation: over.0.clone(),
            progress: &|progress| notify_progress(&request, progress),
            settings: &self.launch.settings,
            secrets: &self.launch.secrets,
        };
        let params = request.params.contiguous();
        // A panic of a provider is its failure, not the gateway's.
        let answer = AssertUnwindSafe(self.answer(&context, request.method, &params)).catch_unwind();
        match tokio::time::timeout_at(request.deadline.into(), answer).await {
            Ok(Ok(answer)) => {
                Ok(answer.unwrap_or_else(|Problem(code, message)| UpstreamAnswer::error(code, &message)))
            }
            Ok(Err(_)) => Ok(panicked(request.method)),
            Err(_) => {
                let refusal = Refusal::new(Code::TimedOut, "the built-in server did not answer in time");
                Err(Failure { refusal, sent: true })
            }
        }
    }

    /// Ignores all notifications.
    fn notify(&self, _method: &str, _params: &[u8]) {}

    async fn subscribe(&self, uri: &str, deadline: Instant) -> Result<UpstreamAnswer, Failure> {
        if !self.provider.has_updates() {
            let Problem(code, message) = no_method(method::SUBSCRIBE);
            return Ok(UpstreamAnswer::error(code, &message));
        }
        let event = UpstreamEvent::ResourceUpdated {
            uri: uri.into(),
            params: json!({ "uri": uri }).to_string().into(),
        };
        let publish = Arc::clone(&self.publish);
        let changed: Changed = Arc::new(move || publish(event.clone()));
        let over = Over(Cancellation::default());
        let context = RequestContext {
            tenant: self.tenant,
            caller: None,
            deadline,
            cancellation: over.0.clone(),
            progress: &|_| {},
            settings: &self.launch.settings,
            secrets: &self.launch.secrets,
        };
        Ok(match self.provider.watch_resource(&context, uri, changed).await {
            Ok(watch) => {
                self.watches.lock().insert(uri.to_owned(), watch);
                UpstreamAnswer::Result(Bytes::from_static(b"{}"))
            }
            Err(error) => {
                let Problem(code, message) = found(error, || unknown_resource(uri));
                UpstreamAnswer::error(code, &message)
            }
        })
    }

    fn unsubscribe(&self, uri: &str) {
        self.watches.lock().remove(uri);
    }

    fn is_alive(&self) -> bool {
        true
    }

    async fn closed(&self) -> Refusal {
        std::future::pending().await
    }

    async fn stop(&self) -> Needed {
        Needed::Nothing
    }
}

/// Guard that marks a request as over when its future is dropped.
struct Over(Cancellation);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

fn notify_progress(request: &UpstreamRequest<'_>, progress: Progress<'_>) {
    let (Some(listener), Some(token)) = (request.listener, request.progress) else { return };
    let mut params = json!(progress);
    params[meta::PROGRESS_TOKEN] = token.into();
    listener.on_notification(method::PROGRESS, Some(&params.to_string()));
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

/// A JSON-RPC error: code and message.
struct Problem(i32, String);

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

fn no_method(asked: &str) -> Problem {
    Problem(Code::MethodNotFound.rpc(), format!("this server has no method `{asked}`"))
}

fn panicked(asked: &str) -> UpstreamAnswer {
    tracing::error!(method = asked, "a built-in server panicked");
    let message = "the server failed inside; the operator's log has more";
    match asked {
        method::TOOLS_CALL => tool_answer(message, None, true),
        _ => UpstreamAnswer::error(Code::Internal.rpc(), message),
    }
}

/// Returns a failed tool's result: the sentence for the model, the code and the facts for programs.
fn refused(refusal: &Refusal) -> UpstreamAnswer {
    let text = match &refusal.hint {
        Some(hint) => format!("{}: {} ({hint})", refusal.code.as_str(), refusal.reason),
        None => refusal.to_string(),
    };
    tool_answer(&text, Some(&refusal.members()), true)
}

fn result(value: &Value) -> UpstreamAnswer {
    UpstreamAnswer::Result(value.to_string().into())
}

fn tool_answer(text: &str, structured: Option<&Value>, is_error: bool) -> UpstreamAnswer {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct CallResult<'a> {
        content: [Text<'a>; 1],
        #[serde(skip_serializing_if = "Option::is_none")]
        structured_content: Option<&'a Value>,
        is_error: bool,
    }
    #[derive(Serialize)]
    struct Text<'a> {
        r#type: &'static str,
        text: &'a str,
    }
    let content = [Text { r#type: "text", text }];
    let result = CallResult { content, structured_content: structured, is_error };
    match serde_json::to_vec(&result) {
        Ok(json) => UpstreamAnswer::Result(json.into()),
        Err(problem) => UpstreamAnswer::error(
            Code::Internal.rpc(),
            &format!("the tool's answer cannot be written: {problem}"),
        ),
    }
}
