//! An MCP client on the wire, of either era, for what no well-behaved client does: it writes requests as
//! it is told, reads answers frame by frame, and goes away when the trial says so. Knows no type of MCP.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use reqwest::Method;
use serde_json::{Value, json};

use crate::actor::Actor;
use crate::exchange::Exchange;

pub const LEGACY: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
pub const MODERN: &str = "2026-07-28";
pub const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";
const CLIENT_KEY: &str = "io.modelcontextprotocol/clientInfo";

/// All that a client can declare to be asked for.
pub fn everything() -> Value {
    json!({ "sampling": {}, "elicitation": { "form": {}, "url": {} }, "roots": { "listChanged": true } })
}

/// One client at one endpoint.
#[derive(Clone)]
pub struct McpClient {
    pub actor: Actor,
    pub path: String,
    pub version: &'static str,
    pub capabilities: Value,
    /// Only a legacy client has one.
    pub session: Option<String>,
    next: Arc<AtomicU64>,
}

impl McpClient {
    /// A client of 2026-07-28.
    pub fn modern(actor: &Actor, path: &str) -> McpClient {
        McpClient {
            actor: actor.clone(),
            path: path.to_owned(),
            version: MODERN,
            capabilities: json!({}),
            session: None,
            next: Arc::new(AtomicU64::new(0)),
        }
    }

    /// A client of an earlier revision, with its handshake done.
    pub async fn legacy(actor: &Actor, path: &str, version: &'static str, capabilities: Value) -> McpClient {
        let mut client = Self::modern(actor, path).speaking(version).declaring(capabilities);
        client.initialize().await;
        client
    }

    /// The same client of another revision, without a handshake.
    pub fn speaking(&self, version: &'static str) -> McpClient {
        McpClient { version, session: None, ..self.clone() }
    }

    /// The same client with other capabilities in its next requests.
    pub fn declaring(&self, capabilities: Value) -> McpClient {
        McpClient { capabilities, ..self.clone() }
    }

    /// The same client, session and all, sent by another actor.
    pub fn by(&self, actor: &Actor) -> McpClient {
        McpClient { actor: actor.clone(), ..self.clone() }
    }

    pub fn is_modern(&self) -> bool {
        self.version == MODERN
    }

    /// The handshake; its result.
    pub async fn initialize(&mut self) -> Value {
        let params = json!({
            "protocolVersion": self.version,
            "capabilities": self.capabilities,
            "clientInfo": { "name": "trial", "version": "1" },
        });
        let mut answer = self.send(&self.request("initialize", params)).await;
        let result = answer.result().await;
        self.session = answer.header("mcp-session-id").map(str::to_owned);
        assert!(self.session.is_some(), "initialize gives a session: {answer:?}");
        self.notify("notifications/initialized", json!({})).await;
        result
    }

    /// A request as this client writes it.
    pub fn request(&self, method: &str, params: Value) -> Value {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": self.params(params) })
    }

    /// Params with what a modern request says of its client.
    pub fn params(&self, mut params: Value) -> Value {
        if self.is_modern() {
            params["_meta"][VERSION_KEY] = json!(MODERN);
            params["_meta"][CAPABILITIES_KEY] = self.capabilities.clone();
            params["_meta"][CLIENT_KEY] = json!({ "name": "trial", "version": "1" });
        }
        params
    }

    /// Sends a request; the answer is not read yet.
    pub async fn open(&self, method: &str, params: Value) -> Exchange {
        self.send(&self.request(method, params)).await
    }

    pub async fn send(&self, message: &Value) -> Exchange {
        self.send_text(message, &message.to_string()).await
    }

    /// Sends a text, with the headers that belong to the message it is.
    pub async fn send_text(&self, message: &Value, text: &str) -> Exchange {
        let mut headers = self.headers();
        if self.is_modern() {
            headers.extend(mirrored(message));
        }
        self.exchange(Method::POST, &headers, message["id"].clone(), Some(text.to_owned())).await
    }

    /// The result of a request, whatever is said meanwhile.
    pub async fn result(&self, method: &str, params: Value) -> Value {
        self.open(method, params).await.result().await
    }

    /// The error of a request.
    pub async fn error(&self, method: &str, params: Value) -> Value {
        self.open(method, params).await.error().await
    }

    /// Calls a tool without arguments.
    pub async fn call(&self, tool: &str) -> Exchange {
        self.open("tools/call", json!({ "name": tool, "arguments": {} })).await
    }

    /// Sends a notification, which must be accepted.
    pub async fn notify(&self, method: &str, params: Value) {
        let message = json!({ "jsonrpc": "2.0", "method": method, "params": self.params(params) });
        let sent = self.send(&message).await;
        assert_eq!(sent.status, 202, "a notification is accepted: {sent:?}");
    }

    /// Answers a request of the server, which must be accepted.
    pub async fn reply(&self, request: &Value, result: Value) {
        let message = json!({ "jsonrpc": "2.0", "id": request["id"], "result": result });
        let sent = self.send(&message).await;
        assert_eq!(sent.status, 202, "a reply is accepted: {sent:?}");
    }

    /// Reads what the session is told outside requests, from an event on if one is named.
    pub async fn listen(&self, last_event: Option<&str>) -> Exchange {
        let mut headers = self.headers();
        headers.retain(|(name, _)| name != "content-type" && name != "accept");
        headers.push(("accept".to_owned(), "text/event-stream".to_owned()));
        headers.extend(last_event.map(|id| ("last-event-id".to_owned(), id.to_owned())));
        self.exchange(Method::GET, &headers, Value::Null, None).await
    }

    /// Ends the session.
    pub async fn delete(&self) -> Exchange {
        self.exchange(Method::DELETE, &self.headers(), Value::Null, None).await
    }

    /// The headers of every message of this client.
    pub fn headers(&self) -> Vec<(String, String)> {
        let mut headers = vec![
            ("content-type".to_owned(), "application/json".to_owned()),
            ("accept".to_owned(), "application/json, text/event-stream".to_owned()),
        ];
        // Earlier revisions did not have this header, and nobody has it before the handshake.
        if self.is_modern() || self.session.is_some() && self.version >= "2025-06-18" {
            headers.push(("mcp-protocol-version".to_owned(), self.version.to_owned()));
        }
        headers.extend(self.session.iter().map(|id| ("mcp-session-id".to_owned(), id.clone())));
        headers
    }

    /// Sends exactly this.
    pub async fn exchange(
        &self,
        method: Method,
        headers: &[(String, String)],
        id: Value,
        body: Option<String>,
    ) -> Exchange {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let sent = format!("{method} {} {headers:?} {}", self.path, body.as_deref().unwrap_or_default());
        match self.actor.open(method, &self.path, &headers, body.map(String::into_bytes)).await {
            Ok(response) => Exchange::new(sent, id, response),
            Err(error) => panic!("{error}"),
        }
    }
}

/// `Mcp-Method` and `Mcp-Name`.
pub fn mirrored(message: &Value) -> Vec<(String, String)> {
    let Some(method) = message["method"].as_str() else { return Vec::new() };
    let params = &message["params"];
    let name = match method {
        "tools/call" | "prompts/get" => params["name"].as_str(),
        "resources/read" => params["uri"].as_str(),
        "tasks/get" | "tasks/update" | "tasks/cancel" => params["taskId"].as_str(),
        _ => None,
    };
    let mut headers = vec![("mcp-method".to_owned(), method.to_owned())];
    headers.extend(name.map(|name| ("mcp-name".to_owned(), encoded(name))));
    headers
}

fn encoded(value: &str) -> String {
    let plain = value.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && value.trim() == value
        && !(value.starts_with("=?base64?") && value.ends_with("?="));
    if plain {
        return value.to_owned();
    }
    format!("=?base64?{}?=", base64::engine::general_purpose::STANDARD.encode(value))
}
