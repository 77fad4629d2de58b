//! What is asked: JSON-RPC messages, read as far as the gateway must. Parameters are cut around the
//! name in them and otherwise stay as they were written.

mod call;
pub mod execute;
mod table;

use std::borrow::Cow;
use std::future::Future;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use protocol::mcp::method;
use protocol::{Code, Refusal, Slug, jsonrpc};
use proxy::bridge::Level;
use proxy::catalog::ListKind;
use proxy::route::Verb;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::dialect::Endpoint;
use crate::gateway::{Context, Form, Refused};
use crate::limits::Cost;
use crate::reply::{Answer, Replies, Reply};

/// How many messages of one batch are served at the same time.
const BATCH_AT_ONCE: usize = 16;

/// Most resources that one client may be subscribed to.
pub const MAX_SUBSCRIPTIONS: usize = 1_000;

/// One or several messages, read.
#[expect(clippy::large_enum_variant, reason = "one is the usual case, and is worth no allocation")]
pub enum Asked<'a> {
    One(Ask<'a>, Option<Heading<'a>>),
    Batch(Vec<Ask<'a>>),
}

/// What the headers of a single message repeat, and what it says of its client.
#[derive(Debug)]
pub struct Heading<'a> {
    pub method: Cow<'a, str>,
    pub meta: Option<&'a RawValue>,
    /// The name, URI or task id in the parameters of a modern message.
    pub name: Option<Cow<'a, str>>,
    pub is_request: bool,
}

/// One message, read.
pub enum Ask<'a> {
    Call(Call<'a>),
    List(List<'a>),
    Local(Local<'a>),
    /// A notification: taken, and not answered.
    Notice(Notice<'a>),
    /// The client's answer to a question.
    Answered(Answered<'a>),
    /// What cannot be served, with the error to answer.
    Wrong(Wrong<'a>),
}

pub struct List<'a> {
    pub id: &'a RawValue,
    pub kind: ListKind,
    pub cursor: Option<Cow<'a, str>>,
    pub params: &'a str,
    pub marked: bool,
}

pub struct Local<'a> {
    pub id: &'a RawValue,
    pub method: LocalMethod<'a>,
}

/// A method that the gateway answers itself.
pub enum LocalMethod<'a> {
    Ping,
    Initialize {
        version: Option<Cow<'a, str>>,
        capabilities: Option<&'a RawValue>,
        info: Option<&'a RawValue>,
    },
    Discover,
    SetLevel {
        level: Level,
    },
    Subscription {
        uri: Cow<'a, str>,
        begin: bool,
    },
    Listen(Wanted),
    ListServices,
    DescribeService {
        service: Cow<'a, str>,
    },
}

/// What a `subscriptions/listen` wants to hear (2026-07-28, basic/patterns/subscriptions).
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Wanted {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tools_list_changed: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub prompts_list_changed: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub resources_list_changed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_subscriptions: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub task_ids: Vec<String>,
}

pub struct Notice<'a> {
    pub method: Cow<'a, str>,
    pub params: Option<&'a RawValue>,
}

pub struct Answered<'a> {
    pub id: &'a RawValue,
    pub outcome: Result<&'a str, &'a str>,
}

pub struct Wrong<'a> {
    pub id: Option<&'a RawValue>,
    pub refusal: Refusal,
}

/// A call of something at an upstream.
pub struct Call<'a> {
    pub id: Option<&'a RawValue>,
    pub verb: Verb,
    /// Of [`Verb::Pass`] only.
    pub method: Cow<'a, str>,
    pub target: Target<'a>,
    /// The parameters before and after the place of the name; all of them where there is none.
    pub head: Cow<'a, str>,
    pub tail: Cow<'a, str>,
    /// What is recorded.
    pub arguments: Option<Cow<'a, RawValue>>,
    /// Whether the parameters have a `_meta`.
    pub marked: bool,
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
    /// The server's own name, which it knows itself: nothing is looked up.
    Direct {
        server: Slug,
        name: Cow<'a, str>,
    },
    /// The server that has this task.
    Task(Cow<'a, str>),
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
pub fn read<'a>(
    form: Form,
    endpoint: &Endpoint,
    body: &'a [u8],
    max_batch: usize,
) -> Result<Asked<'a>, Refused> {
    if form == Form::Execute {
        return Ok(execute::read(body)?);
    }
    match jsonrpc::parse(body, max_batch) {
        Ok(jsonrpc::Body::Single(incoming)) => {
            let (ask, heading) = table::read(incoming, endpoint);
            Ok(Asked::One(ask, Some(heading)))
        }
        Ok(jsonrpc::Body::Batch(elements)) => {
            let read = |raw| match jsonrpc::parse_message(raw) {
                Ok(incoming) => table::read(incoming, endpoint).0,
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
    /// What it counts against the caller's limits.
    pub fn cost(&self) -> Cost {
        match self {
            Asked::One(ask, _) => ask.cost(),
            Asked::Batch(asks) => asks.iter().map(Ask::cost).sum(),
        }
    }

    pub fn is_tool_call(&self) -> bool {
        matches!(self, Asked::One(Ask::Call(call), _) if call.verb == Verb::CallTool)
    }

    pub fn heading(&self) -> Option<&Heading<'a>> {
        match self {
            Asked::One(_, heading) => heading.as_ref(),
            Asked::Batch(_) => None,
        }
    }

    /// The id of a single request, to refuse it under.
    pub fn id(&self) -> Option<String> {
        match self {
            Asked::One(ask, _) => ask.id().map(|id| id.get().to_owned()),
            Asked::Batch(_) => None,
        }
    }

    /// The agent that the body names.
    pub fn agent(&self) -> Option<&str> {
        match self {
            Asked::One(Ask::Call(call), _) => call.agent.as_deref(),
            Asked::One(..) | Asked::Batch(_) => None,
        }
    }

    /// Serves each message, some at a time, and keeps their order.
    pub async fn each<F: Future<Output = Option<Reply>>>(
        self,
        mut serve: impl FnMut(Ask<'a>) -> F,
    ) -> Replies {
        match self {
            Asked::One(ask, _) => Replies::One(serve(ask).await),
            Asked::Batch(asks) => {
                let serving: Vec<F> = asks.into_iter().map(serve).collect();
                let replies: Vec<Option<Reply>> =
                    stream::iter(serving).buffered(BATCH_AT_ONCE).collect().await;
                Replies::Many(replies.into_iter().flatten().collect())
            }
        }
    }
}

impl<'a> Ask<'a> {
    fn cost(&self) -> Cost {
        match self {
            Ask::Call(_) | Ask::List(_) | Ask::Wrong(_) => Cost::CALL,
            Ask::Local(local) => local.method.cost(),
            Ask::Notice(notice) if notice.method == method::CANCELLED => Cost::NOTHING,
            Ask::Notice(_) | Ask::Answered(_) => Cost::UPKEEP,
        }
    }

    /// The id of a request.
    pub fn id(&self) -> Option<&'a RawValue> {
        match self {
            Ask::Call(call) => call.id,
            Ask::List(list) => Some(list.id),
            Ask::Local(local) => Some(local.id),
            Ask::Wrong(wrong) => wrong.id,
            Ask::Notice(_) | Ask::Answered(_) => None,
        }
    }
}

impl LocalMethod<'_> {
    fn cost(&self) -> Cost {
        match self {
            LocalMethod::Ping
            | LocalMethod::Initialize { .. }
            | LocalMethod::Discover
            | LocalMethod::SetLevel { .. }
            | LocalMethod::Listen(_) => Cost::UPKEEP,
            LocalMethod::Subscription { begin: true, .. }
            | LocalMethod::ListServices
            | LocalMethod::DescribeService { .. } => Cost::CALL,
            LocalMethod::Subscription { begin: false, .. } => Cost::NOTHING,
        }
    }
}

impl Wrong<'_> {
    pub fn reply(self, context: Context<'_>) -> Reply {
        Reply {
            id: self.id.map(|id| id.get().into()),
            answer: Answer::Refused(self.refusal),
            facts: None,
            request: context.request,
            session: None,
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
