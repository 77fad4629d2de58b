//! What the suites of clients and servers of different eras share: a gateway with the fixture behind it,
//! both endpoints with their names, and a client's answers to whatever it is asked.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tests::{Actor, Backend, McpClient, Registration, Settings, TestApp, Value, json};

/// An endpoint, and how it calls what the server `fix` has.
#[derive(Clone, Copy, Debug)]
pub enum Door {
    One,
    All,
}

pub const DOORS: [Door; 2] = [Door::One, Door::All];

impl Door {
    pub fn path(self) -> &'static str {
        match self {
            Door::One => "/mcp/s/fix",
            Door::All => "/mcp",
        }
    }

    /// The name of a tool or a prompt here.
    pub fn name(self, name: &str) -> String {
        match self {
            Door::One => name.to_owned(),
            Door::All => format!("fix__{name}"),
        }
    }

    pub fn uri(self, uri: &str) -> String {
        match self {
            Door::One => uri.to_owned(),
            Door::All => format!("fix+{uri}"),
        }
    }

    /// The params of a call without arguments.
    pub fn call(self, tool: &str) -> Value {
        json!({ "name": self.name(tool), "arguments": {} })
    }
}

/// A gateway with the fixture of one era behind it as `fix`.
pub struct Pair {
    pub app: TestApp,
    pub alice: Actor,
    log: PathBuf,
}

impl Pair {
    pub async fn start(backend: Backend, arguments: &[&str]) -> Pair {
        Self::start_with(backend, Settings::new(), arguments).await
    }

    pub async fn start_with(backend: Backend, settings: Settings, arguments: &[&str]) -> Pair {
        let app = TestApp::start(backend, settings).await;
        let log = app.path("fixture.log");
        let mut all = arguments.to_vec();
        let path = log.display().to_string();
        all.extend(["--log", &path]);
        app.as_operator().register(Registration::conformance("fix", &all)).await;
        let alice = app.as_agent("alice").await;
        Pair { app, alice, log }
    }

    pub fn modern(&self, door: Door, capabilities: Value) -> McpClient {
        McpClient::modern(&self.alice, door.path()).declaring(capabilities)
    }

    pub async fn legacy(&self, door: Door, version: &'static str, capabilities: Value) -> McpClient {
        McpClient::legacy(&self.alice, door.path(), version, capabilities).await
    }

    /// How many lines of the fixture's log have this in them.
    pub fn logged(&self, what: &str) -> usize {
        logged(&self.log, what)
    }

    /// Waits for at least so many lines of the fixture's log.
    pub async fn until_logged(&self, what: &str, count: usize) {
        let until = Instant::now() + Duration::from_secs(15);
        while self.logged(what) < count {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            assert!(Instant::now() < until, "{count} times {what} in the fixture's log:\n{log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

pub fn logged(log: &Path, what: &str) -> usize {
    std::fs::read_to_string(log).unwrap_or_default().lines().filter(|line| line.contains(what)).count()
}

/// What a willing client answers to a question, of either era.
pub fn replied(question: &Value) -> Value {
    match question["method"].as_str() {
        Some("elicitation/create") if question["params"]["mode"] == "url" => json!({ "action": "accept" }),
        Some("elicitation/create") => {
            let properties = question["params"]["requestedSchema"]["properties"].as_object();
            let value = |schema: &Value| match schema["type"].as_str() {
                Some("boolean") => json!(true),
                Some("integer" | "number") => json!(7),
                Some("array") => json!([]),
                _ => json!("Ada"),
            };
            let content: Value = properties
                .into_iter()
                .flatten()
                .map(|(name, schema)| (name.clone(), value(schema)))
                .collect();
            json!({ "action": "accept", "content": content })
        }
        Some("sampling/createMessage") => {
            json!({ "role": "assistant", "model": "m", "content": { "type": "text", "text": "Paris" } })
        }
        Some("roots/list") => json!({ "roots": [{ "uri": "file:///home/ada", "name": "home" }] }),
        other => panic!("nobody asks this: {other:?}"),
    }
}

/// A modern client's rounds until there is a result: it, and the questions of each round.
pub async fn in_rounds(client: &McpClient, method: &str, params: &Value) -> (Value, Vec<Value>) {
    let (mut again, mut asked) = (params.clone(), Vec::new());
    while asked.len() < 8 {
        let result = client.result(method, again.clone()).await;
        if result["resultType"] != "input_required" {
            return (result, asked);
        }
        again = next_round(params, &result);
        asked.push(result["inputRequests"].clone());
    }
    panic!("asked without an end: {asked:?}");
}

/// The same request with the answers to what its result asks.
pub fn next_round(params: &Value, result: &Value) -> Value {
    let mut again = params.clone();
    let questions = result["inputRequests"].as_object().cloned().unwrap_or_default();
    assert!(!questions.is_empty() || result["requestState"].is_string(), "there is a next round: {result}");
    let replies: Value = questions.iter().map(|(key, question)| (key.clone(), replied(question))).collect();
    again["inputResponses"] = replies;
    if !result["requestState"].is_null() {
        again["requestState"] = result["requestState"].clone();
    }
    again
}

/// The texts of a result, in one.
pub fn text_of(result: &Value) -> String {
    result["content"][0]["text"].as_str().unwrap_or_default().to_owned()
}
