//! Who hears of changes: the legacy client of everything but resources it did not subscribe to, the
//! streams of the modern era of what each of them asked for.

use std::time::Duration;

use serde_json::{Value, json};

use crate::call::{Call, Detour, Fault, Outcome};
use crate::era::Era;
use crate::server::Server;

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// An open `subscriptions/listen`.
pub struct Listen {
    id: String,
    wants: Value,
}

pub enum Change {
    Tools,
    Prompts,
    Resources,
    Updated(String),
}

impl Change {
    fn method(&self) -> &'static str {
        match self {
            Change::Tools => "notifications/tools/list_changed",
            Change::Prompts => "notifications/prompts/list_changed",
            Change::Resources => "notifications/resources/list_changed",
            Change::Updated(_) => "notifications/resources/updated",
        }
    }

    fn params(&self) -> Value {
        match self {
            Change::Updated(uri) => json!({ "uri": uri }),
            Change::Tools | Change::Prompts | Change::Resources => json!({}),
        }
    }

    fn is_wanted(&self, wants: &Value) -> bool {
        match self {
            Change::Tools => wants["toolsListChanged"] == true,
            Change::Prompts => wants["promptsListChanged"] == true,
            Change::Resources => wants["resourcesListChanged"] == true,
            Change::Updated(uri) => wants["resourceSubscriptions"]
                .as_array()
                .is_some_and(|uris| uris.iter().any(|one| one == uri)),
        }
    }
}

/// Opens a stream: says what it will hear of, and keeps the request open.
pub fn begin(call: &Call) -> Outcome {
    let asked = call.params["notifications"].as_object();
    let asked = asked.ok_or_else(|| Fault::new(-32602, "params has no notifications"))?;
    let known = ["toolsListChanged", "promptsListChanged", "resourcesListChanged"];
    let wants: Value = asked
        .iter()
        .filter(|(name, wanted)| {
            known.contains(&name.as_str()) && **wanted == true
                || *name == "resourceSubscriptions" && wanted.is_array()
        })
        .map(|(name, wanted)| (name.clone(), wanted.clone()))
        .collect();
    let mut listens = call.server.listens.lock().expect("nobody panics with the streams");
    call.wait(Duration::ZERO)?;
    let listen = Listen { id: call.id.clone(), wants: wants.clone() };
    // With the lock held, so that nothing is announced before it.
    listen.tell(&call.server, "notifications/subscriptions/acknowledged", json!({ "notifications": wants }));
    listens.push(listen);
    Err(Detour::Silent)
}

impl Listen {
    fn tell(&self, server: &Server, method: &str, mut params: Value) {
        params["_meta"][SUBSCRIPTION] = serde_json::from_str(&self.id).expect("it was read before");
        server.notify(method, params);
    }
}

impl Server {
    /// Tells a change to whom it concerns.
    pub fn announce(&self, change: &Change) {
        for listen in self.listens.lock().expect("nobody panics with the streams").iter() {
            if change.is_wanted(&listen.wants) {
                listen.tell(self, change.method(), change.params());
            }
        }
        let legacy = *self.era.lock().expect("nobody panics with the era") == Some(Era::Legacy);
        let watched = match change {
            Change::Updated(uri) => self.watched.lock().expect("nobody panics with the URIs").contains(uri),
            Change::Tools | Change::Prompts | Change::Resources => true,
        };
        if legacy && watched {
            self.say(&notification(change));
        }
    }

    /// Whether there was such a stream.
    pub fn end_listen(&self, id: &str) -> bool {
        let mut listens = self.listens.lock().expect("nobody panics with the streams");
        let before = listens.len();
        listens.retain(|listen| listen.id != id);
        listens.len() < before
    }
}

/// Without params where there are none, as most servers of that era have it.
fn notification(change: &Change) -> String {
    match change {
        Change::Updated(_) => {
            json!({ "jsonrpc": "2.0", "method": change.method(), "params": change.params() }).to_string()
        }
        Change::Tools | Change::Prompts | Change::Resources => {
            json!({ "jsonrpc": "2.0", "method": change.method() }).to_string()
        }
    }
}
