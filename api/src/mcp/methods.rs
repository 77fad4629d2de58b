//! The method table: the meaning of each method, and the place of its name in the parameters.

use std::borrow::Cow;

use memchr::memmem;
use protocol::jsonrpc::{Incoming, Message};
use protocol::mcp::method;
use protocol::{Code, Refusal, jsonrpc};
use proxy::catalog::ListKind;
use proxy::route::Verb;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::mcp::endpoint::Endpoint;
use crate::mcp::execute;
use crate::mcp::params;
use crate::mcp::request::{
    GatewayMethod, GatewayRequest, Invalid, Notification, Request, RequestBatch, RequestHead, Response,
    string, unreadable_params,
};
use crate::pipeline::refused::Refused;

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
    let local = |method| Ok(Request::Gateway(GatewayRequest { id, method }));
    let has_meta = meta.is_some();
    let read = match message.method.as_ref() {
        method::TOOLS_CALL => params::call(id, Verb::CallTool, params, endpoint, has_meta),
        method::RESOURCES_READ => params::call(id, Verb::ReadResource, params, endpoint, has_meta),
        method::PROMPTS_GET => params::call(id, Verb::GetPrompt, params, endpoint, has_meta),
        method::COMPLETE => params::complete(id, params, endpoint, has_meta),
        method::TOOLS_LIST => params::list(id, ListKind::Tools, params, has_meta),
        method::RESOURCES_LIST => params::list(id, ListKind::Resources, params, has_meta),
        method::RESOURCE_TEMPLATES_LIST => params::list(id, ListKind::ResourceTemplates, params, has_meta),
        method::PROMPTS_LIST => params::list(id, ListKind::Prompts, params, has_meta),
        method::PING => local(GatewayMethod::Ping),
        method::INITIALIZE => params::initialize(id, params),
        method::DISCOVER => local(GatewayMethod::Discover),
        method::SET_LEVEL => params::set_level(id, params),
        method::SUBSCRIBE => params::subscription(id, params, true),
        method::UNSUBSCRIBE => params::subscription(id, params, false),
        method::LISTEN => params::listen(id, params),
        method::EXECUTE if *endpoint == Endpoint::Plain => execute::service(id, params),
        method::LIST_SERVICES if *endpoint == Endpoint::Plain => local(GatewayMethod::ListServices),
        method::DESCRIBE_SERVICE if *endpoint == Endpoint::Plain => params::describe(id, params),
        method::TASKS_GET | method::TASKS_UPDATE | method::TASKS_CANCEL | method::TASKS_RESULT => {
            params::task(id, message.method, params, has_meta)
        }
        // The list would show the tasks of all callers that share the server.
        method::TASKS_LIST => Err(Refusal::new(Code::MethodNotFound, "tasks are not listed here")
            .hint("keep the taskId that each call gave")),
        _ => params::pass(id, message.method, params, endpoint, has_meta),
    };
    read.unwrap_or_else(|refusal| Request::Invalid(Invalid { id: Some(id), refusal }))
}
