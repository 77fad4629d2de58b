//! Parameters of MCP methods: each read into a request.

use std::borrow::Cow;

use protocol::mcp::method;
use protocol::{Code, Refusal, jsonrpc};
use proxy::bridge::Level;
use proxy::catalog::ListKind;
use proxy::route::Verb;
use proxy::splice;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::mcp::endpoint::Endpoint;
use crate::mcp::request::{
    Call, GatewayMethod, GatewayRequest, List, Request, Shape, Target, invalid_params, object, short_enough,
    string, unreadable_params,
};
use crate::subscriptions::filter::{MAX_SUBSCRIPTIONS, SubscriptionFilter};

pub fn call<'a>(
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
            jsonrpc::kind_of(arguments.get().as_bytes())
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
pub fn target<'a>(endpoint: &Endpoint, name: Cow<'a, str>) -> Target<'a> {
    match endpoint {
        Endpoint::One(slug) => Target::Direct { server: slug.clone(), name },
        Endpoint::All | Endpoint::Plain => Target::Exposed(name),
    }
}

pub fn complete<'a>(
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
pub fn pass<'a>(
    id: &'a RawValue,
    asked: Cow<'a, str>,
    params: Option<&'a RawValue>,
    endpoint: &Endpoint,
    has_meta: bool,
) -> Result<Request<'a>, Refusal> {
    let Endpoint::One(slug) = endpoint else {
        let asked: String = asked.chars().take(100).collect();
        let hint = match endpoint {
            Endpoint::Plain => {
                "methods here: ping, tools/list, tools/call, resources/list, resources/templates/list, resources/read, prompts/list, prompts/get, completion/complete, mcp.listServices, mcp.describeService, mcp.execute"
            }
            _ => "a method of one server's own is taken at /mcp/s/{slug}",
        };
        return Err(Refusal::new(Code::MethodNotFound, format!("there is no method `{asked}`")).hint(hint));
    };
    short_enough("method", &asked)?;
    let of_servers = [method::SAMPLE, method::ELICIT, method::LIST_ROOTS];
    if asked.starts_with(method::NOTIFICATIONS) || of_servers.contains(&&*asked) {
        return Err(Refusal::new(Code::MethodNotFound, format!("`{asked}` is no request of a client")));
    }
    Ok(Request::Call(Call {
        verb: Verb::Pass,
        method: asked,
        target: Target::Direct { server: slug.clone(), name: "".into() },
        head: params.map_or("{}", RawValue::get).into(),
        has_meta,
        ..Call::bare(id)
    }))
}

/// Passes a task's method to the task's server.
pub fn task<'a>(
    id: &'a RawValue,
    asked: Cow<'a, str>,
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
        method: asked,
        target: Target::Task(task),
        head: params.into(),
        has_meta,
        ..Call::bare(id)
    }))
}

pub fn list<'a>(
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

pub fn initialize<'a>(id: &'a RawValue, params: Option<&'a RawValue>) -> Result<Request<'a>, Refusal> {
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

pub fn set_level<'a>(id: &'a RawValue, params: Option<&'a RawValue>) -> Result<Request<'a>, Refusal> {
    #[derive(Deserialize)]
    struct SetLevel<'a> {
        #[serde(borrow)]
        level: Cow<'a, str>,
    }
    let asked: SetLevel<'a> = serde_json::from_str(object(params)?).map_err(unreadable_params)?;
    let level = Level::parse(&asked.level).ok_or_else(|| {
        let names = Level::ALL.map(Level::as_str).join(", ");
        invalid_params(format!("params.level is one of {names}"))
    })?;
    Ok(Request::Gateway(GatewayRequest { id, method: GatewayMethod::SetLevel { level } }))
}

pub fn subscription<'a>(
    id: &'a RawValue,
    params: Option<&'a RawValue>,
    begin: bool,
) -> Result<Request<'a>, Refusal> {
    #[derive(Deserialize)]
    struct Subscription<'a> {
        #[serde(borrow)]
        uri: Cow<'a, str>,
    }
    let asked: Subscription<'a> = serde_json::from_str(object(params)?).map_err(unreadable_params)?;
    short_enough("uri", &asked.uri)?;
    Ok(Request::Gateway(GatewayRequest { id, method: GatewayMethod::Subscription { uri: asked.uri, begin } }))
}

pub fn listen<'a>(id: &'a RawValue, params: Option<&'a RawValue>) -> Result<Request<'a>, Refusal> {
    #[derive(Deserialize)]
    struct Listen {
        notifications: SubscriptionFilter,
    }
    let asked: Listen = serde_json::from_str(object(params)?).map_err(unreadable_params)?;
    if asked.notifications.resource_subscriptions.len() > MAX_SUBSCRIPTIONS {
        return Err(invalid_params(format!("at most {MAX_SUBSCRIPTIONS} resources can be subscribed to")));
    }
    Ok(Request::Gateway(GatewayRequest { id, method: GatewayMethod::Listen(asked.notifications) }))
}

pub fn describe<'a>(id: &'a RawValue, params: Option<&'a RawValue>) -> Result<Request<'a>, Refusal> {
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
