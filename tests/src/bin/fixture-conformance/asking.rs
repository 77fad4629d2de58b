//! Tools that ask the client something, as the legacy era's scenarios have them; a modern client gets the
//! same questions in its result.

use serde_json::{Value, json};

use crate::call::{Call, Fault, Outcome};
use crate::content::say;
use crate::era::Era;
use crate::question::Question;

const PAGE: &str = "https://fixture.invalid/consent";

pub fn sampling(call: &Call) -> Outcome {
    let prompt = call.text_argument("prompt", "Say something");
    let replies = call.ask(&[Question::sample("reply", &prompt, 100)], None)?;
    Ok(say(&format!("the model says: {}", replies[0]["content"]["text"].as_str().unwrap_or_default())))
}

pub fn elicitation(call: &Call) -> Outcome {
    let schema = json!({
        "type": "object",
        "properties": {
            "username": { "type": "string", "description": "How the user is called" },
            "email": { "type": "string", "description": "Where mail reaches the user" },
        },
        "required": ["username", "email"],
    });
    form(call, &call.text_argument("message", "Who are you?"), schema)
}

pub fn defaults(call: &Call) -> Outcome {
    let schema = json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "default": "John Doe" },
            "age": { "type": "integer", "default": 30 },
            "score": { "type": "number", "default": 95.5 },
            "status": { "type": "string", "enum": ["active", "inactive", "pending"], "default": "active" },
            "verified": { "type": "boolean", "default": true },
        },
        "required": [],
    });
    form(call, "Please look over these values", schema)
}

pub fn choices(call: &Call) -> Outcome {
    let titled = || json!([{ "const": "n", "title": "North" }, { "const": "s", "title": "South" }]);
    let schema = json!({
        "type": "object",
        "properties": {
            "untitledSingle": { "type": "string", "enum": ["north", "south"] },
            "titledSingle": { "type": "string", "oneOf": titled() },
            "legacyEnum": { "type": "string", "enum": ["n", "s"], "enumNames": ["North", "South"] },
            "untitledMulti": { "type": "array", "items": { "type": "string", "enum": ["north", "south"] } },
            "titledMulti": { "type": "array", "items": { "anyOf": titled() } },
        },
        "required": [],
    });
    form(call, "Please choose", schema)
}

fn form(call: &Call, message: &str, schema: Value) -> Outcome {
    let replies = call.ask(&[Question::form("form", message, schema)], None)?;
    Ok(say(&format!("the user says {}: {}", replies[0]["action"], replies[0]["content"])))
}

pub fn page(call: &Call) -> Outcome {
    let id = format!("elicitation of {}", call.id);
    let replies = call.ask(&[Question::page(call, "page", PAGE, &id)], None)?;
    if call.era == Era::Legacy && replies[0]["action"] == "accept" {
        call.server.notify("notifications/elicitation/complete", json!({ "elicitationId": id }));
    }
    Ok(say(&format!("the user says {} to the page", replies[0]["action"])))
}

/// The legacy era had an error for it.
pub fn page_first(call: &Call) -> Outcome {
    if call.era == Era::Modern {
        return page(call);
    }
    let id = format!("elicitation of {}", call.id);
    let page =
        json!({ "mode": "url", "elicitationId": id, "url": PAGE, "message": "Please visit this page" });
    let fault = Fault::new(-32042, "the user must visit a page first");
    Err(fault.with(json!({ "elicitations": [page] })).into())
}

pub fn roots(call: &Call) -> Outcome {
    let replies = call.ask(&[Question::roots("roots")], None)?;
    let uris: Vec<&str> = replies[0]["roots"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|root| root["uri"].as_str())
        .collect();
    Ok(say(&format!("the roots are {}", uris.join(", "))))
}

pub fn streaming(call: &Call) -> Outcome {
    call.progress(1, 2);
    let replies = call.ask(&[Question::text("answer", "What comes next?", "next")], None)?;
    call.progress(2, 2);
    Ok(say(&format!("next comes {}", replies[0]["content"]["next"])))
}

pub fn needs_sampling(call: &Call) -> Outcome {
    if call.capabilities["sampling"].is_object() {
        return Ok(say("the client has sampling"));
    }
    match call.era {
        Era::Legacy => Err(crate::call::Detour::ToolError("the client has not declared sampling".to_owned())),
        Era::Modern => Err(Fault::missing(json!({ "sampling": {} })).into()),
    }
}
