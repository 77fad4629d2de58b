//! What is asked: JSON-RPC methods as one table, and the names in their parameters. Parameters are
//! cut around the name and otherwise stay as they were written.

mod execute;

use std::borrow::Cow;
use std::future::Future;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream;
use protocol::jsonrpc::{self, Message};
use protocol::mcp::method;
use protocol::{Code, Refusal};
use proxy::catalog::{Catalog, ListKind};
use proxy::pool::{Delivered, Pool};
use proxy::route::{Name, Permit, Verb};
use proxy::splice;
use proxy::upstream::{Params, UpstreamAnswer, UpstreamRequest};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::gateway::{Context, Form, Refused};
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
    /// The agent that the body names, where a body can.
    pub agent: Option<Cow<'a, str>>,
    pub shape: Shape,
}

/// How the caller named what is called.
pub enum Target<'a> {
    Exposed(Cow<'a, str>),
    Own {
        server: Cow<'a, str>,
        name: Cow<'a, str>,
    },
    /// As `Own`, where kebab, snake and spaced form are one name.
    Operation {
        service: Cow<'a, str>,
        operation: Cow<'a, str>,
    },
}

/// The form of the answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The upstream's result as it is.
    Plain,
    /// `{status, data, metadata}`, of `mcp.execute`.
    Service,
}

/// Reads a body.
pub fn read(form: Form, body: &[u8], max_batch: usize) -> Result<Asked<'_>, Refused> {
    if form == Form::Execute {
        return Ok(execute::read(body)?);
    }
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

    /// The agent that the body names.
    pub fn agent(&self) -> Option<&str> {
        match self {
            Asked::One(Ask::Call(call)) => call.agent.as_deref(),
            Asked::One(_) | Asked::Batch(_) => None,
        }
    }

    /// Serves each message, some at a time, and keeps their order.
    pub async fn each<F: Future<Output = Option<Reply>>>(
        self,
        mut serve: impl FnMut(Ask<'a>) -> F,
    ) -> Replies {
        match self {
            Asked::One(ask) => Replies::One(serve(ask).await),
            Asked::Batch(asks) => {
                let serving: Vec<F> = asks.into_iter().map(serve).collect();
                let replies: Vec<Option<Reply>> =
                    stream::iter(serving).buffered(BATCH_AT_ONCE).collect().await;
                Replies::Many(replies.into_iter().flatten().collect())
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
        method::EXECUTE => execute::service(id, params),
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
    short_enough(member, &name)?;
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
        agent: None,
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
    short_enough("ref", &name)?;
    let cut = splice::around(params, raw.get());
    Ok(Ask::Call(Call {
        id: Some(id),
        verb: Verb::Complete,
        target: Target::Exposed(name),
        head: cut.head.into(),
        tail: cut.tail.into(),
        arguments: None,
        timeout: None,
        agent: None,
        shape: Shape::Plain,
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
            agent: None,
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

    /// Sends it, under its permit. Where the server's names are not known yet, it is asked for them.
    pub async fn deliver(
        &self,
        catalog: &Catalog,
        pool: &Pool,
        mut permit: Permit,
        started: Instant,
    ) -> Result<Delivered, Refusal> {
        let timeout = self.timeout.map_or(permit.timeout(), |wanted| wanted.min(permit.timeout()));
        // A start has a time of its own, which does not count towards the call's.
        let patience = permit.spec().start_timeout + timeout;
        catalog.settle(&mut permit, started + patience).await?;
        let route = permit.route();
        let name = serde_json::to_string(&*route.name).expect("a string is JSON");
        let request = UpstreamRequest {
            method: match self.verb {
                Verb::CallTool => method::TOOLS_CALL,
                Verb::ReadResource => method::RESOURCES_READ,
                Verb::GetPrompt => method::PROMPTS_GET,
                Verb::Complete => method::COMPLETE,
            },
            params: Params::spliced(self.head.as_bytes(), name.as_bytes(), self.tail.as_bytes()),
            deadline: Instant::now() + timeout,
            listener: None,
            progress: None,
            headers: &[],
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
            Ok(UpstreamAnswer::Result(result)) if self.shape == Shape::Service => {
                execute::service_answer(&result, &facts)
            }
            Ok(UpstreamAnswer::Result(result)) => Answer::Result(result),
            Ok(UpstreamAnswer::Error(error)) => Answer::Error(error),
            Err(refusal) => Answer::Refused(refusal),
        };
        Reply { id: self.id.map(|id| id.get().into()), answer, facts: Some(facts), request: context.request }
    }
}

impl Wrong<'_> {
    pub fn reply(self, context: Context<'_>) -> Reply {
        Reply {
            id: self.id.map(|id| id.get().into()),
            answer: Answer::Refused(self.refusal),
            facts: None,
            request: context.request,
        }
    }
}

fn object(params: Option<&RawValue>) -> Result<&str, Refusal> {
    match params.map(RawValue::get) {
        None => Ok("{}"),
        Some(params) if params.starts_with('{') => Ok(params),
        Some(params) => Err(wrong(format!("params is an object, not {}", kind_of(params)))),
    }
}

/// Longest name or URI, bytes: each is kept in the record.
const MAX_NAME: usize = 4096;

fn short_enough(member: &str, name: &str) -> Result<(), Refusal> {
    if name.len() <= MAX_NAME {
        return Ok(());
    }
    Err(wrong(format!("params.{member} has {} bytes; at most {MAX_NAME} are taken", name.len())))
}

fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(raw.get()).ok().map(|text| text.0)
}

/// A string that is borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

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
