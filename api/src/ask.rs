//! What is asked: JSON-RPC methods as one table, and the names in their parameters. Parameters are
//! cut around the name and otherwise stay as they were written.

use std::borrow::Cow;
use std::future::Future;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use protocol::jsonrpc::{self, Message};
use protocol::mcp::method;
use protocol::{Code, Outcome, Refusal};
use proxy::catalog::ListKind;
use proxy::pool::{Delivered, Pool};
use proxy::route::{Name, Permit, Verb};
use proxy::splice;
use proxy::upstream::{Params, UpstreamAnswer, UpstreamRequest};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::gateway::{Context, Payload, Refused};
use crate::reply::{Answer, Facts, Replies, Reply};

/// How many messages of one batch are served at the same time.
const BATCH_AT_ONCE: usize = 16;

/// One or several messages, read.
pub enum Asked<'a> {
    One(Ask<'a>),
    Batch(Vec<Ask<'a>>),
}

/// One message, read.
pub enum Ask<'a> {
    Call(Call<'a>),
    List(List<'a>),
    Local(Local<'a>),
    /// A notification: taken, and not answered.
    Notification,
    /// What cannot be served, with the error to answer.
    Wrong(Wrong<'a>),
}

pub struct List<'a> {
    pub id: &'a RawValue,
    pub kind: ListKind,
    pub cursor: Option<Cow<'a, str>>,
}

pub struct Local<'a> {
    pub id: &'a RawValue,
    pub method: LocalMethod<'a>,
}

/// A method that the gateway answers itself.
pub enum LocalMethod<'a> {
    Ping,
    Initialize { version: Option<Cow<'a, str>> },
    ListServices,
    DescribeService { service: Cow<'a, str> },
}

pub struct Wrong<'a> {
    pub id: Option<&'a RawValue>,
    pub refusal: Refusal,
}

/// A call of something at an upstream.
pub struct Call<'a> {
    pub id: Option<&'a RawValue>,
    pub verb: Verb,
    pub target: Target<'a>,
    /// The parameters before and after the place of the name.
    pub head: Cow<'a, str>,
    pub tail: Cow<'a, str>,
    /// What is recorded.
    pub arguments: Option<Cow<'a, RawValue>>,
    /// Less than the policy's time-out, when the caller wants less.
    pub timeout: Option<Duration>,
    pub shape: Shape,
}

/// How the caller named what is called.
pub enum Target<'a> {
    Exposed(Cow<'a, str>),
    Own { server: Cow<'a, str>, name: Cow<'a, str> },
    /// As `Own`, where kebab, snake and spaced form are one name.
    Operation { service: Cow<'a, str>, operation: Cow<'a, str> },
}

/// The form of the answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The upstream's result as it is.
    Plain,
    /// `{status, data, metadata}`, of `mcp.execute`.
    Service,
}

/// Reads what a door handed in.
pub fn read<'a>(payload: Payload<'a>, max_batch: usize) -> Result<Asked<'a>, Refused> {
    let body = match payload {
        Payload::Call(call) => return Ok(Asked::One(Ask::Call(call))),
        Payload::JsonRpc(body) => body,
    };
    match jsonrpc::parse(body, max_batch) {
        Ok(jsonrpc::Body::Single(message)) => Ok(Asked::One(read_message(message))),
        Ok(jsonrpc::Body::Batch(elements)) => {
            let read = |raw| match jsonrpc::parse_message(raw) {
                Ok(message) => read_message(message),
                Err(malformed) => Ask::Wrong(Wrong { id: malformed.id, refusal: malformed.refusal }),
            };
            Ok(Asked::Batch(elements.into_iter().map(read).collect()))
        }
        Err(malformed) => {
            Err(Refused { id: malformed.id.map(|id| id.get().into()), ..Refused::from(malformed.refusal) })
        }
    }
}

impl<'a> Asked<'a> {
    pub fn len(&self) -> usize {
        match self {
            Asked::One(_) => 1,
            Asked::Batch(asks) => asks.len(),
        }
    }

    /// Serves each message, some at a time, and keeps their order.
    pub async fn each<F: Future<Output = Option<Reply>>>(self, mut serve: impl FnMut(Ask<'a>) -> F) -> Replies {
        match self {
            Asked::One(ask) => Replies::One(serve(ask).await),
            Asked::Batch(asks) => {
                let replies = stream::iter(asks.into_iter().map(serve)).buffered(BATCH_AT_ONCE);
                Replies::Many(replies.filter_map(std::future::ready).collect().await)
            }
        }
    }
}

/// The method table.
fn read_message(message: Message<'_>) -> Ask<'_> {
    let Some(id) = message.id else { return Ask::Notification };
    let params = message.params;
    let read = match message.method.as_ref() {
        method::TOOLS_CALL => call(id, Verb::CallTool, params),
        method::RESOURCES_READ => call(id, Verb::ReadResource, params),
        method::PROMPTS_GET => call(id, Verb::GetPrompt, params),
        method::COMPLETE => complete(id, params),
        method::EXECUTE => execute(id, params),
        method::TOOLS_LIST => list(id, ListKind::Tools, params),
        method::RESOURCES_LIST => list(id, ListKind::Resources, params),
        method::RESOURCE_TEMPLATES_LIST => list(id, ListKind::ResourceTemplates, params),
        method::PROMPTS_LIST => list(id, ListKind::Prompts, params),
        method::PING => Ok(Ask::Local(Local { id, method: LocalMethod::Ping })),
        method::INITIALIZE => initialize(id, params),
        method::LIST_SERVICES => Ok(Ask::Local(Local { id, method: LocalMethod::ListServices })),
        method::DESCRIBE_SERVICE => describe(id, params),
        other => Err(Refusal::new(Code::MethodNotFound, format!("there is no method `{}`", other.chars().take(100).collect::<String>()))
            .hint("methods here: ping, tools/list, tools/call, resources/list, resources/templates/list, resources/read, prompts/list, prompts/get, completion/complete, mcp.listServices, mcp.describeService, mcp.execute")),
    };
    read.unwrap_or_else(|refusal| Ask::Wrong(Wrong { id: Some(id), refusal }))
}

fn call<'a>(id: &'a RawValue, verb: Verb, params: Option<&'a RawValue>) -> Result<Ask<'a>, Refusal> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        name: Option<&'a RawValue>,
        #[serde(borrow)]
        uri: Option<&'a RawValue>,
        #[serde(borrow)]
        arguments: Option<&'a RawValue>,
    }
    let params = object(params)?;
    let named: Named<'a> = serde_json::from_str(params).map_err(wrong_params)?;
    let (member, raw) = match verb {
        Verb::ReadResource => ("uri", named.uri),
        Verb::CallTool | Verb::GetPrompt | Verb::Complete => ("name", named.name),
    };
    let raw = raw.ok_or_else(|| wrong(format!("params.{member} is missing")))?;
    let name = string(raw).ok_or_else(|| wrong(format!("params.{member} is a string")))?;
    if let Some(arguments) = named.arguments.filter(|arguments| !arguments.get().starts_with('{')) {
        return Err(wrong(format!("params.arguments is an object, not {}", kind_of(arguments.get()))));
    }
    let cut = splice::around(params, raw.get());
    Ok(Ask::Call(Call {
        id: Some(id),
        verb,
        target: Target::Exposed(name),
        head: cut.head.into(),
        tail: cut.tail.into(),
        arguments: named.arguments.map(Cow::Borrowed),
        timeout: None,
        shape: Shape::Plain,
    }))
}

fn complete<'a>(id: &'a RawValue, params: Option<&'a RawValue>) -> Result<Ask<'a>, Refusal> {
    #[derive(Deserialize)]
    struct Complete<'a> {
        #[serde(borrow, rename = "ref")]
        reference: Reference<'a>,
    }
    #[derive(Deserialize)]
    struct Reference<'a> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
        #[serde(borrow)]
        name: Option<&'a RawValue>,
        #[serde(borrow)]
        uri: Option<&'a RawValue>,
    }
    let params = object(params)?;
    let complete: Complete<'a> = serde_json::from_str(params).map_err(wrong_params)?;
    let raw = match complete.reference.kind.as_ref() {
        "ref/prompt" => complete.reference.name.ok_or_else(|| wrong("params.ref.name is missing"))?,
        "ref/resource" => complete.reference.uri.ok_or_else(|| wrong("params.ref.uri is missing"))?,
        _ => return Err(wrong("params.ref.type is `ref/prompt` or `ref/resource`")),
    };
    let name = string(raw).ok_or_else(|| wrong("params.ref names its prompt or resource by a string"))?;
    let cut = splice::around(params, raw.get());
    Ok(Ask::Call(Call {
        id: Some(id),
        verb: Verb::Complete,
        target: Target::Exposed(name),
        head: cut.head.into(),
        tail: cut.tail.into(),
        arguments: None,
        timeout: None,
        shape: Shape::Plain,
    }))
}

/// `mcp.execute`: members beside the known ones are parameters too, as earlier gateways took them.
fn execute<'a>(id: &'a RawValue, params: Option<&'a RawValue>) -> Result<Ask<'a>, Refusal> {
    let params = object(params)?;
    let mut members: serde_json::Map<String, serde_json::Value> = serde_json::from_str(params).map_err(wrong_params)?;
    let mut text = |name: &str| match members.remove(name) {
        Some(serde_json::Value::String(text)) if !text.is_empty() => Ok(text),
        Some(_) => Err(wrong(format!("params.{name} is a text"))),
        None => Err(wrong(format!("params.{name} is missing"))),
    };
    let service = text("service")?;
    let operation = text("operation")?;
    if members.contains_key("command") {
        return Err(wrong("params.command is not taken yet; give service, operation and params"));
    }
    let mut arguments = match members.remove("params") {
        None | Some(serde_json::Value::Null) => serde_json::Map::new(),
        Some(serde_json::Value::Object(arguments)) => arguments,
        Some(_) => return Err(wrong("params.params is an object")),
    };
    for (name, value) in members {
        if arguments.insert(name.clone(), value).is_some() {
            return Err(wrong(format!("`{name}` stands both beside params and in it; which one counts?")));
        }
    }
    let arguments = serde_json::value::to_raw_value(&arguments).expect("a map is JSON");
    Ok(Ask::Call(Call {
        target: Target::Operation { service: service.into(), operation: operation.into() },
        shape: Shape::Service,
        ..Call::of_tool(Some(id), Cow::Owned(arguments))
    }))
}

fn list<'a>(id: &'a RawValue, kind: ListKind, params: Option<&'a RawValue>) -> Result<Ask<'a>, Refusal> {
    #[derive(Deserialize)]
    struct Cursor<'a> {
        #[serde(borrow)]
        cursor: Option<Cow<'a, str>>,
    }
    let cursor = match params {
        Some(_) => serde_json::from_str::<Cursor<'a>>(object(params)?).map_err(wrong_params)?.cursor,
        None => None,
    };
    Ok(Ask::List(List { id, kind, cursor }))
}

fn initialize<'a>(id: &'a RawValue, params: Option<&'a RawValue>) -> Result<Ask<'a>, Refusal> {
    #[derive(Deserialize)]
    struct Initialize<'a> {
        #[serde(borrow, rename = "protocolVersion")]
        version: Option<Cow<'a, str>>,
    }
    let version = match params {
        Some(_) => serde_json::from_str::<Initialize<'a>>(object(params)?).map_err(wrong_params)?.version,
        None => None,
    };
    Ok(Ask::Local(Local { id, method: LocalMethod::Initialize { version } }))
}

fn describe<'a>(id: &'a RawValue, params: Option<&'a RawValue>) -> Result<Ask<'a>, Refusal> {
    #[derive(Deserialize)]
    struct Describe<'a> {
        #[serde(borrow)]
        service: Cow<'a, str>,
    }
    let describe: Describe<'a> = serde_json::from_str(object(params)?).map_err(wrong_params)?;
    Ok(Ask::Local(Local { id, method: LocalMethod::DescribeService { service: describe.service } }))
}

impl<'a> Call<'a> {
    /// A tool call whose parameters are put together here.
    pub fn of_tool(id: Option<&'a RawValue>, arguments: Cow<'a, RawValue>) -> Self {
        Self {
            id,
            verb: Verb::CallTool,
            target: Target::Own { server: "".into(), name: "".into() },
            head: r#"{"name":"#.into(),
            tail: format!(r#","arguments":{}}}"#, arguments.get()).into(),
            arguments: Some(arguments),
            timeout: None,
            shape: Shape::Plain,
        }
    }

    pub fn name(&self) -> Name<'_> {
        match &self.target {
            Target::Exposed(name) => Name::Exposed(name),
            Target::Own { server, name } => Name::Own { server, name },
            Target::Operation { service, operation } => Name::Operation { server: service, name: operation },
        }
    }

    pub fn arguments(&self) -> &[u8] {
        self.arguments.as_ref().map_or(b"", |arguments| arguments.get().as_bytes())
    }

    /// Sends it, under its permit.
    pub async fn deliver(&self, pool: &Pool, permit: &Permit, started: Instant) -> Result<Delivered, Refusal> {
        let timeout = self.timeout.map_or(permit.timeout(), |wanted| wanted.min(permit.timeout()));
        let route = permit.route();
        let name = serde_json::to_string(&*route.name).expect("a string is JSON");
        let request = UpstreamRequest {
            method: match self.verb {
                Verb::CallTool => method::TOOLS_CALL,
                Verb::ReadResource => method::RESOURCES_READ,
                Verb::GetPrompt => method::PROMPTS_GET,
                Verb::Complete => method::COMPLETE,
            },
            params: Params { head: self.head.as_bytes(), middle: name.as_bytes(), tail: self.tail.as_bytes() },
            deadline: started + timeout,
        };
        pool.request(&route.key, permit.spec(), request).await
    }

    pub fn refused(&self, context: Context<'_>, refusal: Refusal) -> Reply {
        Reply {
            id: self.id.map(|id| id.get().into()),
            answer: Answer::Refused(refusal),
            facts: None,
            request: context.request,
        }
    }

    /// The reply in the wanted form.
    pub fn reply(&self, context: Context<'_>, delivered: Result<Delivered, Refusal>, facts: Facts) -> Reply {
        let answer = match delivered.map(|delivered| delivered.answer) {
            Ok(UpstreamAnswer::Result(result)) if self.shape == Shape::Service => service_answer(&result, &facts),
            Ok(UpstreamAnswer::Result(result)) => Answer::Result(result),
            Ok(UpstreamAnswer::Error(error)) => Answer::Error(error),
            Err(refusal) => Answer::Refused(refusal),
        };
        Reply { id: self.id.map(|id| id.get().into()), answer, facts: Some(facts), request: context.request }
    }
}

/// `{status, data, metadata}`: data is the structured content where there is one, else the text as
/// JSON or text, else the whole result. A tool error is an error here.
fn service_answer(result: &Bytes, facts: &Facts) -> Answer {
    #[derive(Deserialize)]
    struct ToolResult<'a> {
        #[serde(borrow, rename = "structuredContent")]
        structured: Option<&'a RawValue>,
        #[serde(borrow)]
        content: Option<Vec<&'a RawValue>>,
    }
    #[derive(Deserialize)]
    struct Text {
        text: String,
    }
    let whole: &RawValue = match serde_json::from_slice(result) {
        Ok(whole) => whole,
        Err(error) => {
            return Answer::Refused(Refusal::new(Code::UpstreamFailed, format!("the answer is not JSON: {error}")));
        }
    };
    let read: Option<ToolResult<'_>> = serde_json::from_str(whole.get()).ok();
    let texts: Vec<String> = read
        .iter()
        .flat_map(|read| read.content.iter().flatten())
        .filter_map(|block| serde_json::from_str::<Text>(block.get()).ok())
        .map(|block| block.text)
        .collect();
    if facts.outcome == Outcome::ToolError {
        return Answer::Refused(Refusal::new(Code::ToolFailed, texts.join("\n")));
    }
    let parsed = match texts.as_slice() {
        [text] => serde_json::from_str::<&RawValue>(text)
            .map(ToOwned::to_owned)
            .or_else(|_| serde_json::value::to_raw_value(text))
            .ok(),
        _ => None,
    };
    let data = read.and_then(|read| read.structured).or(parsed.as_deref()).unwrap_or(whole);
    let answer = serde_json::json!({
        "executionTime": facts.duration.as_millis() as u64,
        "tokensUsed": facts.tokens_in + facts.tokens_out,
    });
    Answer::Result(format!(r#"{{"status":"success","data":{},"metadata":{answer}}}"#, data.get()).into())
}

fn object(params: Option<&RawValue>) -> Result<&str, Refusal> {
    match params.map(RawValue::get) {
        None => Ok("{}"),
        Some(params) if params.starts_with('{') => Ok(params),
        Some(params) => Err(wrong(format!("params is an object, not {}", kind_of(params)))),
    }
}

fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str::<Text<'_>>(raw.get()).ok().map(|text| text.0)
}

fn kind_of(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        Some(_) | None => "a number",
    }
}

fn wrong_params(error: serde_json::Error) -> Refusal {
    wrong(format!("params cannot be read: {error}"))
}

fn wrong(reason: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(Code::InvalidParams, reason)
}
