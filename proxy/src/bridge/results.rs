//! Results translated to the other era (rows 3 and 18): members are added or removed, all others stay byte
//! for byte.

use bytes::Bytes;
use protocol::Members;
use protocol::mcp::{Era, meta, method};
use protocol::members::raw;
use serde_json::value::RawValue;

use super::Sealer;
use crate::catalog::ListKind;
use crate::splice::may_have;

/// Member with the kind of a result (2026-07-28, basic).
pub const RESULT_TYPE: &str = "resultType";
/// Kind of a result that asks the client for input.
pub const INPUT_REQUIRED: &str = "input_required";

/// Cache hints of legacy results: not cacheable. Lists are filtered by policy, and the same address is
/// another server for another tenant.
const CACHE: [(&str, &str); 2] = [("ttlMs", "0"), ("cacheScope", r#""private""#)];

/// Returns true if results of a method carry cache hints (2026-07-28, server/utilities/caching).
pub fn is_cacheable(asked: &str) -> bool {
    matches!(
        asked,
        method::DISCOVER
            | method::TOOLS_LIST
            | method::PROMPTS_LIST
            | method::RESOURCES_LIST
            | method::RESOURCE_TEMPLATES_LIST
            | method::RESOURCES_READ
    )
}

/// Translates a legacy result for a modern client.
pub fn to_modern(asked: &str, result: Bytes, server: Option<&RawValue>) -> Bytes {
    let result = if asked == method::TOOLS_LIST { without_tasks(result) } else { result };
    let mut added: Vec<(&str, String)> = vec![(RESULT_TYPE, r#""complete""#.to_owned())];
    if is_cacheable(asked) {
        added.extend(CACHE.map(|(name, value)| (name, value.to_owned())));
    }
    let info = server.map(|server| format!(r#"{{"{}":{}}}"#, meta::SERVER_INFO, server.get()));
    let plain = |name: &str| !may_have(&result, name);
    if added.iter().all(|(name, _)| plain(name)) && (info.is_none() || plain("_meta")) {
        if let Some(info) = info {
            added.push(("_meta", info));
        }
        return in_front(&result, &added);
    }
    let Some(mut members) = read(&result) else { return result };
    for (name, value) in &added {
        members.or_insert(name, || raw(value.clone()));
    }
    if let Some(server) = server {
        members.edit("_meta", |about| about.or_insert(meta::SERVER_INFO, || server.to_owned()));
    }
    members.write().into()
}

/// Removes legacy tasks, which differ from the extension, from tools (row 13).
fn without_tasks(result: Bytes) -> Bytes {
    if !may_have(&result, "taskSupport") {
        return result;
    }
    let edited = || -> Option<String> {
        let mut members = read(&result)?;
        let tools: Vec<&RawValue> = serde_json::from_str(members.get("tools")?.get()).ok()?;
        let tools: Vec<String> =
            tools.into_iter().map(|tool| plain_tool(tool).unwrap_or_else(|| tool.get().into())).collect();
        let tools = raw(format!("[{}]", tools.join(",")));
        members.set("tools", tools);
        Some(members.write())
    };
    edited().map_or_else(|| result.clone(), Bytes::from)
}

/// Returns a tool without task support; `None` if unchanged.
pub fn plain_tool(tool: &RawValue) -> Option<String> {
    let mut members = Members::read(tool.get()).ok()?;
    let execution = members.get("execution")?.to_owned();
    let mut execution = Members::read(execution.get()).ok()?;
    execution.retain(|name| name != "taskSupport");
    match execution.is_empty() {
        true => members.retain(|name| name != "execution"),
        false => members.set("execution", execution.to_raw()),
    }
    Some(members.write())
}

/// Inserts members before all others, without parsing those.
fn in_front(result: &[u8], added: &[(&str, String)]) -> Bytes {
    let rest = result.trim_ascii().strip_prefix(b"{").unwrap_or(b"}");
    let mut out = Vec::with_capacity(rest.len() + 160);
    for (index, (name, value)) in added.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"{\"" } else { b",\"" });
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        out.extend_from_slice(value.as_bytes());
    }
    if rest.trim_ascii_start() != b"}" {
        out.push(b',');
    }
    out.extend_from_slice(rest);
    out.into()
}

/// Translates a modern result for a legacy client.
pub fn to_legacy(asked: &str, result: Bytes) -> Bytes {
    let known = |name: &str| may_have(&result, name);
    let has_meta = known(RESULT_TYPE) || known("ttlMs") || known("cacheScope") || known("_meta");
    let structured = asked == method::TOOLS_CALL && known("structuredContent");
    let schemas = asked == method::TOOLS_LIST && known("outputSchema");
    if !has_meta && !structured && !schemas {
        return result;
    }
    let Some(mut members) = read(&result) else { return result };
    members.retain(|name| !matches!(name, RESULT_TYPE | "ttlMs" | "cacheScope"));
    without_modern_meta(&mut members);
    // The legacy era allows objects only.
    let content = members.get("structuredContent").map(|content| content.get().to_owned());
    if let Some(content) = content.filter(|content| structured && !content.starts_with('{')) {
        members.set("structuredContent", raw(format!(r#"{{"result":{content}}}"#)));
    }
    if schemas {
        let tools = members.get("tools").map(without_odd_schemas);
        if let Some(Some(tools)) = tools {
            members.set("tools", tools);
        }
    }
    members.write().into()
}

/// Removes the keys of `_meta` that only the modern era has: legacy clients would show them to a model.
pub fn without_modern_meta(members: &mut Members<'_>) {
    if members.get("_meta").is_none() {
        return;
    }
    let mut is_empty = false;
    members.edit("_meta", |about| {
        about.retain(|name| !meta::MODERN.contains(&name));
        is_empty = about.is_empty();
    });
    if is_empty {
        members.retain(|name| name != "_meta");
    }
}

/// Removes output schemas that are not of objects from tools. Returns `None` if unchanged.
fn without_odd_schemas(tools: &RawValue) -> Option<Box<RawValue>> {
    let tools: Vec<&RawValue> = serde_json::from_str(tools.get()).ok()?;
    let tools: Vec<String> =
        tools.into_iter().map(|tool| legacy_tool(tool).unwrap_or_else(|| tool.get().into())).collect();
    Some(raw(format!("[{}]", tools.join(","))))
}

/// Returns a tool for a legacy client; `None` if unchanged.
pub fn legacy_tool(tool: &RawValue) -> Option<String> {
    if !may_have(tool.get().as_bytes(), "outputSchema") {
        return None;
    }
    let mut members = Members::read(tool.get()).ok()?;
    let schema: serde_json::Value = serde_json::from_str(members.get("outputSchema")?.get()).ok()?;
    if schema["type"] == "object" {
        return None;
    }
    members.retain(|name| name != "outputSchema");
    Some(members.write())
}

/// Translates an item of a merged list for an era; `None` if unchanged.
pub fn tool_for(client: Era, kind: ListKind, item: &str) -> Option<String> {
    if kind != ListKind::Tools {
        return None;
    }
    let has = |name| may_have(item.as_bytes(), name);
    let tool = |item| serde_json::from_str::<&RawValue>(item).ok();
    match client {
        Era::Legacy if has("outputSchema") => legacy_tool(tool(item)?),
        Era::Modern if has("taskSupport") => plain_tool(tool(item)?),
        Era::Legacy | Era::Modern => None,
    }
}

/// Makes public cache hints of a modern upstream private, since the same address is another server for
/// another tenant. `ttlMs` stays.
pub fn own(asked: &str, result: Bytes) -> Bytes {
    if !is_cacheable(asked) || !may_have(&result, "cacheScope") {
        return result;
    }
    let Some(mut members) = read(&result) else { return result };
    if members.get("cacheScope").is_some_and(|scope| scope.get() == r#""public""#) {
        members.set_text("cacheScope", "private");
    }
    members.write().into()
}

/// Seals the `requestState` of a modern upstream for the client.
pub fn seal_state(result: Bytes, sealer: &dyn Sealer) -> Bytes {
    if !may_have(&result, "requestState") {
        return result;
    }
    let Some(mut members) = read(&result) else { return result };
    let state =
        members.get("requestState").and_then(|state| serde_json::from_str::<String>(state.get()).ok());
    let Some(state) = state else { return result };
    members.set_text("requestState", &sealer.seal(&state));
    members.write().into()
}

/// Requests of an `input_required` result, and the state to repeat with the answers.
pub struct Asked<'a> {
    pub requests: Vec<(String, AskedOne<'a>)>,
    pub state: Option<String>,
}

#[derive(serde::Deserialize)]
pub struct AskedOne<'a> {
    pub method: String,
    #[serde(borrow)]
    pub params: Option<&'a RawValue>,
}

/// Reads an `input_required` result; `None` for any other.
pub fn asked(result: &[u8]) -> Option<Asked<'_>> {
    if !result.trim_ascii_start().starts_with(b"{") || !may_have(result, INPUT_REQUIRED) {
        return None;
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape<'a> {
        result_type: String,
        #[serde(borrow, default)]
        input_requests: std::collections::BTreeMap<String, AskedOne<'a>>,
        request_state: Option<String>,
    }
    let shape: Shape<'_> = serde_json::from_slice(result).ok()?;
    (shape.result_type == INPUT_REQUIRED)
        .then(|| Asked { requests: shape.input_requests.into_iter().collect(), state: shape.request_state })
}

fn read(result: &Bytes) -> Option<Members<'_>> {
    Members::from_slice(result).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modern(asked: &str, result: &'static str) -> String {
        let server = raw(r#"{"name":"s"}"#);
        let result = to_modern(asked, Bytes::from_static(result.as_bytes()), Some(&server));
        String::from_utf8(result.to_vec()).unwrap()
    }

    #[test]
    fn a_legacy_result_gets_what_is_missing_and_keeps_the_rest() {
        let info = r#""_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}}"#;
        assert_eq!(modern("tools/call", "{}"), format!(r#"{{"resultType":"complete",{info}}}"#));
        assert_eq!(
            modern("resources/read", r#" { "x": 1.0 }"#),
            format!(r#"{{"resultType":"complete","ttlMs":0,"cacheScope":"private",{info}, "x": 1.0 }}"#)
        );
        let kept = modern("tools/call", r#"{"_meta":{"a":1},"content":[]}"#);
        assert_eq!(
            kept,
            r#"{"_meta":{"a":1,"io.modelcontextprotocol/serverInfo":{"name":"s"}},"content":[],"resultType":"complete"}"#
        );
    }

    #[test]
    fn a_modern_result_loses_what_legacy_clients_do_not_know() {
        let legacy = |asked: &str, result: &'static str| {
            String::from_utf8(to_legacy(asked, Bytes::from_static(result.as_bytes())).to_vec()).unwrap()
        };
        assert_eq!(
            legacy(
                "resources/read",
                r#"{"resultType":"complete","ttlMs":3,"cacheScope":"public","contents":[ 1.0 ]}"#
            ),
            r#"{"contents":[ 1.0 ]}"#
        );
        assert_eq!(
            legacy("tools/call", r#"{"content":[],"structuredContent":[1]}"#),
            r#"{"content":[],"structuredContent":{"result":[1]}}"#
        );
        assert_eq!(
            legacy(
                "tools/list",
                r#"{"tools":[{"name":"a","outputSchema":{"type":"array"}},{"name":"b", "outputSchema":{"type":"object"}}]}"#
            ),
            r#"{"tools":[{"name":"a"},{"name":"b", "outputSchema":{"type":"object"}}]}"#
        );
        assert_eq!(legacy("tools/call", r#"{ "content" : [] }"#), r#"{ "content" : [] }"#);
    }

    #[test]
    fn names_with_escapes_are_the_same_names() {
        // Rules of the fuzz target `bridge`.
        assert!(
            modern("tools/call", r#"{"result\u0054ype":"task"}"#)
                .starts_with(r#"{"resultType":"task","_meta""#)
        );
        let legacy =
            to_legacy("tools/call", Bytes::from_static(br#"{"result\u0054ype":"complete","a":"\u00e9"}"#));
        assert_eq!(legacy, r#"{"a":"\u00e9"}"#);
        assert_eq!(modern("tools/call", "{ } "), modern("tools/call", "{}").replace("}}}", "}} }"));
        assert!(super::asked(br#"["input_required",{},"state"]"#).is_none());
    }
}
