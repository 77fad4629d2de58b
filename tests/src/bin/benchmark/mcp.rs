//! The echo server's answers, the same over standard streams and over HTTP. Knows four methods and one
//! tool, and lists others on request; does not know who asks.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// The envelope of a request.
#[derive(Deserialize)]
pub struct Request<'a> {
    #[serde(borrow)]
    pub id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub method: Cow<'a, str>,
    #[serde(borrow)]
    pub params: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    arguments: Arguments<'a>,
}

#[derive(Deserialize)]
struct Arguments<'a> {
    #[serde(borrow)]
    text: &'a RawValue,
}

const INITIALIZED: &str = r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"benchmark-echo","version":"1"}}"#;

/// The result of a list.
pub const TOOLS: &str = r#"{"tools":[{"name":"echo","description":"Gives the text back.","inputSchema":{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}}]}"#;

/// Returns the result of a list of so many tools that differ in their names.
pub fn tools(count: usize) -> String {
    let tool = |number: usize| {
        format!(
            r#"{{"name":"tool_{number}","description":"Gives the text back, as number {number} of many that do.","inputSchema":{{"type":"object","properties":{{"text":{{"type":"string","description":"The text."}},"times":{{"type":"integer","minimum":1}}}},"required":["text"]}}}}"#
        )
    };
    format!(r#"{{"tools":[{}]}}"#, (0..count).map(tool).collect::<Vec<_>>().join(","))
}

/// Appends the answer to a message, with this result of a list; a notification has none.
pub fn answer(message: &[u8], tools: &str, out: &mut Vec<u8>) {
    let Ok(request) = serde_json::from_slice::<Request<'_>>(message) else {
        return error(out, "null", -32700, "this is no request");
    };
    let Some(id) = request.id.map(RawValue::get) else { return };
    match request.method.as_ref() {
        "tools/call" => match request.params.map(|params| serde_json::from_str::<Call<'_>>(params.get())) {
            Some(Ok(call)) if call.name == "echo" => {
                let text = call.arguments.text.get();
                result(out, id, &[r#"{"content":[{"type":"text","text":"#, text, r#"}],"isError":false}"#]);
            }
            _ => error(out, id, -32602, "the only tool is echo, with a text"),
        },
        "tools/list" => result(out, id, &[tools]),
        "initialize" => result(out, id, &[INITIALIZED]),
        "ping" => result(out, id, &["{}"]),
        _ => error(out, id, -32601, "no such method"),
    }
}

fn result(out: &mut Vec<u8>, id: &str, parts: &[&str]) {
    append(out, &[r#"{"jsonrpc":"2.0","id":"#, id, r#","result":"#]);
    append(out, parts);
    out.push(b'}');
}

fn error(out: &mut Vec<u8>, id: &str, code: i32, message: &str) {
    let code = code.to_string();
    append(
        out,
        &[r#"{"jsonrpc":"2.0","id":"#, id, r#","error":{"code":"#, &code, r#","message":""#, message],
    );
    append(out, &[r#""}}"#]);
}

/// Appends texts one after the other.
pub fn append(out: &mut Vec<u8>, parts: &[&str]) {
    out.reserve(parts.iter().map(|part| part.len() + 1).sum());
    parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
}
