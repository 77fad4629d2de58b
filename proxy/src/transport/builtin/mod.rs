//! An upstream that lives in this process: a tool provider that answers as a server would.
//! It knows the protocol's methods; what the tools do is theirs.

mod arguments;

use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use protocol::mcp::{Era, LEGACY_LATEST, MODERN, meta, method};
use protocol::provider::{ProviderInfo, ToolFailure, ToolOutput, ToolProvider};
use protocol::{Code, Refusal};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::child::Needed;
use crate::upstream::{Failure, Initialized, Upstream, UpstreamAnswer, UpstreamRequest};
use arguments::ArgumentShape;

pub struct BuiltinUpstream {
    provider: Arc<dyn ToolProvider>,
    initialized: Arc<Initialized>,
    /// The result of `initialize`.
    legacy: Bytes,
    /// The result of `server/discover`.
    modern: Bytes,
    list: Bytes,
    /// Name and shape of each tool, in the order of the list.
    shapes: Vec<(&'static str, ArgumentShape)>,
}

impl BuiltinUpstream {
    /// It speaks both eras; `era` is the one that it is introduced in.
    pub fn new(provider: Arc<dyn ToolProvider>, era: Era, generation: u64) -> Self {
        let tools = provider.list();
        let [legacy, modern] = introductions(&provider.info());
        let list = json!({ "tools": tools });
        let shapes = tools.iter().map(|tool| (tool.name, ArgumentShape::read(&tool.input_schema))).collect();
        let (result, protocol_version) = match era {
            Era::Legacy => (legacy.clone(), LEGACY_LATEST.to_owned()),
            Era::Modern => (modern.clone(), MODERN.to_owned()),
        };
        let initialized = Arc::new(Initialized { era, result, protocol_version, generation });
        Self { provider, initialized, legacy, modern, list: list.to_string().into(), shapes }
    }

    pub fn initialized(&self) -> &Arc<Initialized> {
        &self.initialized
    }

    async fn call(&self, params: &[u8]) -> UpstreamAnswer {
        #[derive(Deserialize)]
        struct CallParams<'a> {
            #[serde(borrow)]
            name: Cow<'a, str>,
            #[serde(borrow, default)]
            arguments: Option<&'a RawValue>,
        }
        let call: CallParams<'_> = match serde_json::from_slice(params) {
            Ok(call) => call,
            Err(error) => {
                return error_answer(Code::InvalidParams, &format!("tools/call needs a name: {error}"));
            }
        };
        let Some((_, shape)) = self.shapes.iter().find(|(name, _)| *name == call.name) else {
            return unknown_tool(&call.name);
        };
        let arguments = call.arguments.unwrap_or(empty_object());
        if let Err(mistakes) = shape.check(arguments.get()) {
            return tool_answer(&mistakes, None, true);
        }
        // A tool that panics has failed; the gateway has not.
        let outcome = AssertUnwindSafe(self.provider.call(&call.name, arguments)).catch_unwind().await;
        match outcome {
            Ok(Ok(ToolOutput { text, structured })) => tool_answer(&text, structured.as_ref(), false),
            Ok(Err(ToolFailure::Failed(text))) => tool_answer(&text, None, true),
            Ok(Err(ToolFailure::UnknownTool)) => unknown_tool(&call.name),
            Err(_) => {
                tracing::error!(tool = &*call.name, "a built-in tool panicked");
                tool_answer("the tool failed inside; the operator's log has more", None, true)
            }
        }
    }
}

#[async_trait]
impl Upstream for BuiltinUpstream {
    async fn request(&self, request: UpstreamRequest<'_>) -> Result<UpstreamAnswer, Failure> {
        match request.method {
            method::TOOLS_CALL => {
                let params = request.params.contiguous();
                let call = self.call(&params);
                tokio::time::timeout_at(request.deadline.into(), call).await.map_err(|_| {
                    let refusal = Refusal::new(Code::TimedOut, "the built-in tool did not answer in time");
                    Failure { refusal, sent: true }
                })
            }
            method::TOOLS_LIST => Ok(UpstreamAnswer::Result(self.list.clone())),
            method::INITIALIZE => Ok(UpstreamAnswer::Result(self.legacy.clone())),
            method::DISCOVER => Ok(UpstreamAnswer::Result(self.modern.clone())),
            method::PING => Ok(UpstreamAnswer::Result(Bytes::from_static(b"{}"))),
            other => Ok(error_answer(Code::MethodNotFound, &format!("this server has no method `{other}`"))),
        }
    }

    /// Nothing that a built-in server listens to.
    fn notify(&self, _method: &str, _params: &[u8]) {}

    /// A built-in server has no resources.
    async fn subscribe(&self, _uri: &str, _deadline: Instant) -> Result<UpstreamAnswer, Failure> {
        Ok(error_answer(Code::MethodNotFound, "this server has no method `resources/subscribe`"))
    }

    fn unsubscribe(&self, _uri: &str) {}

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

/// The results of `initialize` and of `server/discover`.
fn introductions(info: &ProviderInfo) -> [Bytes; 2] {
    let server = json!({ "name": info.name, "title": info.title, "version": info.version });
    let capabilities = json!({ "tools": { "listChanged": false } });
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

fn empty_object() -> &'static RawValue {
    serde_json::from_str("{}").unwrap_or(RawValue::NULL)
}

fn unknown_tool(name: &str) -> UpstreamAnswer {
    error_answer(Code::UnknownTool, &format!("unknown tool `{name}`"))
}

fn error_answer(code: Code, message: &str) -> UpstreamAnswer {
    UpstreamAnswer::Error(json!({ "code": code.rpc(), "message": message }).to_string().into())
}

/// The result of `tools/call`, for a tool that answered and for one that failed.
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
        Err(error) => error_answer(Code::Internal, &format!("the tool's answer cannot be written: {error}")),
    }
}
