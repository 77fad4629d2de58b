//! One request while it is worked on: what it brought, what may be said meanwhile, and how it can end.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::era::Era;
use crate::seal;
use crate::server::Server;

pub struct Call {
    pub server: Arc<Server>,
    pub era: Era,
    /// As it was written, so that it goes back as it came.
    pub id: String,
    pub method: String,
    pub params: Value,
    /// The params as they were written.
    pub raw: String,
    /// What the client declared: in its handshake, or in this request.
    pub capabilities: Value,
    pub cancellation: Arc<Cancellation>,
}

/// A result, or another way to end.
pub type Outcome = Result<Value, Detour>;

pub enum Detour {
    Fault(Fault),
    /// A result that says what went wrong.
    ToolError(String),
    InputRequired(Value),
    /// The text of a result that must arrive as it is.
    Raw(String),
    /// No answer: the request was cancelled, or it is a stream.
    Silent,
}

/// A JSON-RPC error.
pub struct Fault {
    pub code: i64,
    pub message: String,
    pub data: Option<Value>,
}

impl Fault {
    pub fn new(code: i64, message: impl Into<String>) -> Fault {
        Fault { code, message: message.into(), data: None }
    }

    pub fn with(mut self, data: Value) -> Fault {
        self.data = Some(data);
        self
    }

    /// The client did not declare what this request needs.
    pub fn missing(capabilities: Value) -> Fault {
        let data = json!({ "requiredCapabilities": capabilities });
        Fault::new(-32021, "the client has not declared what this needs").with(data)
    }
}

impl From<Fault> for Detour {
    fn from(fault: Fault) -> Detour {
        Detour::Fault(fault)
    }
}

const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

pub fn rank(level: &str) -> Option<usize> {
    LEVELS.iter().position(|known| *known == level)
}

impl Call {
    pub fn argument(&self, name: &str) -> &Value {
        &self.params["arguments"][name]
    }

    pub fn text_argument(&self, name: &str, otherwise: &str) -> String {
        self.argument(name).as_str().unwrap_or(otherwise).to_owned()
    }

    /// What this server put into the `requestState` that came back, null without one.
    pub fn kept(&self) -> Result<Value, Fault> {
        match &self.params["requestState"] {
            Value::Null => Ok(Value::Null),
            state => {
                let opened = state.as_str().and_then(|state| seal::open(&self.name(), state));
                opened.ok_or_else(|| Fault::new(-32602, "requestState was not sealed here for this"))
            }
        }
    }

    /// The tool, prompt or resource that is asked for.
    pub fn name(&self) -> String {
        let name = self.params["name"].as_str().or(self.params["uri"].as_str());
        name.unwrap_or_default().to_owned()
    }

    /// A log message, if somebody wants one of this level.
    pub fn log(&self, level: &str, text: &str) {
        let wanted = match self.era {
            Era::Legacy => Some(*self.server.level.lock().expect("nobody panics with the level")),
            Era::Modern => self.params["_meta"]["io.modelcontextprotocol/logLevel"].as_str().and_then(rank),
        };
        if wanted.is_some_and(|wanted| rank(level) >= Some(wanted)) {
            let params = json!({ "level": level, "logger": "fixture", "data": text });
            self.server.notify("notifications/message", params);
        }
    }

    /// Progress, if this request brought a token for it.
    pub fn progress(&self, progress: u32, total: u32) {
        let token = &self.params["_meta"]["progressToken"];
        if !token.is_null() {
            let params = json!({ "progressToken": token, "progress": progress, "total": total });
            self.server.notify("notifications/progress", params);
        }
    }

    /// Waits, unless the request is cancelled meanwhile.
    pub fn wait(&self, at_most: Duration) -> Result<(), Detour> {
        if self.cancellation.wait(at_most) { Err(Detour::Silent) } else { Ok(()) }
    }
}

/// Whether a request was cancelled, and a way to wait for it.
#[derive(Default)]
pub struct Cancellation {
    cancelled: Mutex<bool>,
    changed: Condvar,
}

impl Cancellation {
    pub fn cancel(&self) {
        *self.cancelled.lock().expect("nobody panics with the flag") = true;
        self.changed.notify_all();
    }

    /// True as soon as it is cancelled, false after the time.
    pub fn wait(&self, at_most: Duration) -> bool {
        let flag = self.cancelled.lock().expect("nobody panics with the flag");
        let waited = self.changed.wait_timeout_while(flag, at_most, |cancelled| !*cancelled);
        *waited.expect("nobody panics with the flag").0
    }
}
