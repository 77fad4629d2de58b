//! Calls whose parameters are put together here: `mcp.execute` and `POST /v1/mcp/execute`.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use protocol::{Code, Members, Outcome, Refusal};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::config::MAX_MILLIS;
use crate::mcp::request::{
    Call, Request, RequestBatch, Shape, Target, invalid_params, object, short_enough, string,
    unreadable_params,
};
use crate::mcp::response::{Answer, Facts};
use crate::rest::describe::AgentSlug;

/// One call.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({"server": "calculator", "tool": "add", "arguments": {"a": 2, "b": 3}}))]
pub struct Execute<'a> {
    /// The server's slug or id.
    #[serde(borrow)]
    server: Cow<'a, str>,
    /// The server's own name of the tool.
    #[serde(borrow)]
    tool: Cow<'a, str>,
    #[serde(borrow)]
    #[schema(value_type = Option<Object>)]
    arguments: Option<&'a RawValue>,
    /// Who calls, of a caller without an agent of its own.
    #[serde(borrow)]
    #[schema(value_type = Option<AgentSlug>)]
    agent_id: Option<Cow<'a, str>>,
    /// Less than the time-out that is set, when the caller wants less.
    #[schema(minimum = 1, maximum = 86_400_000)]
    timeout_ms: Option<u64>,
}

/// Reads the body of `POST /v1/mcp/execute`.
pub fn read(body: &[u8]) -> Result<RequestBatch<'_>, Refusal> {
    let execute: Execute<'_> = serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => {
            Refusal::new(Code::ValidationFailed, format!("the body cannot be read: {error}"))
                .hint("{server, tool, arguments, agentId?, timeoutMs?}")
        }
        _ => Refusal::new(Code::ParseError, format!("the body is not JSON: {error}")),
    })?;
    short_enough("tool", &execute.tool)?;
    let arguments = match execute.arguments {
        None => Cow::Owned(serde_json::value::to_raw_value(&serde_json::Map::new()).expect("a map is JSON")),
        Some(arguments) if arguments.get().starts_with('{') => Cow::Borrowed(arguments),
        Some(_) => return Err(Refusal::new(Code::ValidationFailed, "arguments is an object")),
    };
    if let Some(timeout) = execute.timeout_ms.filter(|timeout| !(1..=MAX_MILLIS).contains(timeout)) {
        let reason = format!("timeoutMs is a whole number from 1 to {MAX_MILLIS}, not {timeout}");
        return Err(Refusal::new(Code::ValidationFailed, reason));
    }
    let call = Call {
        target: Target::Own { server: execute.server, name: execute.tool },
        timeout: execute.timeout_ms.map(Duration::from_millis),
        agent: execute.agent_id,
        ..Call::of_tool(None, arguments)
    };
    Ok(RequestBatch::One(Request::Call(call), None))
}

/// `mcp.execute`: members beside the known ones are parameters too, as earlier gateways took them.
pub fn service<'a>(id: &'a RawValue, params: Option<&'a RawValue>) -> Result<Request<'a>, Refusal> {
    let members = Members::read(object(params)?).map_err(unreadable_params)?;
    let text = |name: &str| match members.get(name) {
        None => Err(invalid_params(format!("params.{name} is missing"))),
        Some(value) => match string(value).filter(|text| !text.is_empty()) {
            Some(text) => short_enough(name, &text).map(|()| Cow::Owned(text.into_owned())),
            None => Err(invalid_params(format!("params.{name} is a text"))),
        },
    };
    let service = text("service")?;
    let operation = text("operation")?;
    if members.get("command").is_some() {
        return Err(invalid_params("params.command is not taken yet; give service, operation and params"));
    }
    let mut arguments = match members.get("params").map(RawValue::get) {
        None | Some("null") => Members::default(),
        Some(inner) if inner.starts_with('{') => Members::read(inner).map_err(unreadable_params)?,
        Some(_) => return Err(invalid_params("params.params is an object")),
    };
    let beside =
        || members.iter().filter(|(name, _)| !["service", "operation", "params", "_meta"].contains(name));
    if let Some((name, _)) = beside().find(|(name, _)| arguments.get(name).is_some()) {
        return Err(invalid_params(format!(
            "`{name}` stands both beside params and in it; which one counts?"
        )));
    }
    for (name, value) in beside() {
        arguments.set(name, value.to_owned());
    }
    let arguments = arguments.to_raw();
    Ok(Request::Call(Call {
        target: Target::Operation { service, operation },
        shape: Shape::Service,
        ..Call::of_tool(Some(id), Cow::Owned(arguments))
    }))
}

/// `{status, data, metadata}`: data is the structured content where there is one, else the text as
/// JSON or text, else the whole result. A tool error is an error here.
pub fn service_answer(result: &Bytes, facts: &Facts) -> Answer {
    #[derive(Deserialize)]
    struct ToolResult<'a> {
        #[serde(borrow, rename = "structuredContent")]
        structured: Option<&'a RawValue>,
        #[serde(borrow)]
        content: Option<Vec<&'a RawValue>>,
    }
    #[derive(Deserialize)]
    struct Block {
        text: String,
    }
    let whole: &RawValue = match serde_json::from_slice(result) {
        Ok(whole) => whole,
        Err(error) => {
            return Answer::Refused(Refusal::new(
                Code::UpstreamFailed,
                format!("the answer is not JSON: {error}"),
            ));
        }
    };
    let read: Option<ToolResult<'_>> = serde_json::from_str(whole.get()).ok();
    let texts: Vec<String> = read
        .iter()
        .flat_map(|read| read.content.iter().flatten())
        .filter_map(|block| serde_json::from_str::<Block>(block.get()).ok())
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
