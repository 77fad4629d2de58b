//! Resources, the one template, and the resource that is watched.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::call::{Call, Fault, Outcome};
use crate::content::PNG;
use crate::era::Era;

pub const WATCHED: &str = "test://watched-resource";

pub fn list() -> Value {
    let resource = |uri: &str, name: &str, about: &str, kind: &str| json!({ "uri": uri, "name": name, "description": about, "mimeType": kind });
    json!({ "resources": [
        resource("test://static-text", "static-text", "A text that never changes", "text/plain"),
        resource("test://static-binary", "static-binary", "An image that never changes", "image/png"),
        resource(WATCHED, "watched-resource", "Says how often it was touched", "text/plain"),
    ] })
}

pub fn templates() -> Value {
    json!({ "resourceTemplates": [{
        "uriTemplate": "test://template/{id}/data",
        "name": "template",
        "description": "Says which id it was read with",
        "mimeType": "application/json",
    }] })
}

pub fn read(call: &Call) -> Outcome {
    let uri = call.name();
    let content = match uri.as_str() {
        "test://static-text" => text(&uri, "text/plain", "This text never changes."),
        "test://static-binary" => json!({ "uri": uri, "mimeType": "image/png", "blob": PNG }),
        WATCHED => {
            let times = call.server.touched.load(Ordering::Relaxed);
            text(&uri, "text/plain", &format!("touched {times} times"))
        }
        other => match other.strip_prefix("test://template/").and_then(|rest| rest.strip_suffix("/data")) {
            Some(id) => text(other, "application/json", &json!({ "id": id }).to_string()),
            None => return Err(not_found(call, other).into()),
        },
    };
    Ok(json!({ "contents": [content] }))
}

fn text(uri: &str, kind: &str, text: &str) -> Value {
    json!({ "uri": uri, "mimeType": kind, "text": text })
}

/// The legacy era had a code of its own for it.
fn not_found(call: &Call, uri: &str) -> Fault {
    let code = match call.era {
        Era::Legacy => -32002,
        Era::Modern => -32602,
    };
    Fault::new(code, "no such resource").with(json!({ "uri": uri }))
}

pub fn subscribe(call: &Call, begins: bool) -> Outcome {
    let uri = call.name();
    let mut watched = call.server.watched.lock().expect("nobody panics with the URIs");
    if begins {
        watched.insert(uri);
    } else {
        watched.remove(&uri);
    }
    Ok(json!({}))
}
