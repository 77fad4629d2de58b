//! The tool that shows whether anything was lost on the way: what it was given goes back as it was
//! written, and so does what it was told to put beside it.

use std::collections::BTreeMap;

use serde_json::json;
use serde_json::value::RawValue;

use crate::call::{Call, Detour, Outcome};
use crate::era::Era;
use crate::methods;

/// Members that mean something, in params or in a result, and are not copied.
const MEANT: [&str; 14] = [
    "name",
    "arguments",
    "_meta",
    "inputResponses",
    "requestState",
    "task",
    "content",
    "structuredContent",
    "isError",
    "resultType",
    "taskId",
    "ttlMs",
    "cacheScope",
    "inputRequests",
];

/// All params in `structuredContent`; unknown members of params beside it; `x.example/echo` of their
/// `_meta` in the `_meta` of the result.
pub fn anything(call: &Call) -> Outcome {
    let params: BTreeMap<&str, &RawValue> = serde_json::from_str(&call.raw).unwrap_or_default();
    let mut meta = Vec::new();
    let given: BTreeMap<&str, &RawValue> =
        params.get("_meta").and_then(|meta| serde_json::from_str(meta.get()).ok()).unwrap_or_default();
    if let Some(echo) = given.get("x.example/echo") {
        meta.push(format!(r#""x.example/echo":{echo}"#));
    }
    let mut members = vec![
        r#""content":[{"type":"text","text":"everything","x.example/kept":1.0}]"#.to_owned(),
        format!(r#""structuredContent":{}"#, call.raw),
    ];
    for (name, value) in params.iter().filter(|(name, _)| !MEANT.contains(name)) {
        members.push(format!("{}:{value}", json!(name)));
    }
    if call.era == Era::Modern {
        members.push(r#""resultType":"complete""#.to_owned());
        meta.push(format!(r#""io.modelcontextprotocol/serverInfo":{}"#, methods::info()));
    }
    members.push(format!(r#""_meta":{{{}}}"#, meta.join(",")));
    Err(Detour::Raw(format!("{{{}}}", members.join(","))))
}
