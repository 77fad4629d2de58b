//! The one list of tools: what each is called, says of itself, takes, and does.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::call::{Call, Fault, Outcome};
use crate::{asking, content, echo, rounds, signals, tasks};

struct Tool {
    name: &'static str,
    about: &'static str,
    takes: fn() -> Value,
    run: fn(&Call) -> Outcome,
}

const fn tool(
    name: &'static str,
    about: &'static str,
    takes: fn() -> Value,
    run: fn(&Call) -> Outcome,
) -> Tool {
    Tool { name, about, takes, run }
}

/// The first one must work without arguments: there are clients that try it.
#[rustfmt::skip]
const TOOLS: [Tool; 41] = [
    tool("test_simple_text", "Answers with one text", nothing, content::text),
    tool("test_image_content", "Answers with an image", nothing, content::image),
    tool("test_audio_content", "Answers with a sound", nothing, content::audio),
    tool("test_embedded_resource", "Answers with a resource", nothing, content::resource),
    tool("test_multiple_content_types", "Answers with text, image and resource", nothing, content::mixed),
    tool("test_error_handling", "Fails, as a tool does", nothing, content::failure),
    tool("json_schema_2020_12_tool", "Has a schema with all that JSON Schema 2020-12 knows", content::wide_schema, content::arguments),
    tool("test_header_param", "Has parameters that HTTP mirrors in headers", content::header_schema, content::arguments),
    tool("test_echo_anything", "Answers with its params, byte for byte", nothing, echo::anything),
    tool("test_tool_with_progress", "Tells its progress three times", nothing, signals::progress),
    tool("test_tool_with_logging", "Logs three messages", nothing, signals::logging),
    tool("test_logging_tool", "Logs one message", nothing, signals::log_once),
    tool("test_reconnection", "Takes a moment", nothing, signals::moment),
    tool("test_wait_for_cancel", "Waits up to 30 s to be cancelled", nothing, signals::wait_for_cancel),
    tool("test_trigger_tool_change", "Adds or removes a tool and says so", nothing, signals::change_tools),
    tool("test_trigger_prompt_change", "Adds or removes a prompt and says so", nothing, signals::change_prompts),
    tool("test_touch_watched", "Changes the watched resource and says so", nothing, signals::touch),
    tool("test_sampling", "Asks the client's model", || text("prompt"), asking::sampling),
    tool("test_elicitation", "Asks the user for two texts", || text("message"), asking::elicitation),
    tool("test_elicitation_sep1034_defaults", "Asks the user with defaults of all types", nothing, asking::defaults),
    tool("test_elicitation_sep1330_enums", "Asks the user to choose in all ways", nothing, asking::choices),
    tool("test_elicitation_url", "Sends the user to a page", nothing, asking::page),
    tool("test_legacy_url_error", "Refuses until the user has visited a page", nothing, asking::page_first),
    tool("test_list_roots", "Asks the client for its roots", nothing, asking::roots),
    tool("test_streaming_elicitation", "Asks the user, with progress before", nothing, asking::streaming),
    tool("test_missing_capability", "Needs a client with sampling, and does not use it", nothing, asking::needs_sampling),
    tool("test_input_required_result_elicitation", "Asks the user's name", nothing, rounds::elicitation),
    tool("test_input_required_result_sampling", "Asks the client's model a question", nothing, rounds::sampling),
    tool("test_input_required_result_list_roots", "Asks for the client's roots", nothing, asking::roots),
    tool("test_input_required_result_request_state", "Asks, and keeps something meanwhile", nothing, rounds::confirmed),
    tool("test_input_required_result_multiple_inputs", "Asks three things at once", nothing, rounds::three),
    tool("test_input_required_result_multi_round", "Asks twice, the second after the first", nothing, rounds::two_rounds),
    tool("test_input_required_result_tampered_state", "Refuses what it did not seal", nothing, rounds::confirmed),
    tool("test_input_required_result_capabilities", "Asks only what the client can answer", nothing, rounds::possible),
    tool("greet", "Greets", || text("name"), tasks::greet),
    tool("slow_compute", "Takes so many seconds, as a task where it can", tasks::seconds, tasks::slow_compute),
    tool("failing_job", "A task that fails, as a tool does", nothing, tasks::failing),
    tool("protocol_error_job", "A task that ends in an error", nothing, tasks::broken),
    tool("confirm_delete", "A task that asks one thing", || text("filename"), tasks::confirm),
    tool("multi_input", "A task that asks two things at once", nothing, tasks::two_inputs),
    tool("test_tool_with_task", "Asks first, and then is a task", nothing, tasks::ask_first),
];

const MORE: &str = "test_extra_tool";

pub fn list(call: &Call) -> Value {
    let all = TOOLS.iter().map(|one| (one.name, one.about, (one.takes)()));
    let more = call.server.more_tools.load(Ordering::Relaxed);
    let more = more.then(|| (MORE, "Comes and goes", nothing()));
    let idle = (1..=call.server.manner.tools).map(|number| format!("test_idle_{number:04}"));
    let idle = idle.map(|name| json!({ "name": name, "inputSchema": nothing() }));
    let tools: Vec<Value> = all
        .chain(more)
        .map(|(name, about, takes)| json!({ "name": name, "description": about, "inputSchema": takes }))
        .chain(idle)
        .collect();
    json!({ "tools": tools })
}

pub fn call(call: &Call) -> Outcome {
    let name = call.name();
    if name == MORE && call.server.more_tools.load(Ordering::Relaxed) {
        return Ok(content::say("here now"));
    }
    let tool = TOOLS.iter().find(|tool| tool.name == name);
    let tool = tool.ok_or_else(|| Fault::new(-32602, format!("no such tool: {name}")))?;
    (tool.run)(call)
}

fn nothing() -> Value {
    json!({ "type": "object" })
}

fn text(name: &str) -> Value {
    json!({ "type": "object", "properties": { name: { "type": "string" } }, "required": [name] })
}
