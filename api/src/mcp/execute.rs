//! The method `mcp.execute`: a tool call by service and operation, as earlier gateways took it.

use std::borrow::Cow;

use bytes::Bytes;
use protocol::{Code, Members, Outcome, Refusal, slash};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::mcp::request::{
    Call, Request, Shape, Target, invalid_params, object, short_enough, string, unreadable_params,
};
use crate::mcp::response::{Answer, Facts};

/// Reads the parameters; unknown members are arguments too, as earlier gateways took them.
pub fn service<'a>(id: &'a RawValue, params: Option<&'a RawValue>) -> Result<Request<'a>, Refusal> {
    let members = Members::read(object(params)?).map_err(unreadable_params)?;
    let text = |name: &str| match members.get(name) {
        None => Err(invalid_params(format!("params.{name} is missing"))),
        Some(value) => match string(value).filter(|text| !text.is_empty()) {
            Some(text) => short_enough(name, &text).map(|()| Cow::Owned(text.into_owned())),
            None => Err(invalid_params(format!("params.{name} is a text"))),
        },
    };
    if let Some(command) = members.get("command") {
        if let Some((name, _)) = members.iter().find(|(name, _)| !["command", "_meta"].contains(name)) {
            return Err(invalid_params(format!("give either params.command or params.{name}")));
        }
        let line = string(command).ok_or_else(|| invalid_params("params.command is a text"))?;
        return Ok(Request::Call(of_command(Some(id), &line)?));
    }
    let service = text("service")?;
    let operation = text("operation")?;
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

/// Returns the call of a slash command.
pub fn of_command<'a>(id: Option<&'a RawValue>, line: &str) -> Result<Call<'a>, Refusal> {
    let line = slash::read(line).map_err(|mistake| {
        Refusal::new(Code::InvalidParams, format!("the command cannot be read {mistake}"))
            .hint("/mcp-SERVICE OPERATION VALUE… --OPTION=VALUE…")
    })?;
    let empty = Members::default().to_raw();
    let target = Target::Command(line);
    Ok(Call { target, shape: Shape::Service, ..Call::of_tool(id, Cow::Owned(empty)) })
}

/// Returns `{status, data, metadata}`: data is the structured content if there is one, else the text as JSON
/// or text, else the whole result. A tool error is an error here; without a text its `data` has the result.
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
        return Answer::Refused(match texts.is_empty() {
            true => Refusal::new(Code::ToolFailed, "the tool failed and gave no text").fact(
                "result",
                serde_json::from_str::<serde_json::Value>(whole.get()).unwrap_or_else(|_| whole.get().into()),
            ),
            false => Refusal::new(Code::ToolFailed, texts.join("\n")),
        });
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
