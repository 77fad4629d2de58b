//! The method table: the meaning of each method, and the place of its name in the parameters.

use std::borrow::Cow;

use memchr::memmem;
use protocol::jsonrpc::{Incoming, Message};
use protocol::mcp::method;
use protocol::{Code, Refusal, jsonrpc};
use proxy::bridge::Level;
use proxy::catalog::ListKind;
use proxy::route::Verb;
use proxy::splice;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::mcp::endpoint::Endpoint;
use crate::mcp::execute;
use crate::mcp::request::{
    Call, GatewayMethod, GatewayRequest, Invalid, List, Notification, Request, RequestBatch, RequestHead,
    Response, Shape, Target, invalid_params, kind_of, object, short_enough, string, unreadable_params,
};
use crate::pipeline::refused::Refused;
use crate::subscriptions::filter::{MAX_SUBSCRIPTIONS, SubscriptionFilter};

/// Reads a body.
pub fn read<'a>(endpoint: &Endpoint, body: &'a [u8], max_batch: usize) -> Result<RequestBatch<'a>, Refused> {
    match jsonrpc::parse(body, max_batch) {
        Ok(jsonrpc::Body::Single(incoming)) => {
            let (request, head) = message(incoming, endpoint);
            Ok(RequestBatch::One(request, Some(head)))
        }
        Ok(jsonrpc::Body::Batch(elements)) => {
            let read = |raw| match jsonrpc::parse_message(raw) {
                Ok(incoming) => message(incoming, endpoint).0,
                Err(malformed) => Request::Invalid(Invalid { id: malformed.id, refusal: malformed.refusal }),
            };
            Ok(RequestBatch::Batch(elements.into_iter().map(read).collect()))
        }
        Err(malformed) => {
            Err(Refused { id: malformed.id.map(|id| id.get().into()), ..Refused::from(malformed.refusal) })
        }
    }
}

/// Reads one message and its head.
fn message<'a>(incoming: Incoming<'a>, endpoint: &Endpoint) -> (Request<'a>, RequestHead<'a>) {
    match incoming {
        Incoming::Message(message) => {
            let id = message.id;
            match head(&message) {
                Ok(head) => (read_message(message, endpoint, head.meta), head),
                Err(refusal) => {
                    let (method, is_request) = (message.method, id.is_some());
                    let head = RequestHead { method, meta: None, name: None, is_request };
                    (Request::Invalid(Invalid { id, refusal }), head)
                }
            }
        }
        Incoming::Response(response) => {
            let outcome = response.outcome.map(RawValue::get).map_err(RawValue::get);
            let request = match endpoint {
                Endpoint::Plain => Request::Invalid(Invalid {
                    id: Some(response.id),
                    refusal: Refusal::new(
                        Code::InvalidRequest,
                        "this is a response; nothing here waits for one",
                    ),
                }),
                Endpoint::All | Endpoint::One(_) => Request::Response(Response { id: response.id, outcome }),
            };
            (request, RequestHead { method: "".into(), meta: None, name: None, is_request: false })
        }
    }
}

fn head<'a>(message: &Message<'a>) -> Result<RequestHead<'a>, Refusal> {
    let params = message.params.map(RawValue::get).filter(|params| params.starts_with('{'));
    let meta = match params {
        Some(params) => meta(params)?,
        None => None,
    };
    // Only a modern request has headers that repeat a name, and a modern request always has `_meta`.
    let name = match params.filter(|_| meta.is_some()) {
        Some(params) => name(&message.method, params)?,
        None => None,
    };
    Ok(RequestHead { method: message.method.clone(), meta, name, is_request: message.id.is_some() })
}

/// Returns the `_meta` of parameters. Most have none, and are not parsed. A name may be written with escapes;
/// a repeated one is refused, since two readers could take different ones.
fn meta(params: &str) -> Result<Option<&RawValue>, Refusal> {
    #[derive(Deserialize)]
    struct Meta<'a> {
        #[serde(borrow, rename = "_meta")]
        meta: Option<&'a RawValue>,
    }
    let bytes = params.as_bytes();
    if memmem::find(bytes, br#""_meta""#).is_none() && memmem::find(bytes, br"\u").is_none() {
        return Ok(None);
    }
    Ok(serde_json::from_str::<Meta<'_>>(params).map_err(unreadable_params)?.meta)
}

/// Returns the name that `Mcp-Name` repeats.
fn name<'a>(method: &str, params: &'a str) -> Result<Option<Cow<'a, str>>, Refusal> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Names<'a> {
        #[serde(borrow)]
        name: Option<&'a RawValue>,
        #[serde(borrow)]
        uri: Option<&'a RawValue>,
        #[serde(borrow)]
        task_id: Option<&'a RawValue>,
    }
    let names: Names<'a> = serde_json::from_str(params).map_err(unreadable_params)?;
    let raw = match method {
        method::TOOLS_CALL | method::PROMPTS_GET => names.name,
        method::RESOURCES_READ => names.uri,
        method::TASKS_GET | method::TASKS_UPDATE | method::TASKS_CANCEL => names.task_id,
        _ => None,
    };
    Ok(raw.and_then(string))
}

fn read_message<'a>(message: Message<'a>, endpoint: &Endpoint, meta: Option<&'a RawValue>) -> Request<'a> {
    let params = message.params;
    let Some(id) = message.id else {
        return Request::Notification(Notification { method: message.method, params });
    };
    let gateway = |method| Ok(Request::Gateway(GatewayRequest { id, method }));
    let has_meta = meta.is_some();
    let read = match message.method.as_ref() {
        method::TOOLS_CALL => call(id, Verb::CallTool, params, endpoint, has_meta),
        method::RESOURCES_READ => call(id, Verb::ReadResource, params, endpoint, has_meta),
        method::PROMPTS_GET => call(id, Verb::GetPrompt, params, endpoint, has_meta),
        method::COMPLETE => complete(id, params, endpoint, has_meta),
        method::TOOLS_LIST => list(id, ListKind::Tools, params, has_meta),
        method::RESOURCES_LIST => list(id, ListKind::Resources, params, has_meta),
        method::RESOURCE_TEMPLATES_LIST => list(id, ListKind::ResourceTemplates, params, has_meta),
        method::PROMPTS_LIST => list(id, ListKind::Prompts, params, has_meta),
        method::PING => gateway(GatewayMethod::Ping),
        method::INITIALIZE => initialize(id, params),
        method::DISCOVER => gateway(GatewayMethod::Discover),
        method::SET_LEVEL => set_level(id, params),
        method::SUBSCRIBE => subscription(id, params, true),
        method::UNSUBSCRIBE => subscription(id, params, false),
        method::LISTEN => listen(id, params),
        method::EXECUTE if *endpoint == Endpoint::Plain => execute::service(id, params),
        method::LIST_SERVICES if *endpoint == Endpoint::Plain => gateway(GatewayMethod::ListServices),
        method::DESCRIBE_SERVICE if *endpoint == Endpoint::Plain => describe(id, params),
        method::TASKS_GET | method::TASKS_UPDATE | method::TASKS_CANCEL | method::TASKS_RESULT => {
            task(id, message.method, params, has_meta)
        }
        // The list would show the tasks of all callers that share the server.
        method::TASKS_LIST => Err(Refusal::new(Code::MethodNotFound, "tasks are not listed here")
            .hint("keep the taskId that each call gave")),
        _ => pass(id, message.method, params, endpoint, has_meta),
    };
    read.unwrap_or_else(|refusal| Request::Invalid(Invalid { id: Some(id), refusal }))
}

fn call<'a>(
    id: &'a RawValue,
    verb: Verb,
    params: Option<&'a RawValue>,
    endpoint: &Endpoint,
    has_meta: bool,
) -> Result<Request<'a>, Refusal> {
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
    let named: Named<'a> = serde_json::from_str(params).map_err(unreadable_params)?;
    let (member, raw) = match verb {
        Verb::ReadResource => ("uri", named.uri),
        Verb::CallTool | Verb::GetPrompt | Verb::Complete | Verb::Pass => ("name", named.name),
    };
    let raw = raw.ok_or_else(|| invalid_params(format!("params.{member} is missing")))?;
    let name = string(raw).ok_or_else(|| invalid_params(format!("params.{member} is a string")))?;
    short_enough(member, &name)?;
    if let Some(arguments) = named.arguments.filter(|arguments| !arguments.get().starts_with('{')) {
        return Err(invalid_params(format!(
            "params.arguments is an object, not {}",
            kind_of(arguments.get())
        )));
    }
    let cut = splice::around(params, raw.get());
    Ok(Request::Call(Call {
        verb,
        target: target(endpoint, name),
        head: cut.head.into(),
        tail: cut.tail.into(),
        arguments: named.arguments.map(Cow::Borrowed),
        has_meta,
        ..Call::bare(id)
    }))
}

/// Returns the target: one server's own name, or a name of the whole catalog.
fn target<'a>(endpoint: &Endpoint, name: Cow<'a, str>) -> Target<'a> {
    match endpoint {
        Endpoint::One(slug) => Target::Direct { server: slug.clone(), name },
        Endpoint::All | Endpoint::Plain => Target::Exposed(name),
    }
}

fn complete<'a>(
    id: &'a RawValue,
    params: Option<&'a RawValue>,
    endpoint: &Endpoint,
    has_meta: bool,
) -> Result<Request<'a>, Refusal> {
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
    let complete: Complete<'a> = serde_json::from_str(params).map_err(unreadable_params)?;
    let raw = match complete.reference.kind.as_ref() {
        "ref/prompt" => {
            complete.reference.name.ok_or_else(|| invalid_params("params.ref.name is missing"))?
        }
        "ref/resource" => {
            complete.reference.uri.ok_or_else(|| invalid_params("params.ref.uri is missing"))?
        }
        _ => return Err(invalid_params("params.ref.type is `ref/prompt` or `ref/resource`")),
    };
    let name =
        string(raw).ok_or_else(|| invalid_params("params.ref names its prompt or resource by a string"))?;
    short_enough("ref", &name)?;
    let cut = splice::around(params, raw.get());
    Ok(Request::Call(Call {
        verb: Verb::Complete,
        target: target(endpoint, name),
        head: cut.head.into(),
        tail: cut.tail.into(),
        has_meta,
        ..Call::bare(id)
    }))
}

/// Passes an unknown method to the server of the endpoint.
fn pass<'a>(
    id: &'a RawValue,
    method: Cow<'a, str>,
    params: Option<&'a RawValue>,
    endpoint: &Endpoint,
    has_meta: bool,
) -> Result<Request<'a>, Refusal> {
    let Endpoint::One(slug) = endpoint else {
        let method: String = method.chars().take(100).collect();
        let hint = match endpoint {
            Endpoint::Plain => {
                "methods here: ping, tools/list, tools/call, resources/list, resources/templates/list, resources/read, prompts/list, prompts/get, completion/complete, mcp.listServices, mcp.describeService, mcp.execute"
            }
            _ => "a method of one server's own is taken at /mcp/s/{slug}",
        };
        return Err(Refusal::new(Code::MethodNotFound, format!("there is no method `{method}`")).hint(hint));
    };
    short_enough("method", &method)?;
    let of_servers = [method::SAMPLE, method::ELICIT, method::LIST_ROOTS];
    if method.starts_with(method::NOTIFICATIONS) || of_servers.contains(&&*method) {
        return Err(Refusal::new(Code::MethodNotFound, format!("`{method}` is no request of a client")));
    }
    Ok(Request::Call(Call {
        verb: Verb::Pass,
        method,
        target: Target::Direct { server: slug.clone(), name: "".into() },
        head: params.map_or("{}", RawValue::get).into(),
        has_meta,
        ..Call::bare(id)
    }))
}

/// Passes a task's method to the task's server.
fn task<'a>(
    id: &'a RawValue,
    method: Cow<'a, str>,
    params: Option<&'a RawValue>,
    has_meta: bool,
) -> Result<Request<'a>, Refusal> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Task<'a> {
        #[serde(borrow)]
        task_id: Option<&'a RawValue>,
    }
    let params = object(params)?;
    let task: Task<'a> = serde_json::from_str(params).map_err(unreadable_params)?;
    let task = task.task_id.and_then(string).ok_or_else(|| invalid_params("params.taskId is a string"))?;
    short_enough("taskId", &task)?;
    Ok(Request::Call(Call {
        verb: Verb::Pass,
        method,
        target: Target::Task(task),
        head: params.into(),
        has_meta,
        ..Call::bare(id)
    }))
}

fn list<'a>(
    id: &'a RawValue,
    kind: ListKind,
    params: Option<&'a RawValue>,
    has_meta: bool,
) -> Result<Request<'a>, Refusal> {
    #[derive(Deserialize)]
    struct Cursor<'a> {
        #[serde(borrow)]
        cursor: Option<Cow<'a, str>>,
    }
    let params = object(params)?;
    let cursor = serde_json::from_str::<Cursor<'a>>(params).map_err(unreadable_params)?.cursor;
    Ok(Request::List(List { id, kind, cursor, params, has_meta }))
}

fn initialize<'a>(id: &'a RawValue, params: Option<&'a RawValue>) -> Result<Request<'a>, Refusal> {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase")]
    struct Initialize<'a> {
        #[serde(borrow)]
        protocol_version: Option<Cow<'a, str>>,
        #[serde(borrow)]
        capabilities: Option<&'a RawValue>,
        #[serde(borrow)]
        client_info: Option<&'a RawValue>,
    }
    let read: Initialize<'a> = match params {
        Some(_) => serde_json::from_str(object(params)?).map_err(unreadable_params)?,
        None => Initialize::default(),
    };
    let object_of = |value: Option<&'a RawValue>| value.filter(|value| value.get().starts_with('{'));
    Ok(Request::Gateway(GatewayRequest {
        id,
        method: GatewayMethod::Initialize {
            version: read.protocol_version,
            capabilities: object_of(read.capabilities),
            info: object_of(read.client_info),
        },
    }))
}

fn set_level<'a>(id: &'a RawValue, params: Option<&'a RawValue>) -> Result<Request<'a>, Refusal> {
    #[derive(Deserialize)]
    struct SetLevel<'a> {
        #[serde(borrow)]
        level: Cow<'a, str>,
    }
    let params: SetLevel<'a> = serde_json::from_str(object(params)?).map_err(unreadable_params)?;
    let level = Level::parse(&params.level).ok_or_else(|| {
        let names = Level::ALL.map(Level::as_str).join(", ");
        invalid_params(format!("params.level is one of {names}"))
    })?;
    Ok(Request::Gateway(GatewayRequest { id, method: GatewayMethod::SetLevel { level } }))
}

fn subscription<'a>(
    id: &'a RawValue,
    params: Option<&'a RawValue>,
    begin: bool,
) -> Result<Request<'a>, Refusal> {
    #[derive(Deserialize)]
    struct Subscription<'a> {
        #[serde(borrow)]
        uri: Cow<'a, str>,
    }
    let params: Subscription<'a> = serde_json::from_str(object(params)?).map_err(unreadable_params)?;
    short_enough("uri", &params.uri)?;
    Ok(Request::Gateway(GatewayRequest {
        id,
        method: GatewayMethod::Subscription { uri: params.uri, begin },
    }))
}

fn listen<'a>(id: &'a RawValue, params: Option<&'a RawValue>) -> Result<Request<'a>, Refusal> {
    #[derive(Deserialize)]
    struct Listen {
        notifications: SubscriptionFilter,
    }
    let params: Listen = serde_json::from_str(object(params)?).map_err(unreadable_params)?;
    if params.notifications.resource_subscriptions.len() > MAX_SUBSCRIPTIONS {
        return Err(invalid_params(format!("at most {} resources can be subscribed to", MAX_SUBSCRIPTIONS)));
    }
    Ok(Request::Gateway(GatewayRequest { id, method: GatewayMethod::Listen(params.notifications) }))
}

fn describe<'a>(id: &'a RawValue, params: Option<&'a RawValue>) -> Result<Request<'a>, Refusal> {
    #[derive(Deserialize)]
    struct Describe<'a> {
        #[serde(borrow)]
        service: Cow<'a, str>,
    }
    let describe: Describe<'a> = serde_json::from_str(object(params)?).map_err(unreadable_params)?;
    Ok(Request::Gateway(GatewayRequest {
        id,
        method: GatewayMethod::DescribeService { service: describe.service },
    }))
}

impl<'a> Call<'a> {
    fn bare(id: &'a RawValue) -> Self {
        Self {
            id: Some(id),
            verb: Verb::Pass,
            method: "".into(),
            target: Target::Exposed("".into()),
            head: "".into(),
            tail: "".into(),
            arguments: None,
            has_meta: false,
            timeout: None,
            agent: None,
            shape: Shape::Plain,
        }
    }
}
