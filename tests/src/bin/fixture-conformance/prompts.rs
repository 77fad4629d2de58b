//! Prompts, and what their arguments complete to.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::call::{Call, Fault, Outcome};
use crate::content::{PNG, embedded};
use crate::question::Question;
use crate::rounds::given;

const WORDS: [&str; 4] = ["parade", "paris", "test-one", "test-two"];
const MORE: &str = "test_extra_prompt";

pub fn list(call: &Call) -> Value {
    let mut prompts = vec![
        prompt("test_simple_prompt", "A prompt without arguments", &[]),
        prompt("test_prompt_with_arguments", "A prompt with two arguments", &["arg1", "arg2"]),
        prompt("test_prompt_with_embedded_resource", "A prompt with a resource in it", &["resourceUri"]),
        prompt("test_prompt_with_image", "A prompt with an image in it", &[]),
        prompt("test_input_required_result_prompt", "A prompt that asks the user first", &[]),
    ];
    if call.server.more_prompts.load(Ordering::Relaxed) {
        prompts.push(prompt(MORE, "Comes and goes", &[]));
    }
    json!({ "prompts": prompts })
}

fn prompt(name: &str, about: &str, arguments: &[&str]) -> Value {
    let arguments: Vec<Value> = arguments
        .iter()
        .map(|name| json!({ "name": name, "description": "any text", "required": true }))
        .collect();
    json!({ "name": name, "description": about, "arguments": arguments })
}

pub fn get(call: &Call) -> Outcome {
    let messages = match call.name().as_str() {
        "test_simple_prompt" => vec![text("This is a simple prompt for testing.")],
        "test_prompt_with_arguments" => {
            let (one, two) = (required(call, "arg1")?, required(call, "arg2")?);
            vec![text(&format!("The arguments are arg1='{one}' and arg2='{two}'"))]
        }
        "test_prompt_with_embedded_resource" => {
            let uri = required(call, "resourceUri")?;
            vec![user(embedded(uri, "text/plain", "embedded in a prompt")), text("Read the resource above.")]
        }
        "test_prompt_with_image" => {
            let image = json!({ "type": "image", "data": PNG, "mimeType": "image/png" });
            vec![user(image), text("Look at the image above.")]
        }
        "test_input_required_result_prompt" => {
            let question = Question::text("user_context", "In which context?", "context");
            let replies = call.ask(&[question], None)?;
            vec![text(&format!("In the context of {}", given(&replies[0], "context")))]
        }
        MORE if call.server.more_prompts.load(Ordering::Relaxed) => vec![text("here now")],
        other => return Err(Fault::new(-32602, format!("no such prompt: {other}")).into()),
    };
    Ok(json!({ "messages": messages }))
}

fn required<'a>(call: &'a Call, name: &str) -> Result<&'a str, Fault> {
    call.argument(name).as_str().ok_or_else(|| Fault::new(-32602, format!("the argument {name} is missing")))
}

fn text(text: &str) -> Value {
    user(json!({ "type": "text", "text": text }))
}

fn user(content: Value) -> Value {
    json!({ "role": "user", "content": content })
}

pub fn complete(call: &Call) -> Value {
    let begun = call.params["argument"]["value"].as_str().unwrap_or_default();
    let known = call.params["ref"]["name"] == "test_prompt_with_arguments";
    let values: Vec<&str> = WORDS.into_iter().filter(|word| known && word.starts_with(begun)).collect();
    json!({ "completion": { "total": values.len(), "hasMore": false, "values": values } })
}
