//! The one list of methods, and the way of a message: read, admitted to an era, worked on in a thread of
//! its own, answered as that era has it.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::call::{Call, Detour, Fault, Outcome, rank};
use crate::era::{self, CAPABILITIES_KEY, Era, MODERN, Session};
use crate::listen::Change;
use crate::server::Server;
use crate::{listen, prompts, read, resources, tasks, tools};

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<String>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

/// Takes one line; what needs time goes on in a thread, so that the next line is read.
pub fn receive(server: &Arc<Server>, line: &[u8]) {
    if line.trim_ascii().is_empty() {
        return;
    }
    let message: Message<'_> = match serde_json::from_slice(line) {
        Ok(message) => message,
        Err(error) => return eprintln!("not a message: {error}: {}", String::from_utf8_lossy(line)),
    };
    let Some(method) = message.method else {
        return server.reply(serde_json::from_slice(line).expect("it was read before"));
    };
    let raw = message.params.map_or("{}", RawValue::get).to_owned();
    if server.manner.die_on_probe && method != "initialize" && server.session.lock().expect("whole").is_none()
    {
        eprintln!("{method} before initialize: this is the end");
        std::process::exit(1);
    }
    match message.id {
        None => hear(server, &method, &raw),
        Some(_) if server.manner.silent_on_probe && method == "server/discover" => {}
        Some(id) => begin(server, id.get().to_owned(), method, raw),
    }
}

/// A notification of the client.
fn hear(server: &Server, method: &str, raw: &str) {
    #[derive(Deserialize)]
    struct Cancelled<'a> {
        #[serde(borrow, rename = "requestId")]
        id: &'a RawValue,
    }
    if method == "notifications/cancelled"
        && let Ok(cancelled) = serde_json::from_str::<Cancelled<'_>>(raw)
    {
        server.cancel(cancelled.id.get());
    }
}

fn begin(server: &Arc<Server>, id: String, method: String, raw: String) {
    let params = read::as_far_as_possible(&raw);
    let era = match era::admit(server, &method, &params) {
        Ok(era) => era,
        Err(fault) => return server.say(&error(&id, &fault)),
    };
    // Before the next line is read: it may already rely on the handshake.
    if era == Era::Legacy && method == "initialize" {
        let capabilities = params["capabilities"].clone();
        *server.session.lock().expect("nobody panics with the session") = Some(Session { capabilities });
    }
    let capabilities = match era {
        Era::Legacy => session_capabilities(server),
        Era::Modern => params["_meta"][CAPABILITIES_KEY].clone(),
    };
    let cancellation = server.begin(&id);
    let server = server.clone();
    let call = Call { server, era, id, method, params, raw, capabilities, cancellation };
    std::thread::spawn(move || work(&call));
}

fn session_capabilities(server: &Server) -> Value {
    let session = server.session.lock().expect("nobody panics with the session");
    session.as_ref().map_or(Value::Null, |session| session.capabilities.clone())
}

fn work(call: &Call) {
    chat(call, "takes");
    let answer = match dispatch(call) {
        Ok(result) => Some(success(call, result)),
        Err(Detour::InputRequired(mut result)) => {
            result["resultType"] = json!("input_required");
            Some(success(call, result))
        }
        Err(Detour::ToolError(text)) if call.method == "tools/call" => {
            Some(success(call, json!({ "content": [{ "type": "text", "text": text }], "isError": true })))
        }
        Err(Detour::ToolError(text)) => Some(error(&call.id, &Fault::new(-32603, text))),
        Err(Detour::Fault(fault)) => Some(error(&call.id, &fault)),
        Err(Detour::Raw(result)) => {
            Some(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, call.id))
        }
        Err(Detour::Silent) => None,
    };
    if let Some(answer) = answer.filter(|_| !call.cancellation.wait(Duration::ZERO)) {
        call.server.say(&answer);
        chat(call, "answered");
    }
    call.server.end(&call.id);
}

fn dispatch(call: &Call) -> Outcome {
    if ["tools/call", "prompts/get", "resources/read"].contains(&call.method.as_str()) {
        call.wait(call.server.manner.slow)?;
        call.kept()?;
    }
    match (call.method.as_str(), call.era) {
        ("tools/list", _) => Ok(tools::list(call)),
        ("tools/call", _) => tools::call(call),
        ("prompts/list", _) => Ok(prompts::list(call)),
        ("prompts/get", _) => prompts::get(call),
        ("completion/complete", _) => Ok(prompts::complete(call)),
        ("resources/list", _) => Ok(resources::list()),
        ("resources/templates/list", _) => Ok(resources::templates()),
        ("resources/read", _) => resources::read(call),
        ("initialize", Era::Legacy) => Ok(initialize(call)),
        ("ping", Era::Legacy) => Ok(json!({})),
        ("logging/setLevel", Era::Legacy) => set_level(call),
        ("resources/subscribe", Era::Legacy) => resources::subscribe(call, true),
        ("resources/unsubscribe", Era::Legacy) => resources::subscribe(call, false),
        ("server/discover", Era::Modern) => Ok(discover()),
        ("subscriptions/listen", Era::Modern) => listen::begin(call),
        ("tasks/get", Era::Modern) => tasks::get(call),
        ("tasks/update", Era::Modern) => tasks::update(call),
        ("tasks/cancel", Era::Modern) => tasks::cancel(call),
        (other, _) => Err(Fault::new(-32601, format!("no such method: {other}")).into()),
    }
}

fn initialize(call: &Call) -> Value {
    json!({
        "protocolVersion": era::agreed(&call.params["protocolVersion"]),
        "capabilities": capabilities(),
        "serverInfo": info(),
        "instructions": INSTRUCTIONS,
    })
}

fn discover() -> Value {
    let mut capabilities = capabilities();
    capabilities["extensions"] = json!({ tasks::EXTENSION: {} });
    json!({ "supportedVersions": [MODERN], "capabilities": capabilities, "instructions": INSTRUCTIONS })
}

const INSTRUCTIONS: &str = "A fixture for trials: every tool says what it does.";

fn capabilities() -> Value {
    json!({
        "tools": { "listChanged": true },
        "prompts": { "listChanged": true },
        "resources": { "listChanged": true, "subscribe": true },
        "completions": {},
        "logging": {},
    })
}

pub fn info() -> Value {
    json!({ "name": "fixture-conformance", "version": "1.0.0" })
}

fn set_level(call: &Call) -> Outcome {
    let level = call.params["level"].as_str().and_then(rank);
    let level = level.ok_or_else(|| Fault::new(-32602, "no such level"))?;
    *call.server.level.lock().expect("nobody panics with the level") = level;
    Ok(json!({}))
}

/// Methods whose results say how long they may be kept, and by whom.
const KEPT: [(&str, &str); 6] = [
    ("server/discover", "public"),
    ("tools/list", "public"),
    ("prompts/list", "public"),
    ("resources/list", "public"),
    ("resources/templates/list", "public"),
    ("resources/read", "private"),
];

/// A result as the era of the call has it.
fn success(call: &Call, mut result: Value) -> String {
    if call.era == Era::Modern {
        if result["resultType"].is_null() {
            result["resultType"] = json!("complete");
        }
        result["_meta"]["io.modelcontextprotocol/serverInfo"] = info();
        let kept = KEPT.iter().find(|(method, _)| *method == call.method);
        if let (Some((_, scope)), true) = (kept, result["resultType"] == "complete") {
            result["ttlMs"] = json!(1000);
            result["cacheScope"] = json!(scope);
        }
    }
    format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, call.id)
}

fn error(id: &str, fault: &Fault) -> String {
    let mut error = json!({ "code": fault.code, "message": fault.message });
    if let Some(data) = &fault.data {
        error["data"] = data.clone();
    }
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)
}

/// Everything that a chatty server may say around an answer.
fn chat(call: &Call, does: &str) {
    if call.server.manner.chatty {
        eprintln!("it {does} {} {}", call.method, call.id);
        call.log("info", &format!("it {does} {}", call.method));
        for change in [Change::Tools, Change::Prompts, Change::Resources] {
            call.server.announce(&change);
        }
    }
}
