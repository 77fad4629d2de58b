//! Results that no client can read. A result is an object (MCP, "Responses", in every revision) whose
//! required members have the right type.

use std::borrow::Cow;
use std::collections::HashMap;

use protocol::jsonrpc::kind_of;
use protocol::mcp::method;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::bridge::results;

/// A member in the result of a method.
struct Promise {
    member: &'static str,
    opening: u8,
    needed: bool,
    /// True for an array of objects whose items nobody else checks.
    of_objects: bool,
}

fn promise(asked: &str) -> Option<Promise> {
    let array = |member, needed, of_objects| Some(Promise { member, opening: b'[', needed, of_objects });
    match asked {
        method::TOOLS_CALL => array("content", false, true),
        method::RESOURCES_READ => array("contents", true, true),
        method::PROMPTS_GET => array("messages", true, true),
        method::TOOLS_LIST => array("tools", true, false),
        method::PROMPTS_LIST => array("prompts", true, false),
        method::RESOURCES_LIST => array("resources", true, false),
        method::RESOURCE_TEMPLATES_LIST => array("resourceTemplates", true, false),
        method::COMPLETE => {
            Some(Promise { member: "completion", opening: b'{', needed: true, of_objects: false })
        }
        _ => None,
    }
}

/// Returns the fault of a result that no client can read. A result that begins with the expected member, as
/// usual, is not parsed.
pub fn fault_of_result(asked: &str, result: &[u8]) -> Option<String> {
    if !result.starts_with(b"{") {
        return Some(format!("its `result` is {}, not an object", kind_of(result)));
    }
    let promise = promise(asked)?;
    let first = result.strip_prefix(b"{\"").and_then(|rest| rest.strip_prefix(promise.member.as_bytes()));
    if asked != method::COMPLETE
        && let Some(value) = first.and_then(|rest| rest.strip_prefix(b"\":"))
        && value.starts_with(&[promise.opening])
    {
        return promise.fault_of_items(value);
    }
    // Names with half of a surrogate pair are JSON that cannot be read; their result passes unchecked.
    let members: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(result).ok()?;
    if let Some(kind) = members.get(results::RESULT_TYPE) {
        match kind.get() {
            r#""complete""# => {}
            r#""input_required""# if results::asked(result).is_none() => {
                return Some("its `inputRequests` are no object of requests".to_owned());
            }
            other if other.starts_with('"') => return None,
            other => return Some(format!("`resultType` in its result is {}", kind_of(other.as_bytes()))),
        }
    }
    match members.get(promise.member).map(|value| value.get().as_bytes()) {
        Some(value) if value.starts_with(&[promise.opening]) => promise.fault_of_items(value),
        Some(value) => Some(format!("`{}` in its result is {}", promise.member, kind_of(value))),
        // The task that a call became has other members (2025-11-25).
        None if promise.needed && !members.contains_key("task") => {
            Some(format!("its result has no `{}`", promise.member))
        }
        None => None,
    }
}

impl Promise {
    /// Checks only the first byte inside, which tells an array of strings from one of objects.
    fn fault_of_items(&self, value: &[u8]) -> Option<String> {
        if self.opening == b'{' {
            return fault_of_completion(value);
        }
        let first = value[1..].trim_ascii_start();
        let odd = self.of_objects && !matches!(first.first(), Some(b'{' | b']'));
        odd.then(|| format!("`{}` in its result begins with {}, not an object", self.member, kind_of(first)))
    }
}

fn fault_of_completion(completion: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Shape<'a> {
        #[serde(borrow)]
        values: Option<&'a RawValue>,
    }
    let shape: Shape<'_> = serde_json::from_slice(completion).ok()?;
    match shape.values.map(RawValue::get) {
        Some(values) if values.starts_with('[') => None,
        Some(values) => Some(format!("`values` in its completion is {}", kind_of(values.as_bytes()))),
        None => Some("its completion has no `values`".to_owned()),
    }
}
