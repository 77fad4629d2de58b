//! Hostile arguments of tools, derived from their input schemas, so that no parameter is left out: each must
//! be an error of the tool that names the parameter.

use std::sync::Arc;

use framework::testing::{call, request};
use protocol::provider::ToolProvider;
use serde_json::{Value, json};

/// Calls every tool with each of its parameters wrong in turn. `fitting` has arguments that fit, by tool.
pub async fn refuses_hostile_arguments(provider: &Arc<dyn ToolProvider>, fitting: &Value) {
    let listed = request(provider, "tools/list", json!({})).await.expect("a list");
    let tools = listed["tools"].as_array().expect("tools");
    assert_eq!(
        tools.len(),
        fitting.as_object().expect("an object").len(),
        "every tool has fitting arguments"
    );
    for tool in tools {
        let name = tool["name"].as_str().expect("a name");
        let fits = &fitting[name];
        let schema = &tool["inputSchema"];
        let properties = schema["properties"].as_object().expect("properties");
        for (parameter, shape) in properties {
            assert!(shape["description"].is_string(), "{name}: `{parameter}` has no description");
            for wrong in wrong_values(shape) {
                let mut arguments = fits.clone();
                arguments[parameter] = wrong.clone();
                refused(provider, name, parameter, arguments).await;
            }
        }
        for required in schema["required"].as_array().into_iter().flatten() {
            let parameter = required.as_str().expect("a name");
            let mut arguments = fits.clone();
            arguments.as_object_mut().expect("an object").remove(parameter);
            refused(provider, name, parameter, arguments).await;
        }
        let mut arguments = fits.clone();
        arguments["unknownParameter"] = json!(1);
        refused(provider, name, "unknownParameter", arguments).await;
    }
}

async fn refused(provider: &Arc<dyn ToolProvider>, tool: &str, parameter: &str, arguments: Value) {
    let shown: String = arguments.to_string().chars().take(200).collect();
    let result = call(provider, tool, arguments).await.expect("a result, and no JSON-RPC error");
    let text = result["content"][0]["text"].as_str().expect("a text");
    assert!(result["isError"] == true && text.contains(&format!("`{parameter}")), "{tool} {shown}: {text}");
    assert!(text.len() < 20_000, "{tool} {shown}: a text of {} bytes", text.len());
}

/// Returns values that a schema must refuse. A string, number or array without bounds fails here.
fn wrong_values(shape: &Value) -> Vec<Value> {
    let types: Vec<&str> = match &shape["type"] {
        Value::String(one) => vec![one],
        Value::Array(some) => some.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let mut wrong = vec![json!({ "a": [1] })];
    if !types.contains(&"array") {
        wrong.push(json!([]));
    }
    if !types.contains(&"boolean") {
        wrong.push(json!(true));
    }
    if types.contains(&"string") || shape["enum"].is_array() || shape["anyOf"].is_array() {
        wrong.extend([
            json!("x".repeat(2_000_000)),
            json!("a\u{0}b"),
            json!("a\u{1b}b\r\nX-Header: 1"),
            json!(5),
        ]);
    } else {
        wrong.push(json!("text"));
    }
    if types.contains(&"integer") || types.contains(&"number") {
        wrong.extend([json!(-1), json!(1e300), json!(u64::MAX), json!("1")]);
    }
    if types.contains(&"integer") {
        wrong.push(json!(1.5));
    }
    if types.contains(&"array") {
        wrong.push(Value::Array(vec![json!(1); 100_000]));
    }
    wrong
}
