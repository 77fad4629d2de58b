//! A pool with one remote server, and the shortest ways to ask it something.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use protocol::mcp::Era;
use protocol::{Code, Refusal, ServerId, TenantId};
use proxy::egress::{Egress, EgressSettings};
use proxy::pool::{Pool, PoolKey, PoolSettings};
use proxy::selected::Selected;
use proxy::server::{Launch, RemoteLaunch, ServerSpec};
use proxy::upstream::{ClientProfile, Listener, Params, ServerRequest, UpstreamAnswer, UpstreamRequest};
use serde_json::{Value, json};

pub struct App {
    pub pool: Pool,
    pub key: PoolKey,
    pub spec: Arc<ServerSpec>,
}

pub fn egress(allow: &[&str]) -> Egress {
    Egress::new(EgressSettings {
        connect_timeout: Duration::from_secs(2),
        timeout: Duration::from_millis(500),
        allow: allow.iter().map(|net| net.parse().unwrap()).collect(),
        trusted: Vec::new(),
        follow: true,
    })
}

pub fn remote(url: &str, headers: &[(&str, &str)]) -> RemoteLaunch {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    RemoteLaunch { url: url.to_owned(), headers: BTreeMap::from_iter(headers), trusted: false }
}

impl App {
    pub fn new(url: &str, era: Era) -> App {
        Self::with(Launch::Http(remote(url, &[("Authorization", "Bearer own")])), era, |_| {})
    }

    pub fn with(launch: Launch, era: Era, change: impl FnOnce(&mut PoolSettings)) -> App {
        let mut settings = PoolSettings::new(PathBuf::from("/none"), Vec::new());
        settings.backoff_base = Duration::from_millis(100);
        settings.egress = egress(&["127.0.0.0/8"]);
        change(&mut settings);
        let spec = ServerSpec {
            id: ServerId::new(),
            owner: None,
            slug: "remote".parse().unwrap(),
            name: "Remote".to_owned(),
            version: None,
            description: None,
            category: None,
            launch,
            variant: 0,
            revision: 1,
            enabled: true.into(),
            timeout: Duration::from_secs(10).into(),
            start_timeout: Duration::from_secs(5).into(),
            idle_timeout: Duration::from_secs(600).into(),
            max_concurrency: 0.into(),
            retries: 0.into(),
            era: None,
            found: None,
        };
        let key = PoolKey::shared(TenantId::new(), &spec, era);
        App { pool: Pool::new(settings, Vec::new()), key, spec: Arc::new(spec) }
    }

    /// Makes it the upstream of one client.
    pub fn introduce(&mut self, capabilities: Value, home: Option<Arc<dyn Listener>>) {
        self.key.owner = 7;
        let capabilities = serde_json::value::to_raw_value(&capabilities).unwrap();
        let client = serde_json::value::to_raw_value(&json!({ "name": "theirs", "version": "9" })).ok();
        self.pool
            .set_profile(&self.key, Arc::new(ClientProfile { capabilities, info: client, listener: home }));
    }

    pub async fn ask(&self, method: &str, params: Value) -> Result<UpstreamAnswer, Refusal> {
        self.ask_for(method, params, None, Duration::from_secs(5)).await
    }

    pub fn selected(&self) -> Selected {
        Selected::for_gateway(self.spec.clone(), self.key)
    }

    pub async fn ask_for(
        &self,
        method: &str,
        params: Value,
        listener: Option<&Arc<dyn Listener>>,
        within: Duration,
    ) -> Result<UpstreamAnswer, Refusal> {
        let params = params.to_string();
        let deadline = Instant::now() + within;
        let request = UpstreamRequest {
            listener,
            progress: listener.map(|_| 41),
            ..UpstreamRequest::new(method, Params::raw(params.as_bytes()), deadline)
        };
        Ok(self.pool.request(&self.selected(), request).await?.answer)
    }

    /// The text that the tool `x` answers with.
    pub async fn call(&self) -> Result<String, Refusal> {
        Ok(text(self.ask("tools/call", json!({ "name": "x" })).await?))
    }
}

pub fn text(answer: UpstreamAnswer) -> String {
    result(answer)["content"][0]["text"].as_str().unwrap().to_owned()
}

pub fn result(answer: UpstreamAnswer) -> Value {
    match answer {
        UpstreamAnswer::Result(result) => serde_json::from_slice(&result).unwrap(),
        UpstreamAnswer::Error(error) => panic!("{error:?}"),
    }
}

pub fn error(answer: UpstreamAnswer) -> Value {
    match answer {
        UpstreamAnswer::Error(error) => serde_json::from_slice(&error).unwrap(),
        UpstreamAnswer::Result(result) => panic!("{result:?}"),
    }
}

/// Keeps what it hears, and answers every question with its method.
#[derive(Default)]
pub struct Ears {
    pub heard: Mutex<Vec<(String, Value)>>,
    /// Questions are kept here instead of being answered.
    pub kept: Option<Mutex<Vec<ServerRequest>>>,
}

impl Ears {
    pub fn methods(&self) -> Vec<String> {
        self.heard.lock().iter().map(|(method, _)| method.clone()).collect()
    }
}

impl Listener for Ears {
    fn on_notification(&self, method: &str, params: Option<&str>) {
        let params = params.map_or(Value::Null, |params| serde_json::from_str(params).unwrap());
        self.heard.lock().push((method.to_owned(), params));
    }

    fn on_request(&self, question: ServerRequest) {
        let method = question.method.clone();
        self.heard.lock().push((method.clone(), Value::Null));
        match &self.kept {
            Some(kept) => kept.lock().push(question),
            None => question.answer(UpstreamAnswer::Result(json!({ "asked": method }).to_string().into())),
        }
    }
}

pub fn refused<T>(result: Result<T, Refusal>, code: Code, part: &str) -> Refusal {
    let refusal = result.err().expect("a refusal");
    assert_eq!(refusal.code, code, "{refusal}");
    assert!(refusal.reason.contains(part), "{refusal} does not say {part:?}");
    refusal
}

/// Waits until something is so, at most five seconds.
pub async fn until(what: &str, is_so: impl Fn() -> bool) {
    let patience = Instant::now() + Duration::from_secs(5);
    while !is_so() {
        assert!(Instant::now() < patience, "not within 5 s: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
