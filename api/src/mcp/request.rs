//! Requests and notifications of MCP clients, read as far as the gateway must. Parameters are cut around the
//! name in them and otherwise stay as they were written.

use std::borrow::Cow;
use std::future::Future;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use protocol::mcp::method;
use protocol::slash::Line;
use protocol::{Code, Refusal, Slug, jsonrpc};
use proxy::bridge::Level;
use proxy::catalog::ListKind;
use proxy::route::Verb;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::mcp::context::Context;
use crate::mcp::response::{Answer, Replies, Reply};
use crate::pipeline::limits::Cost;
use crate::pipeline::refused::Refused;
use crate::subscriptions::filter::SubscriptionFilter;

/// Most messages of one batch that are served at the same time.
const BATCH_AT_ONCE: usize = 16;

/// One message or a batch.
#[expect(clippy::large_enum_variant, reason = "one is the usual case, and is worth no allocation")]
pub enum RequestBatch<'a> {
    One(Request<'a>, Option<RequestHead<'a>>),
    Batch(Vec<Request<'a>>),
}

/// Method, name and `_meta` of a single message, which headers repeat.
#[derive(Debug)]
pub struct RequestHead<'a> {
    pub method: Cow<'a, str>,
    pub meta: Option<&'a RawValue>,
    /// The name, URI or task id in the parameters of a modern message.
    pub name: Option<Cow<'a, str>>,
    pub is_request: bool,
}

/// One message.
pub enum Request<'a> {
    Call(Call<'a>),
    List(List<'a>),
    Gateway(GatewayRequest<'a>),
    /// A notification, which has no answer.
    Notification(Notification<'a>),
    /// The client's response to a server request.
    Response(Response<'a>),
    /// An invalid message, with the error to answer.
    Invalid(Invalid<'a>),
}

pub struct List<'a> {
    pub id: &'a RawValue,
    pub kind: ListKind,
    pub cursor: Option<Cow<'a, str>>,
    pub params: &'a str,
    pub has_meta: bool,
}

pub struct GatewayRequest<'a> {
    pub id: &'a RawValue,
    pub method: GatewayMethod<'a>,
}

/// A method that the gateway answers itself.
pub enum GatewayMethod<'a> {
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
    Listen(SubscriptionFilter),
    ListServices,
    DescribeService {
        service: Cow<'a, str>,
    },
}

pub struct Notification<'a> {
    pub method: Cow<'a, str>,
    pub params: Option<&'a RawValue>,
}

pub struct Response<'a> {
    pub id: &'a RawValue,
    pub outcome: Result<&'a str, &'a str>,
}

pub struct Invalid<'a> {
    pub id: Option<&'a RawValue>,
    pub refusal: Refusal,
}

/// A call to an upstream.
pub struct Call<'a> {
    pub id: Option<&'a RawValue>,
    pub verb: Verb,
    /// The method of [`Verb::Pass`].
    pub method: Cow<'a, str>,
    pub target: Target<'a>,
    /// The parameters before and after the place of the name; all of them where there is none.
    pub head: Cow<'a, str>,
    pub tail: Cow<'a, str>,
    /// The arguments for the record.
    pub arguments: Option<Cow<'a, RawValue>>,
    /// True if the parameters have a `_meta`.
    pub has_meta: bool,
    /// A shorter time-out than the policy's.
    pub timeout: Option<Duration>,
    /// The agent that the body names, where a body can.
    pub agent: Option<Cow<'a, str>>,
    pub shape: Shape,
}

/// The called tool, resource or prompt, as the caller named it.
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
    /// The server's own name, passed on without a lookup.
    Direct {
        server: Slug,
        name: Cow<'a, str>,
    },
    /// The server that has this task.
    Task(Cow<'a, str>),
    /// The tool that a slash command names; it is bound before the call.
    Command(Line),
}

/// The form of the answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The upstream's result as it is.
    Plain,
    /// `{status, data, metadata}`, of `mcp.execute`.
    Service,
}

impl<'a> RequestBatch<'a> {
    /// Returns the cost against the caller's rate limits.
    pub fn cost(&self) -> Cost {
        match self {
            RequestBatch::One(request, _) => request.cost(),
            RequestBatch::Batch(requests) => requests.iter().map(Request::cost).sum(),
        }
    }

    /// Adds the id and kind of a request to its refusal.
    pub fn refuse(requests: &Result<Self, Refused>, refused: Refused) -> Refused {
        match requests {
            Ok(requests) => Refused { is_tool_call: requests.is_tool_call(), ..refused.under(requests.id()) },
            Err(unread) => refused.under(unread.id.clone()),
        }
    }

    pub fn is_tool_call(&self) -> bool {
        matches!(self, RequestBatch::One(Request::Call(call), _) if call.verb == Verb::CallTool)
    }

    pub fn head(&self) -> Option<&RequestHead<'a>> {
        match self {
            RequestBatch::One(_, head) => head.as_ref(),
            RequestBatch::Batch(_) => None,
        }
    }

    /// Returns the id of a single request, to refuse it under.
    pub fn id(&self) -> Option<String> {
        match self {
            RequestBatch::One(request, _) => request.id().map(|id| id.get().to_owned()),
            RequestBatch::Batch(_) => None,
        }
    }

    pub fn agent(&self) -> Option<&str> {
        match self {
            RequestBatch::One(Request::Call(call), _) => call.agent.as_deref(),
            RequestBatch::One(..) | RequestBatch::Batch(_) => None,
        }
    }

    /// Serves the messages, some of them concurrently, and keeps their order.
    pub async fn each<F: Future<Output = Option<Reply>>>(
        self,
        mut serve: impl FnMut(Request<'a>) -> F,
    ) -> Replies {
        match self {
            RequestBatch::One(request, _) => Replies::One(serve(request).await),
            RequestBatch::Batch(requests) => {
                let serving: Vec<F> = requests.into_iter().map(serve).collect();
                let replies: Vec<Option<Reply>> =
                    stream::iter(serving).buffered(BATCH_AT_ONCE).collect().await;
                Replies::Many(replies.into_iter().flatten().collect())
            }
        }
    }
}

impl<'a> Request<'a> {
    fn cost(&self) -> Cost {
        match self {
            Request::Call(_) | Request::List(_) | Request::Invalid(_) => Cost::CALL,
            Request::Gateway(request) => request.method.cost(),
            Request::Notification(notification) if notification.method == method::CANCELLED => Cost::NOTHING,
            Request::Notification(_) | Request::Response(_) => Cost::UPKEEP,
        }
    }

    pub fn id(&self) -> Option<&'a RawValue> {
        match self {
            Request::Call(call) => call.id,
            Request::List(list) => Some(list.id),
            Request::Gateway(request) => Some(request.id),
            Request::Invalid(invalid) => invalid.id,
            Request::Notification(_) | Request::Response(_) => None,
        }
    }
}

impl GatewayMethod<'_> {
    fn cost(&self) -> Cost {
        match self {
            GatewayMethod::Ping
            | GatewayMethod::Initialize { .. }
            | GatewayMethod::Discover
            | GatewayMethod::SetLevel { .. }
            | GatewayMethod::Listen(_) => Cost::UPKEEP,
            GatewayMethod::Subscription { begin: true, .. }
            | GatewayMethod::ListServices
            | GatewayMethod::DescribeService { .. } => Cost::CALL,
            GatewayMethod::Subscription { begin: false, .. } => Cost::NOTHING,
        }
    }
}

impl Invalid<'_> {
    pub fn reply(self, context: Context<'_>) -> Reply {
        Reply::to(context, self.id, Answer::Refused(self.refusal))
    }
}

pub fn object(params: Option<&RawValue>) -> Result<&str, Refusal> {
    match params.map(RawValue::get) {
        None => Ok("{}"),
        Some(params) if params.starts_with('{') => Ok(params),
        Some(params) => {
            Err(invalid_params(format!("params is an object, not {}", jsonrpc::kind_of(params.as_bytes()))))
        }
    }
}

/// Most bytes of a name or URI, since the record keeps each.
const MAX_NAME: usize = 4096;

pub fn short_enough(member: &str, name: &str) -> Result<(), Refusal> {
    if name.len() <= MAX_NAME {
        return Ok(());
    }
    Err(invalid_params(format!("params.{member} has {} bytes; at most {MAX_NAME} are taken", name.len())))
}

pub fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(raw.get()).ok().map(|text| text.0)
}

/// A string that is borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

pub fn unreadable_params(error: serde_json::Error) -> Refusal {
    invalid_params(format!("params cannot be read: {error}"))
}

pub fn invalid_params(reason: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(Code::InvalidParams, reason)
}
