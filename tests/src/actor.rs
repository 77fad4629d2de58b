//! Who acts on a gateway: the headers that prove it, and the requests anybody sends.

use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::answer::{Answer, shortened};
use crate::registration::{Registered, Registration};

/// Where the gateway listens now: another port after each start.
pub type Address = Arc<RwLock<String>>;

/// Somebody with the credentials they have, if any.
#[derive(Clone)]
pub struct Actor {
    client: reqwest::Client,
    address: Address,
    headers: Vec<(String, String)>,
}

impl Actor {
    pub fn new(client: reqwest::Client, address: Address) -> Actor {
        Actor { client, address, headers: Vec::new() }
    }

    /// The same with one header more; it replaces one of the same name.
    pub fn header(&self, name: &str, value: impl ToString) -> Actor {
        let mut other = self.clone();
        other.headers.retain(|(present, _)| !present.eq_ignore_ascii_case(name));
        other.headers.push((name.to_owned(), value.to_string()));
        other
    }

    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address.read().expect("nobody panics with the address"))
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send_json(Method::POST, path, body.to_string()).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send_json(Method::PATCH, path, body.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], None).await
    }

    pub async fn send_json(&self, method: Method, path: &str, body: String) -> Answer {
        let headers = [("content-type", "application/json"), ("accept", "application/json")];
        self.send(method, path, &headers, Some(body.into_bytes())).await
    }

    /// Sends exactly this; what does not come back in time fails the trial.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Answer {
        match self.try_send(method, path, headers, body).await {
            Ok(answer) => answer,
            Err(error) => panic!("{error}"),
        }
    }

    /// Sends exactly this; the error says what happened to the connection.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<Answer, String> {
        let begun = Instant::now();
        let sent = format!("{method} {path} {}", shortened(body.as_deref().unwrap_or_default()));
        let response = self.open(method, path, headers, body).await?;
        let failed = |error: reqwest::Error| format!("{sent}: no answer: {error:?}");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.map_err(failed)?.to_vec();
        Ok(Answer { sent, status, headers, body, took: begun.elapsed() })
    }

    /// Sends exactly this; the body of the answer is not read yet.
    pub async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<reqwest::Response, String> {
        let sent = format!("{method} {path} {}", shortened(body.as_deref().unwrap_or_default()));
        let mut request = self.client.request(method, self.url(path));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        request.send().await.map_err(|error| format!("{sent}: no answer: {error:?}"))
    }

    /// Sends a body to the JSON-RPC door as it is written.
    pub async fn rpc_text(&self, body: &str) -> Answer {
        self.send_json(Method::POST, "/mcp/rpc", body.to_owned()).await
    }

    /// One JSON-RPC request.
    pub async fn rpc(&self, method: &str, params: Value) -> Answer {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        self.rpc_text(&body.to_string()).await
    }

    /// Calls a tool by its exposed name.
    pub async fn call(&self, tool: &str, arguments: Value) -> Answer {
        self.rpc("tools/call", json!({ "name": tool, "arguments": arguments })).await
    }

    /// The exposed names of the tools this actor sees.
    pub async fn tool_names(&self) -> Vec<String> {
        let result = self.rpc("tools/list", json!({})).await.result();
        let tools = result["tools"].as_array().cloned().unwrap_or_default();
        tools.iter().filter_map(|tool| tool["name"].as_str().map(str::to_owned)).collect()
    }

    /// Registers a server; it must be accepted.
    pub async fn register(&self, registration: Registration) -> Registered {
        let answer = self.post("/v1/mcp/servers", registration.body()).await;
        let body = answer.json_of(201);
        let id = body["id"].as_str().unwrap_or_default().to_owned();
        answer.must(id.starts_with("srv_"), "a server's id starts with srv_");
        Registered { id, body }
    }

    /// Makes a key with `POST /v1/keys`; its secret and its id.
    pub async fn make_key(&self, body: Value) -> (String, String) {
        let answer = self.post("/v1/keys", body).await;
        let key = answer.json_of(201);
        let secret = key["secret"].as_str().unwrap_or_default().to_owned();
        answer.must(secret.starts_with("mcp_live_"), "the answer carries the secret once");
        (secret, key["id"].as_str().unwrap_or_default().to_owned())
    }

    /// The executions that match a query such as `tool=echo&limit=10`, newest first, all pages.
    pub async fn executions(&self, query: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/mcp/executions?{query}{cursor}");
            let page = self.get(&path).await.json_of(200);
            items.extend(page["items"].as_array().cloned().unwrap_or_default());
            match page["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return items,
            }
        }
    }

    /// Asks again and again until the answer is as wanted; fails with the last answer.
    pub async fn until(&self, path: &str, at_most: Duration, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let until = Instant::now() + at_most;
        loop {
            let answer = self.get(path).await;
            if wanted(&answer) {
                return answer;
            }
            answer.must(Instant::now() < until, &format!("this should have changed within {at_most:?}"));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
